"""A year of decisions: the certificate of a halt, its bundle, and checking it, in processor time."""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import rfc8785

from abeyance.ledger.checkpoint import LATEST, LogCheckpoint, checkpoint_key
from abeyance.ledger.documents import DOCUMENT
from abeyance.ledger.entry import LogEntry, Record, blob_key, make_entry
from abeyance.ledger.identity import LOG, new_identity
from abeyance.ledger.integrate import TreeEdge, integrate
from abeyance.ledger.objects import DirectoryObjects
from abeyance.moratorium.decide import Request, decide
from abeyance.moratorium.document import parse
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.tenants import Tenant
from benchmarks.comparison import BenchmarkPart, Figure, Progress, Spread
from benchmarks.ledger import BATCH, KEY
from benchmarks.process import Child

BEGUN = datetime(2025, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
_LIMIT_S = 3600
_SECTORS = (
    ("law_enforcement", "criminal_investigation", "springfield-police"),
    ("law_enforcement_support", "missing_children", "icmec"),
    ("commercial", "access_control", "acme"),
    ("commercial", "access_control", "globex"),
)


def records(count: int) -> Iterator[Record]:
    """Yield a flags document, and the decisions of a year under it: a quarter halted, a quarter exempt."""
    document = new_deployment()
    flags, text = parse(document), rfc8785.dumps(document)
    digest = sha256(text).hexdigest()
    content = {"blob": digest, "bytes": len(text)}
    body: dict[str, Any] = {"flags": flags.digest, "document": digest, "content": content}
    yield Record("document", DOCUMENT, BEGUN.isoformat(), body)
    for number in range(count):
        sector, purpose, name = _SECTORS[number % len(_SECTORS)]
        tenant = Tenant(
            id=name,
            sector=sector,
            jurisdiction="US-OR",
            actions=("index", "search"),
            purposes=(purpose,),
            status="active",
        )
        at = BEGUN + YEAR * (number / count)
        request = Request(tenant=tenant, tenant_id=name, action="search", purpose=purpose)
        decision = msgspec.to_builtins(decide(request, flags, at))
        kind = "Upload Permitted" if decision["outcome"] == "permit" else "Upload Halted"
        own = {"upload": f"{number:032x}", "photo": f"{number:032x}", "tenant": name, "action": "search"}
        body = {**own, "collection": "staff", "decision": decision, "schema": "1"}
        yield Record(f"{kind}:{number}".replace(" ", "-"), kind, at.isoformat(), body)


def entries(count: int) -> Iterator[LogEntry]:
    """Yield their entries."""
    for number, record in enumerate(records(count)):
        yield make_entry(record, number.to_bytes(16, "big"))


def write_log(folder: Path, count: int) -> None:
    """Write their log, with a signed checkpoint for each batch."""
    objects, edge, made = DirectoryObjects(folder), TreeEdge(), entries(count)
    objects.put_new(LOG, new_identity("benchmark", BEGUN).canonical)
    text = rfc8785.dumps(new_deployment())
    objects.put_new(blob_key(sha256(text).hexdigest()), text)
    while batch := [(one.leaf, one.opening) for one in itertools.islice(made, BATCH)]:
        edge = integrate(objects, edge, batch)
        note = LogCheckpoint(KEY.name, edge.size, edge.root())
        signed = str(note.signed(KEY.sign(note))).encode()
        objects.put_new(checkpoint_key(edge.size), signed)
    objects.replace(LATEST, signed)


def run(quick: bool, progress: Progress) -> BenchmarkPart:
    """Measure; each step is a process of its own, because of its memory."""
    count = 20_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory(prefix="abeyance-certificates-") as folder:
        progress(f"a log of {count} decisions")
        write_log(Path(folder) / "log", count)
        found = {}
        for what in ("certify", "verify"):
            progress(what)
            with Child(what, [sys.executable, "-m", "benchmarks.certificate_steps"]) as child:
                found[what] = child.ask(within=_LIMIT_S, folder=folder, what=what)
    made, checked = found["certify"], found["verify"]
    what = f"{count:,} decisions".replace(",", " ")

    def figure(key: str, text: str, unit: str, value: float, note: str = "") -> Figure:
        return Figure(key=f"certificates.{key}", what=text, unit=unit, value=Spread.of([value]), note=note)

    figures = (
        figure("certify", f"certify a year of {what}", "s", made["seconds"], made["result"]),
        figure("certify.memory", "most memory of that", "MiB", made["mib"]),
        figure("size", "the certificate", "KB", made["bytes"] / 1000),
        figure(
            "bundle",
            "its bundle",
            "MB",
            checked["bytes"] / 1e6,
            f"{checked['bytes'] // count} bytes each",
        ),
        figure("verify", "verify the bundle", "s", checked["seconds"], checked["result"]),
        figure("verify.memory", "most memory of that", "MiB", checked["mib"]),
    )
    return BenchmarkPart(name="certificates", comparisons=(), figures=figures)
