"""Tampering with an export: whatever is done to it is found, and found where it was done."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.chains import chain

from abeyance.ledger.chain import Entry, Header, Record, entry_hash, follow, new_header, normalise
from abeyance.ledger.findings import MAX_FINDINGS, FindingKind, VerificationReport
from abeyance.ledger.id_index import IdIndex
from abeyance.ledger.lines import checkpoint_line, header_line
from abeyance.ledger.note import Checkpoint
from abeyance.ledger.signatures import COSIGN, SIGN, generate
from abeyance.ledger.verify import verify_export, verify_lines

Make = Callable[..., bytes]
At = Callable[..., Checkpoint]


def check(data: bytes, **known: Any) -> VerificationReport:
    return verify_export(io.BytesIO(data), **known)


def rehashed(entry: Entry, **changes: Any) -> Entry:
    """An entry that was changed by somebody who knows how to compute its hash."""
    fields = {**msgspec.structs.asdict(entry), **changes}
    fields.pop("hash")
    return Entry(**fields, hash=entry_hash(**fields))


def rechained(header: Header, entries: list[Entry]) -> list[Entry]:
    """The whole chain written anew over these entries, so that it holds."""
    seq, prev, out = 0, header.genesis, []
    for entry in entries:
        out.append(follow(seq, prev, Record(entry.id, entry.type, entry.time, entry.body)))
        seq, prev = out[-1].seq, out[-1].hash
    return out


def test_an_intact_export_is_ok(exported: bytes, header: Header, entries: list[Entry], at: At) -> None:
    whole = at(header, entries)
    report = check(exported, checkpoints=[whole, at(header, [])], head=(12, entries[-1].hash))
    assert report.ok
    assert (report.found, report.findings) == (0, ())
    assert (report.entries, report.head, report.chain) == (12, entries[-1].hash, "unit-test")
    assert (report.checkpoints, report.checkpointed, report.signed) == (4, 12, 0)
    assert check(exported, head=(3, entries[2].hash)).ok
    assert check(exported, head=(0, header.genesis)).ok


def test_an_empty_ledger_is_ok(header: Header, make: Make) -> None:
    report = check(make(header, []))
    assert report.ok
    assert report.entries == 0


def lines_of(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


def line_at(data: bytes, offset: int) -> int:
    """Number, from 1, of the line that this byte is on."""
    return data.count(b"\n", 0, offset) + 1


def test_every_single_bit_is_found_and_located(
    header: Header, entries: list[Entry], make: Make, at: At
) -> None:
    signer = generate("acme.example/ledger", b"a" * 32)
    middle = at(header, entries[:2])
    export = make(header, entries[:3], [middle.signed(signer.sign(middle))])
    assert check(export).ok
    wrong = []
    for bit in range(8 * len(export)):
        edited = bytearray(export)
        edited[bit // 8] ^= 1 << bit % 8
        report = check(bytes(edited))
        line = line_at(export, bit // 8)
        if report.ok or report.findings[0].line != line:
            wrong.append((bit, line, report.findings[:1]))
    assert not wrong


@given(st.data())
def test_any_edit_of_any_bytes_is_found_on_its_line(exported: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(exported)))
    gone = data.draw(st.integers(0, 200))
    put = data.draw(st.binary(max_size=20) | st.sampled_from([b"\n", b"\r\n", b"\n\n", b"}\n{", b" "]))
    edited = exported[:start] + put + exported[start + gone :]
    assume(edited != exported)
    report = check(edited)
    assert not report.ok
    first = next((at for at, (a, b) in enumerate(zip(exported, edited, strict=False)) if a != b), None)
    at = line_at(exported, first if first is not None else min(len(exported), len(edited)))
    # Bytes that look like the ones they stand before or behind can put the same text on the next line.
    assert report.findings[0].line in (at - 1, at, at + 1)


@given(st.data())
def test_deleted_entries_are_found_where_they_were(exported: bytes, data: st.DataObject) -> None:
    lines = lines_of(exported)
    kept = list(lines)
    first = data.draw(st.sampled_from([*range(1, 6), *range(7, 13)]))
    count = data.draw(st.integers(1, 3))
    numbers = [n for n in range(first, first + count) if lines[n].startswith(b'{"body"') and n < 14]
    for number in reversed(numbers):
        del kept[number]
    report = check(b"".join(kept))
    assert not report.ok
    found = report.findings[0]
    seq = first if first < 6 else first - 1
    assert found.seq == seq or found.kind in (FindingKind.WRONG_CHECKPOINT, FindingKind.TRUNCATED)
    assert found.line == first + 1
    assert found.kind in (FindingKind.GAP, FindingKind.WRONG_CHECKPOINT)


@given(st.permutations(range(1, 6)))
def test_reordered_entries_are_found_where_the_order_breaks(exported: bytes, order: list[int]) -> None:
    assume(order != sorted(order))
    lines = lines_of(exported)
    edited = [lines[0], *(lines[n] for n in order), *lines[6:]]
    report = check(b"".join(edited))
    first = next(n for n, place in enumerate(order, 1) if n != place)
    assert report.findings[0].kind is FindingKind.GAP
    assert (report.findings[0].seq, report.findings[0].line) == (first, first + 1)
    assert FindingKind.MISPLACED in {found.kind for found in report.findings}


def test_a_swap_of_two_neighbours_is_two_findings(exported: bytes) -> None:
    lines = lines_of(exported)
    lines[2], lines[3] = lines[3], lines[2]
    found = check(b"".join(lines)).findings
    assert [(one.kind, one.line) for one in found] == [(FindingKind.GAP, 3), (FindingKind.MISPLACED, 4)]


@given(st.integers(1, 12), st.integers(1, 13))
def test_an_entry_that_comes_again_is_found(exported: bytes, which: int, place: int) -> None:
    lines = lines_of(exported)
    again = [line for line in lines if line.startswith(b'{"body"')][which - 1]
    lines.insert(place, again)
    report = check(b"".join(lines))
    assert not report.ok
    assert abs((report.findings[0].line or 0) - (place + 1)) <= 1


def test_a_forged_entry_between_two_is_found(header: Header, entries: list[Entry], make: Make) -> None:
    forged = rehashed(entries[4], id="forged", body={"outcome": "permit"})
    report = check(make(header, [*entries[:4], forged, *entries[4:]]))
    assert [
        (found.kind, found.seq, found.line)
        for found in report.findings
        if found.kind is not FindingKind.TRUNCATED
    ] == [(FindingKind.REPEATED, 5, 7)]


def test_an_altered_entry_is_one_finding(exported: bytes) -> None:
    report = check(exported.replace(b'"outcome":"deny","reason"', b'"outcome":"perm","reason"', 2))
    assert [(one.kind, one.seq, one.line) for one in report.findings] == [
        (FindingKind.ALTERED, 1, 2),
        (FindingKind.ALTERED, 3, 4),
    ]
    assert exported[report.findings[0].offset :].startswith(b'{"body"')
    assert report.root == ""


def test_an_altered_entry_with_a_fitting_hash_breaks_the_link(
    header: Header, entries: list[Entry], make: Make
) -> None:
    forged = rehashed(entries[4], body={"outcome": "permit"})
    report = check(make(header, [*entries[:4], forged, *entries[5:]]))
    assert (report.findings[0].kind, report.findings[0].seq) == (FindingKind.BROKEN_LINK, 6)


@given(st.integers(1, 12), st.data())
def test_a_chain_rewritten_to_its_end_needs_a_checkpoint_from_elsewhere(
    header: Header, entries: list[Entry], make: Make, at: At, which: int, data: st.DataObject
) -> None:
    forged = [*entries]
    forged[which - 1] = rehashed(forged[which - 1], body={"outcome": "permit", "forged": True})
    export = make(header, rechained(header, forged))
    assert check(export).ok
    sizes = data.draw(st.sets(st.integers(1, 12), min_size=1))
    known = [at(header, entries[:size]) for size in sizes]
    report = check(export, checkpoints=known)
    after = [size for size in sorted(sizes) if size >= which]
    if after:
        assert report.findings[0].kind is FindingKind.WRONG_CHECKPOINT
        assert report.findings[0].seq == after[0]
        assert report.checkpointed == max((size for size in sizes if size < which), default=0)
    else:
        assert report.ok
    found = check(export, head=(12, entries[-1].hash)).findings
    assert [one.kind for one in found] == [FindingKind.WRONG_HEAD]


@given(st.integers(0, 13))
def test_a_truncated_export_shows_it(exported: bytes, entries: list[Entry], kept: int) -> None:
    lines = lines_of(exported)
    report = check(b"".join(lines[: kept + 1]))
    if kept == 6:
        # It ends with a checkpoint of its five entries, so only knowledge from elsewhere can tell.
        assert report.ok
        report = check(b"".join(lines[: kept + 1]), head=(12, entries[-1].hash))
    assert [found.kind for found in report.findings] == [FindingKind.TRUNCATED]
    assert (report.findings[0].line, report.findings[0].seq) == (kept + 1, report.entries + 1)


@given(st.integers(1, 11))
def test_a_ledger_cut_short_and_sealed_again_needs_knowledge_from_elsewhere(
    header: Header, entries: list[Entry], make: Make, at: At, size: int
) -> None:
    short = make(header, entries[:size])
    assert check(short).ok
    for known in ({"checkpoints": [at(header, entries)]}, {"head": (12, entries[-1].hash)}):
        report = check(short, **known)
        assert [(found.kind, found.seq) for found in report.findings] == [(FindingKind.TRUNCATED, size + 1)]


@given(st.integers(0))
def test_a_cut_within_a_line_is_found_there(exported: bytes, at: int) -> None:
    cut = at % len(exported)
    report = check(exported[:cut])
    assert not report.ok
    ends = cut == 0 or exported[cut - 1] == 10
    lines = exported.count(b"\n", 0, cut)
    if not ends and lines:
        assert (report.findings[0].kind, report.findings[0].line) == (FindingKind.TRUNCATED, lines + 1)


def test_what_was_added_behind_the_end_is_found(
    header: Header, entries: list[Entry], exported: bytes
) -> None:
    record = normalise(Record("d13", "decision", "2020-06-10T00:00:00Z", {}))
    added = follow(12, entries[-1].hash, record)
    report = check(exported + added.canonical + b"\n")
    assert [found.kind for found in report.findings] == [FindingKind.TRUNCATED]
    report = check(exported + b"\n")
    assert (report.findings[0].kind, report.findings[0].line) == (FindingKind.MALFORMED, 16)


def test_duplicate_ids_and_conflicts(header: Header, make: Make) -> None:
    bodies: list[dict[str, Any]] = [{"n": n} for n in range(4)]
    records = [
        Record("d1" if n == 3 else f"d{n}", "decision", "2020-06-10T00:00:00Z", body)
        for n, body in enumerate(bodies)
    ]
    report = check(make(header, chain(header, records)))
    assert [(one.kind, one.seq, one.line) for one in report.findings] == [(FindingKind.DUPLICATE_ID, 4, 5)]
    assert "entry 2 on line 3" in report.findings[0].what
    kinds = ["decision", "conflict", "refused", "refused"]
    seq, prev, out = 0, header.genesis, []
    for n, kind in enumerate(kinds):
        out.append(follow(seq, prev, Record(f"d{n}", kind, "2020-06-10T00:00:00.000000Z", {})))
        seq, prev = out[-1].seq, out[-1].hash
    report = check(make(header, out))
    assert (report.ok, report.conflicts, report.refused) == (True, 1, 2)


def test_many_ids_spill_to_disk_and_are_still_found() -> None:
    with IdIndex() as seen:
        for number in range(400_000):
            seen.add(b"%d" % number, number + 2, number + 1)
        seen.add(b"123", 7, 6)
        assert list(seen.repeated()) == [(7, 6, 125, 124)]


def test_wrong_checkpoints(header: Header, entries: list[Entry], make: Make, at: At) -> None:
    right = at(header, entries[:5])
    wrong = msgspec.structs.replace(right, root=bytes(32))
    head = msgspec.structs.replace(right, head="0" * 64)
    other = msgspec.structs.replace(right, origin="abeyance/other")
    for checkpoint in (wrong, head, other):
        report = check(make(header, entries, [checkpoint]))
        assert [(found.kind, found.seq, found.line) for found in report.findings] == [
            (FindingKind.WRONG_CHECKPOINT, 5, 7)
        ]
        report = check(make(header, entries), checkpoints=[checkpoint])
        assert [(found.kind, found.seq) for found in report.findings] == [(FindingKind.WRONG_CHECKPOINT, 5)]
    lines = lines_of(make(header, entries))
    lines.insert(3, checkpoint_line(right) + b"\n")
    found = check(b"".join(lines)).findings
    assert [(one.kind, one.line) for one in found] == [(FindingKind.WRONG_CHECKPOINT, 4)]


def test_another_header(header: Header, entries: list[Entry], exported: bytes) -> None:
    lines = lines_of(exported)
    other = new_header("unit-test", datetime(2021, 6, 10, tzinfo=UTC))
    found = check(b"".join([header_line(other) + b"\n", *lines[1:]])).findings
    assert (found[0].kind, found[0].seq, found[0].line) == (FindingKind.BROKEN_LINK, 1, 2)
    found = check(b"".join(lines[1:])).findings
    assert (found[0].kind, found[0].line) == (FindingKind.HEADER, 1)
    found = check(exported.replace(b"abeyance-ledger-1", b"abeyance-ledger-2", 1)).findings
    assert (found[0].kind, "format" in found[0].what) == (FindingKind.HEADER, True)
    assert check(b"").findings[0].kind is FindingKind.HEADER


def test_signatures(header: Header, entries: list[Entry], make: Make, at: At) -> None:
    ours, theirs = generate("acme.example/ledger", b"a" * 32), generate("witness.example", b"b" * 32)
    whole = at(header, entries)
    signed = whole.signed(ours.sign(whole), theirs.countersign(whole, datetime(2020, 6, 11, tzinfo=UTC)))
    export = make(header, entries, [signed])
    for key in (ours.verifier(SIGN), theirs.verifier(COSIGN)):
        report = check(export, trusted=[key])
        assert (report.ok, report.signed) == (True, 12)
    stranger = generate("acme.example/ledger", b"c" * 32).verifier(SIGN)
    report = check(export, trusted=[stranger])
    assert [found.kind for found in report.findings] == [FindingKind.UNSIGNED]
    forged = msgspec.structs.replace(signed.signatures[0], value=bytes(64))
    report = check(make(header, entries, [whole.signed(forged)]), trusted=[ours.verifier(SIGN)])
    assert [(found.kind, found.seq, found.line) for found in report.findings] == [
        (FindingKind.BAD_SIGNATURE, 12, 14)
    ]
    # A good signature under a checkpoint of other entries signs nothing here.
    forgery = rechained(header, [rehashed(entries[0], body={}), *entries[1:]])
    report = check(make(header, forgery), checkpoints=[signed], trusted=[ours.verifier(SIGN)])
    assert {found.kind for found in report.findings} == {FindingKind.WRONG_CHECKPOINT, FindingKind.UNSIGNED}


def test_a_store_that_lost_an_entry(header: Header, entries: list[Entry]) -> None:
    lines = [entry.canonical for entry in entries]
    assert verify_lines(header, lines, head=(12, entries[-1].hash)).ok
    found = verify_lines(header, lines[:6] + lines[7:], head=(12, entries[-1].hash)).findings
    assert [(one.kind, one.seq, one.line) for one in found] == [(FindingKind.GAP, 7, 7)]
    found = verify_lines(header, lines[:-1], head=(12, entries[-1].hash)).findings
    assert [(one.kind, one.seq) for one in found] == [(FindingKind.TRUNCATED, 12)]


@settings(max_examples=300)
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_anything_at_all_ends_in_a_report(header: Header, data: bytes) -> None:
    assert not check(data).ok
    assert not check(header_line(header) + b"\n" + data).ok


def test_many_findings_are_counted_and_a_few_kept(header: Header, exported: bytes) -> None:
    report = check(exported + b"damage\n" * 1000)
    assert (len(report.findings), report.found) == (MAX_FINDINGS, 1001)


def test_a_line_without_end_is_read_in_bounded_memory(header: Header, exported: bytes) -> None:
    lines = lines_of(exported)
    report = check(b"".join([*lines[:3], b"x" * (3 << 20) + b"\n", *lines[3:]]))
    assert [(one.kind, one.line) for one in report.findings] == [(FindingKind.MALFORMED, 4)]
    assert report.entries == 12


def test_what_was_read_is_told(exported: bytes, tmp_path: Any) -> None:
    path = tmp_path / "export"
    path.write_bytes(lines_of(exported)[0] + b"damage\n" * 20_000)
    said: list[int] = []
    with path.open("rb") as file:
        verify_export(file, progress=said.append)
    assert said == sorted(said)
    assert 0 < said[0] < said[-1] <= path.stat().st_size
