// Verify a log of ours with nothing but Go's own transparency log code (golang.org/x/mod/sumdb).
//
// Usage: verifier <folder of the log> <log's verifier key> <witness's verifier key> <receipt> <leaf> <add-checkpoint request>
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// cosigner verifies cosignature/v1, an algorithm that sumdb/note leaves to its users.
type cosigner struct {
	name   string
	hash   uint32
	public ed25519.PublicKey
}

func (c *cosigner) Name() string    { return c.name }
func (c *cosigner) KeyHash() uint32 { return c.hash }

func (c *cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(sig[:8]), msg)
	return ed25519.Verify(c.public, []byte(signed), sig[8:])
}

func newCosigner(vkey string) (*cosigner, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("no verifier key")
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 33 || key[0] != 4 {
		return nil, fmt.Errorf("no key for cosignatures")
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	hash := binary.BigEndian.Uint32(sum[:4])
	if want := fmt.Sprintf("%08x", hash); want != parts[1] {
		return nil, fmt.Errorf("the key id is %s, not %s", parts[1], want)
	}
	return &cosigner{parts[0], hash, key[1:]}, nil
}

// folder reads tiles where C2SP tlog-tiles puts them: sumdb has the height in the path, tlog-tiles has not.
type folder string

func (f folder) Height() int                                 { return 8 }
func (f folder) SaveTiles(tiles []tlog.Tile, data [][]byte) {}

func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data, err := os.ReadFile(filepath.Join(string(f), path))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func check(err error, what string) {
	if err != nil {
		log.Fatalf("%s: %v", what, err)
	}
}

func hashes(lines []string) []tlog.Hash {
	var found []tlog.Hash
	for _, line := range lines {
		hash, err := tlog.ParseHash(line)
		check(err, "hash")
		found = append(found, hash)
	}
	return found
}

// open returns the tree of a checkpoint, and how many of the known keys signed it.
func open(text []byte, known note.Verifiers) (tlog.Tree, int) {
	opened, err := note.Open(text, known)
	check(err, "note")
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err, "size")
	root, err := tlog.ParseHash(lines[2])
	check(err, "root")
	return tlog.Tree{N: size, Hash: root}, len(opened.Sigs)
}

func main() {
	log.SetFlags(0)
	root := folder(os.Args[1])
	operator, err := note.NewVerifier(os.Args[2])
	check(err, "log's key")
	witness, err := newCosigner(os.Args[3])
	check(err, "witness's key")
	known := note.VerifierList(operator, witness)

	receipt, err := os.ReadFile(os.Args[4])
	check(err, "receipt")
	leaf, err := os.ReadFile(os.Args[5])
	check(err, "leaf")
	parts := bytes.SplitN(receipt, []byte("\n\n"), 2)
	tree, signatures := open(parts[1], known)
	lines := strings.Split(string(parts[0]), "\n")
	if lines[0] != "c2sp.org/tlog-proof@v1" {
		log.Fatal("not a proof")
	}
	lines = lines[1:]
	if strings.HasPrefix(lines[0], "extra ") {
		lines = lines[1:]
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "index "), 10, 64)
	check(err, "index")
	check(tlog.CheckRecord(hashes(lines[1:]), tree.N, tree.Hash, index, tlog.RecordHash(leaf)), "inclusion")

	// The tiles, read by their reader: it believes a hash only if it leads to the root.
	reader := tlog.TileHashReader(tree, root)
	recomputed, err := tlog.TreeHash(tree.N, reader)
	check(err, "tree")
	if recomputed != tree.Hash {
		log.Fatal("the tiles have another root")
	}
	made, err := tlog.ProveRecord(tree.N, index, reader)
	check(err, "their proof")
	check(tlog.CheckRecord(made, tree.N, tree.Hash, index, tlog.RecordHash(leaf)), "their inclusion")

	// What we send to a witness.
	request, err := os.ReadFile(os.Args[6])
	check(err, "request")
	parts = bytes.SplitN(request, []byte("\n\n"), 2)
	newer, _ := open(parts[1], known)
	lines = strings.Split(string(parts[0]), "\n")
	old, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "old "), 10, 64)
	check(err, "old size")
	older, err := tlog.TreeHash(old, reader)
	check(err, "older tree")
	check(tlog.CheckTree(hashes(lines[1:]), newer.N, newer.Hash, old, older), "consistency")

	fmt.Printf("%d signatures, entry %d of %d, extends %d\n", signatures, index, tree.N, old)
}
