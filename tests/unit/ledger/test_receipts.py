"""Receipts and exports: what leaves the log, and what it still shows there."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.log_objects import MemoryLogObjects
from tests.logs import BEGUN, ORIGIN, Log, grown, signer

from abeyance.encoding import decode_base64
from abeyance.ledger.checkpoint import LATEST, LogCheckpoint, parse_note
from abeyance.ledger.defects import LogVerdict
from abeyance.ledger.entry import Record, make_entry
from abeyance.ledger.errors import LedgerCorrupt, LedgerError
from abeyance.ledger.exporting import ZipObjects, ZipWriter, export_log
from abeyance.ledger.note import NoteError
from abeyance.ledger.objects import DirectoryObjects, LogObjects
from abeyance.ledger.opened import open_log
from abeyance.ledger.policy import Policy, trust_keys
from abeyance.ledger.receipts import check_receipt, make_receipt, parse_receipt, read_checkpoint
from abeyance.ledger.signatures import SIGN
from abeyance.ledger.verification import verify_log

LOG = grown(300, 10, 60, witnesses=2)


def test_a_receipt_shows_its_entry_to_anybody_with_the_policy() -> None:
    for size, index in ((300, 0), (310, 255), (370, 369), (370, 256)):
        text = str(make_receipt(LOG.objects, read_checkpoint(LOG.objects, size), index))
        report = check_receipt(text, LOG.policy())
        assert (report.ok, report.index, report.size, report.origin) == (True, index, size, ORIGIN)
        assert report.witnessed_by == ("w0.example", "w1.example")
        assert report.fields["id"] == f"d{index}"
        assert report.fields["body.tenant"] == f"agency-{index % 3}"
        assert report.withheld == ()


def test_a_receipt_has_the_form_of_the_standard() -> None:
    note = read_checkpoint(LOG.objects)
    lines = str(make_receipt(LOG.objects, note, 100, fields=[])).split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert lines[1].startswith("extra ")
    assert lines[2] == "index 100"
    blank = lines.index("")
    assert {len(decode_base64(line)) for line in lines[3:blank]} == {32}
    assert "\n".join(lines[blank + 1 :]) == str(note)


def test_fields_are_withheld_one_by_one() -> None:
    note = read_checkpoint(LOG.objects)
    text = str(make_receipt(LOG.objects, note, 7, fields=["type", "body.outcome"]))
    report = check_receipt(text, LOG.policy())
    assert report.fields == {"type": "decision", "body.outcome": "deny"}
    assert "body.tenant" in report.withheld
    assert "agency" not in text
    with pytest.raises(LedgerError, match=r"has no field body\.x; it has body\.action"):
        make_receipt(LOG.objects, note, 7, fields=["body.x"])
    sealed = check_receipt(str(make_receipt(LOG.objects, note, 7, fields=[])), LOG.policy())
    assert (sealed.ok, sealed.fields) == (True, {})


def test_a_receipt_is_made_by_a_few_reads() -> None:
    log = Log(key=1)
    log.grow(70_000)
    note = log.checkpoint()
    read: list[str] = []
    stored = log.objects.get
    log.objects.get = lambda key, version=None: read.append(key) or stored(key, version)  # type: ignore[method-assign,func-returns-value]
    assert make_receipt(log.objects, note, 12_345)
    assert len(read) <= 8


def test_only_signed_and_witnessed_receipts_hold() -> None:
    note = read_checkpoint(LOG.objects)
    text = str(make_receipt(LOG.objects, note, 7))
    assert not check_receipt(text, Policy()).ok
    assert "no believed key" in check_receipt(text, trust_keys([signer(ORIGIN, 66).verifier(SIGN)])).what
    bare = msgspec.structs.replace(note, signatures=note.signatures[:1])
    report = check_receipt(str(make_receipt(LOG.objects, bare, 7)), LOG.policy())
    assert (report.ok, "not witnessed" in report.what) == (False, True)
    assert check_receipt(str(make_receipt(LOG.objects, bare, 7)), trust_keys([LOG.key.verifier(SIGN)])).ok


@settings(max_examples=300)
@given(
    st.integers(0), st.integers(0, 60), st.binary(max_size=20) | st.sampled_from([b"\n", b" ", b"=", b"A"])
)
def test_any_edit_of_a_receipt_is_found(at: int, gone: int, put: bytes) -> None:
    text = str(make_receipt(LOG.objects, read_checkpoint(LOG.objects), 7)).encode()
    start = at % len(text)
    edited = text[:start] + put + text[start + gone :]
    assume(edited != text)
    report = check_receipt(edited.decode("utf-8", "replace"), LOG.policy())
    assert not report.ok


def test_a_receipt_of_another_entry_or_size_does_not_hold() -> None:
    receipt = make_receipt(LOG.objects, read_checkpoint(LOG.objects), 7)
    other = make_receipt(LOG.objects, read_checkpoint(LOG.objects), 8)
    for changes in (
        {"index": 8},
        {"leaf": other.leaf},
        {"path": other.path},
        {"path": receipt.path[:-1]},
        {"path": (*receipt.path, bytes(32))},
        {"checkpoint": read_checkpoint(LOG.objects, 310)},
        {"disclosures": other.disclosures},
    ):
        assert not check_receipt(str(msgspec.structs.replace(receipt, **changes)), LOG.policy()).ok
    bare = msgspec.structs.replace(receipt, leaf=b"", disclosures=())
    assert "--leaf" in check_receipt(str(bare), LOG.policy()).what
    assert check_receipt(str(bare), LOG.policy(), leaf=receipt.leaf).ok


def test_no_receipt_is_made_of_what_is_not_there() -> None:
    log = grown(10)
    note = read_checkpoint(log.objects)
    for index in (-1, 10, 10_000):
        with pytest.raises(LedgerError, match="10 entries"):
            make_receipt(log.objects, note, index)
    with pytest.raises(LedgerCorrupt):
        make_receipt(log.objects, LogCheckpoint(ORIGIN, 10, bytes(32), note.signatures), 3)
    with pytest.raises(LedgerError, match="no checkpoint yet"):
        read_checkpoint(Log().objects)
    with pytest.raises(NoteError):
        parse_receipt("c2sp.org/tlog-proof@v1\nindex 00\n\n" + str(note))


# Exports.


def to_folder(log: Log, path: Path, **options: Any) -> LogObjects:
    objects = DirectoryObjects(path / "export")
    export_log(log.objects, read_checkpoint(log.objects), _put(objects), **options)
    return objects


def to_zip(log: Log, path: Path, **options: Any) -> LogObjects:
    with (path / "export.zip").open("wb") as file:
        writer = ZipWriter(file)
        export_log(log.objects, read_checkpoint(log.objects), writer.put, **options)
        writer.close()
    return ZipObjects(path / "export.zip")


def _put(objects: LogObjects) -> Callable[[str, bytes], object]:
    def put(key: str, data: bytes) -> None:
        objects.replace(key, data) if key == LATEST else objects.put_new(key, data)

    return put


EXPORTS = pytest.mark.parametrize("export", [to_folder, to_zip])


@EXPORTS
def test_an_export_verifies_like_the_log(export: Callable[..., LogObjects], tmp_path: Path) -> None:
    log = grown(300, 10, 60, witnesses=1, tail=20)
    document = {f"flag-{n}": {"reason": "words and more words " * 40} for n in range(100)}
    log.append([make_entry(Record("f", "flags", "2021-01-01T00:00:00Z", {"document": document}), bytes(16))])
    log.checkpoint()
    log.grow(5)
    objects = export(log, tmp_path)
    report = verify_log(objects, log.policy(), now=log.now)
    assert (report.verdict, report.size, report.checkpoints) == (LogVerdict.WHOLE, 391, 4)
    opened = open_log(objects, report.size)
    assert (opened.opened, opened.found) == (391, 0)
    receipt = make_receipt(objects, read_checkpoint(objects), 17)
    assert check_receipt(str(receipt), log.policy()).ok


@EXPORTS
def test_an_export_without_openings_shows_no_value(export: Callable[..., LogObjects], tmp_path: Path) -> None:
    objects = export(LOG, tmp_path, openings=False)
    report = verify_log(objects, LOG.policy(), now=LOG.now)
    assert report.verdict is LogVerdict.WHOLE
    assert open_log(objects, report.size).opened is None
    assert b"agency" not in b"".join(objects.get(key) or b"" for key in iter(objects.keys()))
    sealed = make_receipt(objects, read_checkpoint(objects), 17, fields=[])
    assert check_receipt(str(sealed), LOG.policy()).ok


def test_an_export_goes_on_where_it_stopped_and_grows_with_the_log(tmp_path: Path) -> None:
    log = grown(300, witnesses=1)
    to_folder(log, tmp_path)
    log.grow(500)
    log.checkpoint()
    objects = to_folder(log, tmp_path)
    report = verify_log(objects, log.policy(), now=log.now)
    assert (report.verdict, report.size) == (LogVerdict.WHOLE, 800)


@pytest.mark.parametrize("entries", [256, 512, 768])
def test_pieces_are_the_export(entries: int) -> None:
    log = grown(300, 10, 800, 256, witnesses=1)
    note = read_checkpoint(log.objects)
    whole, pieces = MemoryLogObjects(), MemoryLogObjects()
    export_log(log.objects, note, _put(whole))
    for first in range(0, note.size, entries):
        export_log(log.objects, note, pieces.put_new, first=first, stop=first + entries)
    assert pieces.stored == whole.stored
    assert all(len(versions) == 1 for versions in pieces.stored.values())


def test_equal_logs_give_equal_zip_files() -> None:
    files = []
    for _ in range(2):
        out = io.BytesIO()
        writer = ZipWriter(out)
        export_log(LOG.objects, read_checkpoint(LOG.objects), writer.put, readers=4)
        writer.close()
        files.append(out.getvalue())
    assert files[0] == files[1]


def test_a_damaged_zip_file_ends_in_a_report(tmp_path: Path) -> None:
    to_zip(LOG, tmp_path)
    path = tmp_path / "export.zip"
    data = path.read_bytes()
    for at in range(200, len(data), len(data) // 25):
        (tmp_path / "damaged.zip").write_bytes(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])
        try:
            objects = ZipObjects(tmp_path / "damaged.zip")
        except LedgerError:
            continue
        verify_log(objects, LOG.policy(), now=LOG.now)
    with pytest.raises(LedgerError):
        ZipObjects(tmp_path / "none.zip")


def test_a_zip_file_with_a_name_twice_is_found(tmp_path: Path) -> None:
    to_zip(LOG, tmp_path)
    with (
        zipfile.ZipFile(tmp_path / "export.zip", "a") as more,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        more.writestr("tile/0/000", b"other")
    report = verify_log(ZipObjects(tmp_path / "export.zip"), LOG.policy(), now=LOG.now)
    assert report.verdict is LogVerdict.BROKEN


def test_a_checkpoint_is_read_with_the_cosignatures_that_came_later() -> None:
    note = read_checkpoint(LOG.objects, 310)
    stored = parse_note(LOG.objects.get("checkpoints/00000000000000000310") or b"")
    assert [one.name for one in stored.signatures] == [ORIGIN]
    assert sorted(one.name for one in note.signatures) == [ORIGIN, "w0.example", "w1.example"]
    assert note.text == stored.text
    assert LOG.now > BEGUN
