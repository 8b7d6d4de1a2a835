"""Tampering with a log: whatever is done to it is found, and only what is signed and witnessed is called whole."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tests.log_objects import MemoryLogObjects
from tests.logs import BEGUN, LOG_ID, ORIGIN, Log, entries, grown, signer

from abeyance.ledger.checkpoint import LATEST, LogCheckpoint, checkpoint_key, parse_note
from abeyance.ledger.defects import MAX_DEFECTS, DefectKind, LedgerReport, LogVerdict
from abeyance.ledger.entry import Record, conflict_entry, make_entry
from abeyance.ledger.errors import LedgerCorrupt
from abeyance.ledger.identity import LOG, new_identity
from abeyance.ledger.integrate import TreeEdge, plan
from abeyance.ledger.note import Signature
from abeyance.ledger.opened import open_log, with_opened
from abeyance.ledger.policy import Policy, parse_policy, trust_keys
from abeyance.ledger.signatures import SIGN
from abeyance.ledger.tiles import decode_bundle, encode_bundle
from abeyance.ledger.verification import verify_log
from abeyance.ledger.witness import WitnessRefused, WitnessUnavailable

SIZE = 370


def check(log: Log, policy: Policy | None = None, **options: Any) -> LedgerReport:
    """Both steps of a verification, as the command makes them."""
    rules = policy if policy is not None else log.policy()
    accepted = options.pop("accepted", ())
    report = verify_log(log.objects, rules, now=options.pop("now", log.now), **options)
    return with_opened(report, open_log(log.objects, report.size, accepted=accepted))


def witnessed() -> Log:
    """370 entries under three checkpoints, each with the cosignatures of two witnesses."""
    return grown(300, 10, 60, witnesses=2)


def test_an_untouched_log_is_whole() -> None:
    log = witnessed()
    report = check(log, known=[parse_note(log.memory.stored[LATEST][-1] or b"")])
    assert (report.verdict, report.found, report.defects, report.notices) == (LogVerdict.WHOLE, 0, (), ())
    assert (report.size, report.signed, report.witnessed, report.opened) == (SIZE, SIZE, SIZE, SIZE)
    assert (report.checkpoints, report.origin) == (4, ORIGIN)


def test_an_empty_log_is_whole_once_it_is_signed() -> None:
    log = Log()
    assert check(log).verdict is LogVerdict.UNSIGNED
    log.checkpoint()
    assert check(log).verdict is LogVerdict.WHOLE


# Changes in place, as in an export or below a bucket: there are no versions to show them.


def edit(log: Log, key: str, change: Callable[[bytes], bytes]) -> None:
    data = log.memory.stored[key][-1]
    assert data is not None
    edited = change(data)
    assert edited != data
    log.memory.stored[key][-1] = edited


def drop(log: Log, *keys: str) -> None:
    for key in keys:
        del log.memory.stored[key]


def leaf_changed(items: bytes, place: int, new: bytes) -> bytes:
    leaves = decode_bundle(items)
    leaves[place] = new
    return encode_bundle(leaves)


def other_leaf() -> bytes:
    return make_entry(
        Record("forged", "decision", "2020-06-10T00:00:00Z", {"outcome": "permit"}), bytes(16)
    ).leaf


def rewrite(log: Log, history: list[Any], *, keep_notes: bool = True) -> None:
    """Write all of it anew over these entries, so that tiles and entries agree, as the writer's role could."""
    kept = {
        key: versions
        for key, versions in log.memory.stored.items()
        if key.startswith((LOG, "checkpoint", "cosign")) and keep_notes
    }
    written, edge = plan(TreeEdge(), [(one.leaf, one.opening) for one in history])
    log.memory.stored = kept | {key: [data] for key, data in written}
    log.edge, log.entries = edge, list(history)


def forged(log: Log, at: int) -> list[Any]:
    made = make_entry(Record(f"d{at}", "decision", "2020-06-10T00:00:00Z", {"outcome": "permit"}), bytes(16))
    return [*log.entries[:at], made, *log.entries[at + 1 :]]


def unsigned_note(log: Log, size: int, root: bytes, origin: str = ORIGIN) -> LogCheckpoint:
    """A checkpoint that a stranger signed with a key of the same name."""
    note = LogCheckpoint(origin, size, root)
    return note.signed(signer(origin, 66).sign(note))


def put_note(log: Log, note: LogCheckpoint, key: str | None = None) -> None:
    log.memory.stored[key or checkpoint_key(note.size)] = [str(note).encode()]


def swap_bundle(log: Log, first: int, second: int) -> None:
    def change(data: bytes) -> bytes:
        leaves = decode_bundle(data)
        leaves[first], leaves[second] = leaves[second], leaves[first]
        return encode_bundle(leaves)

    edit(log, "tile/entries/000", change)
    edit(log, "opening/000", change)


def bad_signature(log: Log) -> None:
    note = parse_note(log.memory.stored[checkpoint_key(310)][-1] or b"")
    broken = msgspec.structs.replace(note.signatures[0], value=bytes(64))
    put_note(log, msgspec.structs.replace(note, signatures=(broken,)))


Tamper = Callable[[Log], object]
IN_PLACE: dict[str, tuple[Tamper, DefectKind, int | None]] = {
    "an entry altered": (
        lambda log: edit(log, "tile/entries/000", lambda data: leaf_changed(data, 7, other_leaf())),
        DefectKind.ALTERED,
        7,
    ),
    "an entry altered with its hash": (
        lambda log: (
            edit(log, "tile/entries/000", lambda data: leaf_changed(data, 7, other_leaf())),
            edit(log, "tile/0/000", lambda data: data[:224] + bytes(32) + data[256:]),
        ),
        DefectKind.ALTERED,
        7,
    ),
    "a hash altered": (
        lambda log: edit(log, "tile/0/000", lambda data: data[:96] + bytes(32) + data[128:]),
        DefectKind.ALTERED,
        3,
    ),
    "a hash of a higher tile altered": (
        lambda log: edit(log, "tile/1/000.p/1", lambda _: bytes(32)),
        DefectKind.WRONG_TILE,
        0,
    ),
    "an entry that has no form": (
        lambda log: edit(log, "tile/entries/001.p/114", lambda data: leaf_changed(data, 113, b"{}")),
        DefectKind.DAMAGED,
        369,
    ),
    "two entries exchanged": (lambda log: swap_bundle(log, 3, 4), DefectKind.ALTERED, 3),
    "an entry taken out": (
        lambda log: edit(log, "tile/entries/000", lambda data: encode_bundle(decode_bundle(data)[1:])),
        DefectKind.DAMAGED,
        0,
    ),
    "a bundle cut off": (
        lambda log: edit(log, "tile/entries/001.p/114", lambda data: data[:-1]),
        DefectKind.DAMAGED,
        256,
    ),
    "a bundle with something behind it": (
        lambda log: edit(log, "tile/entries/000", lambda data: data + b"\0\0"),
        DefectKind.DAMAGED,
        0,
    ),
    "a bundle missing": (lambda log: drop(log, "tile/entries/000"), DefectKind.MISSING, 0),
    "the last bundle missing": (lambda log: drop(log, "tile/entries/001.p/114"), DefectKind.LOST, 310),
    "a tile missing": (lambda log: drop(log, "tile/0/000"), DefectKind.MISSING, 0),
    "a higher tile missing": (lambda log: drop(log, "tile/1/000.p/1"), DefectKind.MISSING, 0),
    "a tile cut off": (lambda log: edit(log, "tile/0/000", lambda data: data[:-32]), DefectKind.DAMAGED, 0),
    "the entries cut off, tiles kept": (
        lambda log: drop(log, "tile/entries/001.p/114", "opening/001.p/114", checkpoint_key(370)),
        DefectKind.LOST,
        310,
    ),
    "all cut off, checkpoints kept": (
        lambda log: drop(log, *[key for key in log.memory.stored if "001.p/114" in key]),
        DefectKind.LOST,
        310,
    ),
    "an older bundle of another history": (
        lambda log: edit(log, "tile/entries/001.p/54", lambda data: leaf_changed(data, 5, other_leaf())),
        DefectKind.WRONG_PARTIAL,
        256,
    ),
    "an older tile of another history": (
        lambda log: edit(log, "tile/0/001.p/44", lambda data: data[:-32] + bytes(32)),
        DefectKind.WRONG_PARTIAL,
        256,
    ),
    "an older opening of another history": (
        lambda log: edit(log, "opening/001.p/54", lambda data: encode_bundle(decode_bundle(data)[1:])),
        DefectKind.WRONG_PARTIAL,
        256,
    ),
    "a value altered in the opening": (
        lambda log: edit(log, "opening/000", lambda data: data.replace(b'"permit"', b'"denied"', 1)),
        DefectKind.WRONG_OPENING,
        0,
    ),
    "an opening that is none": (
        lambda log: edit(log, "opening/000", lambda data: leaf_changed(data, 9, b"{}")),
        DefectKind.WRONG_OPENING,
        9,
    ),
    "a bundle of openings missing": (lambda log: drop(log, "opening/000"), DefectKind.MISSING, 0),
    "all rewritten by the writer's role, one decision replaced": (
        lambda log: rewrite(log, forged(log, 305)),
        DefectKind.TWO_HISTORIES,
        300,
    ),
    "all rewritten, a decision left out": (
        lambda log: rewrite(log, [*log.entries[:200], *log.entries[201:], *entries(370, 1)]),
        DefectKind.TWO_HISTORIES,
        0,
    ),
    "all rewritten, the order changed": (
        lambda log: rewrite(log, [*log.entries[:368], log.entries[369], log.entries[368]]),
        DefectKind.TWO_HISTORIES,
        310,
    ),
    "all rewritten, an entry put between": (
        lambda log: rewrite(log, [*log.entries[:100], *entries(900, 1), *log.entries[100:]]),
        DefectKind.TWO_HISTORIES,
        0,
    ),
    "a checkpoint of another log": (
        lambda log: put_note(log, unsigned_note(log, 5, bytes(32), "abeyance/another")),
        DefectKind.FOREIGN,
        None,
    ),
    "a checkpoint by a stranger over other entries": (
        lambda log: put_note(log, unsigned_note(log, 5, bytes(32))),
        DefectKind.WRONG_CHECKPOINT,
        0,
    ),
    "a checkpoint that is none": (
        lambda log: edit(log, checkpoint_key(310), lambda _: b"damage"),
        DefectKind.DAMAGED,
        None,
    ),
    "a checkpoint under another size": (
        lambda log: put_note(
            log, parse_note(log.memory.stored[checkpoint_key(310)][-1] or b""), checkpoint_key(9)
        ),
        DefectKind.DAMAGED,
        None,
    ),
    "a signature that is not good": (bad_signature, DefectKind.BAD_SIGNATURE, 310),
    "the pointer shows a state that no key signed": (
        lambda log: put_note(log, unsigned_note(log, 320, bytes(32)), LATEST),
        DefectKind.WRONG_CHECKPOINT,
        320,
    ),
    "the pointer is damage": (lambda log: edit(log, LATEST, lambda _: b"damage"), DefectKind.DAMAGED, None),
    "a new log id": (
        lambda log: edit(log, LOG, lambda _: new_identity("another", BEGUN).canonical),
        DefectKind.FOREIGN,
        None,
    ),
    "the log's name missing": (lambda log: drop(log, LOG), DefectKind.LOG, None),
    "the log's name in another format": (
        lambda log: edit(log, LOG, lambda data: data.replace(b"log-1", b"log-2")),
        DefectKind.LOG,
        None,
    ),
    "an object that is no part of the log": (
        lambda log: log.memory.replace("other/tile/0/000", bytes(32)),
        DefectKind.FOREIGN,
        None,
    ),
    "a tile under another spelling": (
        lambda log: log.memory.replace("tile/0/x000/000", bytes(8192)),
        DefectKind.FOREIGN,
        None,
    ),
    "a tile behind the end": (
        lambda log: log.memory.replace("tile/0/002.p/9", bytes(288)),
        DefectKind.LOST,
        SIZE,
    ),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_a_change_in_place_is_found_where_it_is(name: str) -> None:
    tamper, kind, index = IN_PLACE[name]
    log = witnessed()
    tamper(log)
    report = check(log)
    assert report.verdict is LogVerdict.BROKEN
    assert kind in {defect.kind for defect in report.defects}
    if index is not None:
        assert min(one.index for one in report.defects if one.kind is kind and one.index is not None) == index


# Changes by who may only put objects, which a bucket keeps as versions and markers.

VERSIONED: dict[str, tuple[Tamper, DefectKind]] = {
    "an entry bundle written over": (
        lambda log: log.memory.replace("tile/entries/000", b"other"),
        DefectKind.REWRITTEN,
    ),
    "written over and back again": (
        lambda log: [
            log.memory.replace("tile/0/000", data)
            for data in (b"other", log.memory.stored["tile/0/000"][0] or b"")
        ],
        DefectKind.REWRITTEN,
    ),
    "written over with the same bytes": (
        lambda log: log.memory.replace("tile/0/000", log.memory.stored["tile/0/000"][0] or b""),
        DefectKind.REWRITTEN,
    ),
    "a numbered checkpoint written over": (
        lambda log: log.memory.replace(checkpoint_key(310), b"other"),
        DefectKind.REWRITTEN,
    ),
    "the log's name written over": (lambda log: log.memory.replace(LOG, b"{}"), DefectKind.REWRITTEN),
    "a delete marker over a bundle": (
        lambda log: log.memory.stored["tile/entries/000"].append(None),
        DefectKind.DELETED,
    ),
    "a delete marker over the last of everything": (
        lambda log: [log.memory.stored[key].append(None) for key in log.memory.stored if "001.p/114" in key],
        DefectKind.DELETED,
    ),
    "a delete marker over a checkpoint": (
        lambda log: log.memory.stored[checkpoint_key(370)].append(None),
        DefectKind.DELETED,
    ),
    "a delete marker over an object that was none": (
        lambda log: log.memory.stored.__setitem__("tile/0/777", [None]),
        DefectKind.DELETED,
    ),
    "a delete marker over a sequenced batch": (
        lambda log: log.memory.stored[next(iter(log.memory.keys("sequenced/")))].append(None),
        DefectKind.DELETED,
    ),
}


@pytest.mark.parametrize("name", VERSIONED)
def test_a_second_version_or_a_marker_is_found(name: str) -> None:
    tamper, kind = VERSIONED[name]
    log = witnessed()
    tamper(log)
    report = check(log)
    assert report.verdict is LogVerdict.BROKEN
    assert kind in {defect.kind for defect in report.defects}


def test_the_pointer_is_written_over_all_the_time_and_nothing_trusts_it() -> None:
    log = witnessed()
    assert len(log.memory.stored[LATEST]) == 3
    assert check(log).verdict is LogVerdict.WHOLE


def test_a_state_that_was_once_shown_is_compared_too() -> None:
    log = witnessed()
    shown = LogCheckpoint(ORIGIN, 310, bytes(32))
    shown = shown.signed(log.key.sign(shown))
    current = log.memory.stored[LATEST][-1]
    log.memory.stored[LATEST] += [str(shown).encode(), current]
    assert [defect.kind for defect in check(log).defects] == [DefectKind.TWO_HISTORIES]
    missing = LogCheckpoint(ORIGIN, 320, bytes(32))
    log.memory.stored[LATEST][-2] = str(missing.signed(log.key.sign(missing))).encode()
    assert [defect.kind for defect in check(log).defects] == [DefectKind.MISSING]


# What is signed, and by whom.


def test_only_a_signed_state_is_called_whole() -> None:
    log = witnessed()
    assert check(log, Policy()).verdict is LogVerdict.UNSIGNED
    stranger = trust_keys([signer(ORIGIN, 66).verifier(SIGN)])
    report = check(log, stranger)
    assert (report.verdict, report.signed, report.found) == (LogVerdict.UNSIGNED, 0, 0)
    namesake = trust_keys([signer("abeyance/another", 1).verifier(SIGN)])
    assert check(log, namesake).verdict is LogVerdict.UNSIGNED


@pytest.mark.parametrize("tail", [1, 100, 256, 1000])
def test_a_tail_that_is_not_signed_has_a_status_of_its_own(tail: int) -> None:
    log = grown(300, 70, tail=tail, witnesses=1)
    report = check(log)
    assert (report.verdict, report.signed, report.witnessed, report.size) == (
        LogVerdict.UNSIGNED,
        370,
        370,
        370 + tail,
    )
    assert "from 370 on" in report.why


@given(st.integers(0, 29), st.sampled_from(["forge", "cut", "reorder"]))
@settings(max_examples=30)
def test_a_forged_or_cut_tail_is_never_called_whole(at: int, how: str) -> None:
    log = grown(40, tail=30)
    tail = log.entries[40:]
    histories = {
        "forge": [*tail[:at], *entries(990, 1), *tail[at + 1 :]],
        "cut": tail[:at],
        "reorder": [*tail[at:], *tail[:at]],
    }
    rewrite(log, [*log.entries[:40], *histories[how]])
    report = check(log)
    whole = how == "cut" and at == 0
    assert report.verdict is (LogVerdict.WHOLE if whole else LogVerdict.UNSIGNED)
    assert report.signed == 40
    # Whoever was given a receipt, or any checkpoint of the tail, finds it.
    note = LogCheckpoint(ORIGIN, 70, grown(40, tail=30).edge.root())
    changed = histories[how] != tail
    assert (check(log, known=[note]).verdict is LogVerdict.BROKEN) == changed


def test_an_old_state_that_is_shown_again_is_too_old() -> None:
    log = grown(300, witnesses=2)
    old = {key: list(versions) for key, versions in log.memory.stored.items()}
    log.now += timedelta(days=2)
    log.grow(70)
    latest = log.checkpoint()
    log.objects = MemoryLogObjects()
    log.memory.stored = old
    fresh = log.policy("#abeyance: fresh 24h")
    report = check(log, fresh)
    assert report.verdict is LogVerdict.UNSIGNED
    assert "48 hours ago" in report.why
    assert check(log, known=[latest]).verdict is LogVerdict.BROKEN
    assert check(log).verdict is LogVerdict.WHOLE  # without a policy that asks for the age, nothing can tell


def test_the_pointer_alone_is_set_back() -> None:
    log = witnessed()
    log.memory.stored[LATEST].append(log.memory.stored[LATEST][0])
    report = check(log)
    assert (report.verdict, report.signed) == (LogVerdict.UNSIGNED, SIZE)
    assert "the pointer names 300 entries" in report.why
    drop(log, LATEST)
    assert "pointer" in check(log).why


def test_a_witness_is_offline_and_comes_back() -> None:
    log = grown(300, witnesses=2)
    log.witnesses[1].online = False
    log.grow(10)
    with pytest.raises(WitnessUnavailable):
        log.ask(log.witnesses[1], log.checkpoint())
    report = check(log)
    assert (report.verdict, report.signed, report.witnessed) == (LogVerdict.UNSIGNED, 310, 300)
    one_of_two = parse_policy(
        "\n".join(
            [
                f"log {log.key.verifier(SIGN)}",
                *(f"witness {w.entry.name} {w.entry.key}" for w in log.witnesses),
                f"group two 1 {' '.join(w.entry.name for w in log.witnesses)}",
                "quorum two",
            ]
        )
    )
    assert check(log, one_of_two).verdict is LogVerdict.WHOLE
    log.witnesses[1].online = True
    log.grow(1)
    log.checkpoint()
    assert check(log).verdict is LogVerdict.WHOLE


def fork(log: Log, at: int) -> Log:
    """Another history of the same log, with the same keys and witnesses that know of this one."""
    other = Log()
    other.now, other.witnesses, other.signed = log.now, log.witnesses, log.signed
    rewrite(other, forged(log, at))
    other.memory.stored[LOG] = log.memory.stored[LOG]
    return other


def test_an_honest_witness_signs_no_second_history() -> None:
    log = witnessed()
    other = fork(log, 305)
    note = LogCheckpoint(ORIGIN, SIZE, other.edge.root())
    note = note.signed(log.key.sign(note))
    for witness in log.witnesses:
        with pytest.raises(WitnessRefused):
            other.ask(witness, note)
        assert [one["note"] for one in witness.memory.evidence()] == [str(note)]
    put_note(other, note)
    put_note(other, note, LATEST)
    report = check(other, log.policy())
    assert (report.verdict, report.signed, report.witnessed, report.found) == (
        LogVerdict.UNSIGNED,
        SIZE,
        0,
        0,
    )
    shown = parse_note(log.memory.stored[LATEST][-1] or b"")
    found = check(other, log.policy(), known=[shown]).defects
    assert [defect.kind for defect in found] == [DefectKind.TWO_HISTORIES]
    assert "cosigned by w0.example, w1.example" in found[0].what


def test_a_witness_that_forks_is_not_the_quorum_and_is_named() -> None:
    log = witnessed()
    other = fork(log, 305)
    note = LogCheckpoint(ORIGIN, SIZE, other.edge.root())
    note = note.signed(log.key.sign(note), log.witnesses[0].key.countersign(note, log.now))
    put_note(other, note)
    put_note(other, note, LATEST)
    assert check(other, log.policy()).verdict is LogVerdict.UNSIGNED
    found = check(log, known=[note]).defects
    assert [defect.kind for defect in found] == [DefectKind.TWO_HISTORIES]
    assert "signed and cosigned by w0.example" in found[0].what


def test_two_histories_in_one_bucket() -> None:
    log = witnessed()
    other = LogCheckpoint(ORIGIN, 305, bytes(32))
    put_note(log, other.signed(log.key.sign(other)))
    report = check(log)
    assert [(defect.kind, defect.index) for defect in report.defects] == [(DefectKind.TWO_HISTORIES, 300)]
    whole = witnessed()
    whole.memory.stored |= {f"second/{key}": versions for key, versions in log.memory.stored.items()}
    assert DefectKind.FOREIGN in {defect.kind for defect in check(whole).defects}


def test_a_stolen_key_signs_what_no_witness_cosigns_and_is_retired() -> None:
    log = witnessed()
    thief = fork(log, 365)
    note = LogCheckpoint(ORIGIN, SIZE, thief.edge.root())
    note = note.signed(log.key.sign(note))
    put_note(thief, note)
    put_note(thief, note, LATEST)
    # Before the theft is known: it is signed, and not witnessed.
    assert check(thief, log.policy()).verdict is LogVerdict.UNSIGNED
    # Afterwards: the key counts up to the last state that the witnesses saw, and a new key goes on from there.
    stolen, new = log.key, signer(ORIGIN, 2)
    log.key = new
    for witness in log.witnesses:
        witness.server._logs[ORIGIN] = [new.verifier(SIGN)]
        with pytest.raises(WitnessUnavailable, match="403"):
            thief.ask(witness, note)
    log.grow(5)
    log.checkpoint()
    rotated = log.policy(f"#abeyance: retired {stolen.verifier(SIGN)} {SIZE}")
    assert check(log, rotated).verdict is LogVerdict.WHOLE
    assert check(log).verdict is LogVerdict.WHOLE  # the new key's checkpoint covers everything before it
    # What the thief signs beyond that size breaks the log that shows it.
    more = LogCheckpoint(ORIGIN, SIZE + 1, plan(TreeEdge(), _pairs(log, SIZE + 1))[1].root())
    put_note(log, more.signed(stolen.sign(more)))
    report = check(log, rotated)
    assert [(defect.kind, defect.index) for defect in report.defects] == [(DefectKind.RETIRED_KEY, SIZE + 1)]


def _pairs(log: Log, size: int) -> list[tuple[bytes, bytes]]:
    return [(one.leaf, one.opening) for one in log.entries[:size]]


def test_a_policy_of_before_the_rotation_calls_the_rest_unsigned() -> None:
    log = witnessed()
    before = log.policy()
    log.key = signer(ORIGIN, 2)
    for witness in log.witnesses:
        witness.server._logs[ORIGIN].append(log.key.verifier(SIGN))
    log.grow(5)
    log.checkpoint()
    report = check(log, before)
    assert (report.verdict, report.signed) == (LogVerdict.UNSIGNED, SIZE)
    assert f"no believed key signed the checkpoint of {SIZE + 5} entries" in report.notices


def test_a_cosignature_that_is_not_good_counts_for_nothing() -> None:
    log = witnessed()
    for key in log.memory.keys("cosignatures/"):
        edit(log, key, lambda data: data[:-8] + b"AAAA" + data[-4:])
    report = check(log)
    assert (report.verdict, report.witnessed, report.found) == (LogVerdict.UNSIGNED, 0, 0)
    assert "cosignature" in report.notices[0]


def test_a_witness_does_not_sign_for_its_future() -> None:
    log = grown(300)
    log.witnesses = grown(1, witnesses=1).witnesses
    log.now += timedelta(days=3650)
    log.grow(1)
    log.checkpoint()
    fresh = log.policy("#abeyance: fresh 24h")
    assert check(log, fresh).verdict is LogVerdict.WHOLE
    report = check(log, fresh, now=log.now - timedelta(days=1))
    assert (report.verdict, report.witnessed) == (LogVerdict.UNSIGNED, 0)


# Ids and readings.


def test_an_entry_that_came_twice_counts_once() -> None:
    log = grown(10)
    log.append([log.entries[3]])
    log.append([make_entry(Record("d3", "decision", "2021-01-01T00:00:00Z", _body(log, 3)), bytes(16))])
    log.checkpoint()
    report = check(log)
    assert (report.verdict, report.repeated) == (LogVerdict.WHOLE, 2)


def test_an_id_with_two_contents_is_an_alarm() -> None:
    log = grown(10)
    second = make_entry(Record("d3", "decision", "2021-01-01T00:00:00Z", {"outcome": "permit"}), bytes(16))
    log.append([second])
    log.checkpoint()
    report = check(log)
    assert [(defect.kind, defect.index) for defect in report.defects] == [(DefectKind.CONFLICT, 10)]
    seen = grown(10)
    seen.append([conflict_entry(second, 3, bytes(16))])
    seen.checkpoint()
    report = check(seen)
    assert [(defect.kind, defect.index) for defect in report.defects] == [(DefectKind.CONFLICT, 10)]
    assert report.conflicts == 1
    accepted = check(seen, accepted=[10])
    assert (accepted.verdict, accepted.notices) == (
        LogVerdict.WHOLE,
        ("the conflict of entry 10 is accepted",),
    )


def _body(log: Log, index: int) -> dict[str, Any]:
    from abeyance.ledger.entry import read_opening

    return read_opening(log.entries[index].opening).record().body


@pytest.mark.parametrize("change", ["gone", "other"])
def test_a_member_that_is_stored_by_digest_is_read_too(change: str) -> None:
    log = grown(3)
    document = {f"flag-{n}": {"reason": "words and more words " * 40} for n in range(100)}
    log.append(
        [make_entry(Record("flags-1", "flags", "2021-01-01T00:00:00Z", {"document": document}), bytes(16))]
    )
    log.checkpoint()
    assert check(log).verdict is LogVerdict.WHOLE
    (key,) = log.memory.keys("blob/")
    if change == "gone":
        drop(log, key)
    else:
        edit(log, key, lambda data: data + b" ")
    assert [(one.kind, one.index) for one in check(log).defects] == [(DefectKind.WRONG_BLOB, 3)]


def test_a_log_without_openings_is_whole_and_says_that_they_are_withheld() -> None:
    log = witnessed()
    drop(log, *[key for key in log.memory.stored if key.startswith(("opening/", "sequenced/"))])
    report = check(log)
    assert (report.verdict, report.opened) == (LogVerdict.WHOLE, None)
    assert "withheld" in report.notices[0]


# Anything at all.


def signer_of(line: bytes) -> tuple[bytes, bytes]:
    """Return name and key id of a signature line."""
    _, name, value = line.split(b" ")
    return name, base64.b64decode(value)[:4]


@settings(max_examples=150)
@example(598, 4, 1, b"")
@given(st.integers(0), st.integers(0), st.integers(0, 40), st.binary(max_size=12))
def test_any_edit_of_any_object_is_found(which: int, at: int, gone: int, put: bytes) -> None:
    log = witnessed()
    keys = [key for key in log.memory.stored if not key.startswith("sequenced/")]
    key = keys[which % len(keys)]
    data = log.memory.stored[key][-1] or b""
    start = at % len(data)
    edited = data[:start] + put + data[start + gone :]
    assume(edited != data)
    log.memory.stored[key][-1] = edited
    report = check(log)
    if key.startswith("cosignatures/"):
        assert report.verdict is not LogVerdict.BROKEN
        if not report.notices and report.verdict is not LogVerdict.WHOLE:
            # The signature of a stranger, and so none.
            assert signer_of(edited) != signer_of(data)
        return
    if key == LATEST and report.verdict is LogVerdict.WHOLE:
        # A signature line may be dropped or changed: the pointer is not where they are believed.
        assert parse_note(edited).text == parse_note(data).text
        return
    if key.startswith("checkpoints/") and report.verdict is not LogVerdict.BROKEN:
        # Its name or key id changed: the signature of a stranger, and so none.
        assert any("no believed key" in notice for notice in report.notices)
        return
    assert report.verdict is LogVerdict.BROKEN


SOME_KEYS = [LOG, LATEST, "tile/entries/000", "tile/0/000", "opening/000", checkpoint_key(3)]


@settings(max_examples=100)
@given(
    st.dictionaries(st.text(max_size=20) | st.sampled_from(SOME_KEYS), st.binary(max_size=200), max_size=6)
)
def test_anything_at_all_ends_in_a_report(stored: dict[str, bytes]) -> None:
    objects = MemoryLogObjects()
    objects.stored = {key: [data] for key, data in stored.items()}
    report = verify_log(objects, Policy(), now=BEGUN)
    assert report.verdict is not LogVerdict.WHOLE
    open_log(objects, report.size)


def test_one_bundle_far_away_is_no_endless_walk() -> None:
    log = grown(300)
    log.memory.stored["tile/entries/x999/x999/x999/999"] = [b""]
    report = check(log)
    assert (report.verdict, report.size) == (LogVerdict.BROKEN, 103 * 256)
    assert any("bundles of entries are missing" in defect.what for defect in report.defects)


def test_many_defects_are_counted_and_a_few_kept() -> None:
    log = grown(300)
    edit(log, "tile/entries/000", lambda data: encode_bundle([other_leaf()] * 256))
    report = check(log)
    altered = [defect for defect in report.defects if defect.kind is DefectKind.ALTERED]
    assert len(altered) == MAX_DEFECTS
    assert report.found >= 512


def test_reading_ahead_gives_the_same_report() -> None:
    log = grown(700, 5, witnesses=1)
    edit(log, "tile/entries/001", lambda data: leaf_changed(data, 7, other_leaf()))
    one, many = (verify_log(log.objects, log.policy(), now=log.now, readers=n) for n in (1, 8))
    assert one == many
    assert open_log(log.objects, 705, readers=8) == open_log(log.objects, 705)


def test_what_was_read_is_told() -> None:
    log = grown(9000)
    said: list[int] = []
    verify_log(log.objects, log.policy(), now=log.now, progress=said.append)
    assert said == sorted(said)
    assert 0 < said[0] <= said[-1] <= 9000


def test_a_signature_of_another_length_is_none() -> None:
    log = grown(3)
    note = LogCheckpoint(ORIGIN, 3, log.edge.root())
    key = log.key.verifier(SIGN)
    for value in (b"", bytes(63), bytes(65)):
        odd = note.signed(Signature(ORIGIN, key.key_id, value))
        assert log.policy().judge(odd, ORIGIN, 3).signed is False


def test_a_write_over_what_is_there_is_refused_at_the_port() -> None:
    log = witnessed()
    with pytest.raises(LedgerCorrupt):
        log.objects.put_new("tile/entries/000", b"other")
    assert log.objects.get(LOG) == new_identity(LOG_ID, BEGUN).canonical
