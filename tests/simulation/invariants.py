"""What must hold when a simulated deployment has come to rest, whatever died on the way."""

from __future__ import annotations

import gzip
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import msgspec
from tests.simulation import doors
from tests.simulation.model import ALL_COLLECTIONS, DOOR_BUCKET, Upload
from tests.simulation.world import World

from abeyance.aws.dynamodb import DynamoTable, decode
from abeyance.console.reviews import JUDGED, NOTHING_TO_REVIEW
from abeyance.deployment import build
from abeyance.embedding.npy import decode_chips
from abeyance.gallery.errors import CollectionNotFound
from abeyance.gallery.model import CollectionRef, Face
from abeyance.ledger.batches import decode_start
from abeyance.ledger.defects import LedgerReport
from abeyance.ledger.documents import DOCUMENT
from abeyance.ledger.identity import LOG, read_identity
from abeyance.ledger.index_files import ENTRIES
from abeyance.ledger.lookup import Lookup
from abeyance.ledger.opened import open_log, with_opened
from abeyance.ledger.pseudonym import pseudonym
from abeyance.ledger.query import Query
from abeyance.ledger.reading import LoggedEntry, LogReader, each_once
from abeyance.ledger.recent import LOOKBACK_S
from abeyance.ledger.verification import verify_log
from abeyance.moratorium.authorization_uses import USED
from abeyance.moratorium.changes import ChangeKind, classify
from abeyance.moratorium.document import parse
from abeyance.moratorium.proposals import change_digest
from abeyance.moratorium.subjects import FlagsChange
from abeyance.pipeline import events, topology
from abeyance.pipeline.events import Event
from abeyance.pipeline.lapse import emptied
from abeyance.pipeline.leftovers import face_id, review_key
from abeyance.pipeline.outbox import FINAL_EVENTS
from abeyance.pipeline.review_store import ReviewStore
from abeyance.pipeline.uploads import chips_key, result_key

#: Events that say that no template was made of their upload.
_NO_TEMPLATE = (events.RecognitionHalted, events.UploadHalted)


TENANT_IDS = ("acme", "springfield-police", "icmec", "newcomer")


def entries_of(world: World) -> list[LoggedEntry]:
    """Return the entries of the log, each once."""
    head = build.build_heads(world.settings, world.aws.client).read()
    objects = build.build_log_objects(world.settings, world.aws.client)
    return list(each_once(LogReader(objects, head.integrated).entries())) if head else []


def _verify(world: World) -> LedgerReport:
    objects = build.build_log_objects(world.settings, world.aws.client)
    policy = build.build_policy(world.settings, world.aws.client)
    now = datetime.fromtimestamp(world.clock.now_s, UTC)
    report = verify_log(objects, policy(read_identity(objects.get(LOG)).origin), now=now)
    # What is decided again after its record went back contradicts its first entry.
    accepted = range(report.size) if "uploads_table" in world.restored else ()
    return with_opened(report, open_log(objects, report.size, accepted=accepted))


def _sequenced(world: World) -> Iterator[str]:
    """Yield the keys of the batches that the head came by, the last first."""
    head = build.build_heads(world.settings, world.aws.client).read()
    key = head.batch if head else ""
    while key:
        yield key
        key = decode_start(world.aws.s3.buckets[world.settings.ledger_bucket][key].body).previous


class _Evidence:
    """Everything that is stored at the end of a seed."""

    def __init__(self, world: World) -> None:
        settings, client = world.settings, world.aws.client
        self.world = world
        self.gallery = build.build_gallery(settings, client)
        self.entries = entries_of(world)
        self.report = _verify(world) if self.entries else None
        self.batches = set(_sequenced(world))
        #: Upload identity -> stage -> the event that it recorded.
        self.recorded: dict[str, dict[str, Event]] = {}
        table = world.aws.dynamodb.tables[settings.uploads_table]
        for item in map(decode, table.all()):
            name = item["object"]
            if name.startswith("upload#"):
                self.recorded[name[7:]] = {
                    stage.removeprefix("stage_"): events.parse(*_split(text))
                    for stage, text in item.items()
                    if stage.startswith("stage_")
                }
        self.results = world.aws.s3.buckets[settings.results_bucket]
        self.chips = world.aws.s3.buckets[settings.chips_bucket]
        self.photos = world.photos

    def events(self) -> Iterator[Event]:
        for stages in self.recorded.values():
            yield from stages.values()

    def faces(self, ref: CollectionRef) -> list[Face]:
        try:
            return list(self.gallery.list_faces(ref).items)
        except CollectionNotFound:
            return []

    def all_faces(self) -> Iterator[tuple[CollectionRef, Face]]:
        for tenant in TENANT_IDS:
            for name in ALL_COLLECTIONS:
                ref = CollectionRef(tenant, name)
                yield from ((ref, face) for face in self.faces(ref))

    def pseudonym(self, text: str) -> str:
        key = build.read_secret(self.world.settings.pseudonym_key)
        return pseudonym(key, text)


def _split(text: str) -> tuple[str, object]:
    detail_type, detail = text.split("\n", 1)
    return detail_type, json.loads(detail)


def check(world: World) -> list[str]:
    """Return what does not hold, in words."""
    return _broken(world, INVARIANTS)


def check_restored(world: World) -> list[str]:
    """Return what does not hold after a table went back and the erasures were done again, in words.

    Uploads since the backup are lost to the table, so results, gallery and log need not agree any more.
    """
    return _broken(world, (_queues, _verified, _erased_stay_erased, _tenants))


def _broken(world: World, invariants: Sequence[Callable[[_Evidence], Iterator[str]]]) -> list[str]:
    evidence = _Evidence(world)
    found = list(world.violations)
    for invariant in invariants:
        found += invariant(evidence)
    return found


def _queues(evidence: _Evidence) -> Iterator[str]:
    """Nothing waits, and the dead-letter queues hold the poison alone."""
    for queue in evidence.world.aws.sqs.queues.values():
        for message in queue.messages:
            yield f"{queue.name} still holds {message.id}"
        for message in queue.dead:
            envelope = json.loads(message.body)
            if envelope.get("id") not in evidence.world.poison:
                yield f"{queue.name}: {envelope.get('detail-type')} died of {message.receives} deliveries"


def _latest(world: World) -> dict[str, Upload]:
    return {upload.key: upload for upload in world.uploads}


def _results(evidence: _Evidence) -> Iterator[str]:
    """Every upload that is the latest on its key has exactly one result, and it is its own; a deleted one has none."""
    expected = set()
    for key, upload in _latest(evidence.world).items():
        if upload.bucket == DOOR_BUCKET:
            continue  # see tests.simulation.doors
        place = result_key(key)
        result = evidence.results.get(place)
        if upload.body is None:
            if result is not None:
                yield f"{key} was deleted and has a result"
            continue
        expected.add(place)
        if result is None:
            yield f"{key} has no result"
        elif json.loads(result.body)["upload"]["sequencer"] != upload.sequencer:
            yield f"{key} has the result of another upload"
    for place in evidence.results.keys() - expected:
        if place.removesuffix(".json") not in _latest(evidence.world) and f"/s3:{DOOR_BUCKET}/" not in place:
            yield f"{place} is the result of nothing"


def _verified(evidence: _Evidence) -> Iterator[str]:
    """The log is whole: every entry is signed, nothing contradicts, and nothing was refused."""
    report = evidence.report
    if report is not None and report.verdict:
        yield f"the ledger does not verify: {report.why} {report.defects}"
    # What is decided again after its record went back has an entry already, with another time at least.
    wrong = {"refused"} if "uploads_table" in evidence.world.restored else {"refused", "conflict"}
    for entry in evidence.entries:
        if entry.type in wrong:
            yield f"the ledger has a {entry.type}: {entry.body}"


def _repeated(evidence: _Evidence) -> Iterator[str]:
    """A redelivery is recognised for as long as the ledger promises to look back."""
    world = evidence.world
    if world.skewed:
        return
    seen: dict[bytes, float] = {}
    for key, stored in sorted(world.aws.s3.buckets[world.settings.ledger_bucket].items()):
        if not key.startswith("sequenced/"):
            continue
        batch = decode_start(stored.body)
        if key not in evidence.batches:
            continue  # its sequencer was not the fastest, or died before the head moved
        for name, _ in batch.digests:
            before = seen.setdefault(name, batch.sequenced)
            if before != batch.sequenced and batch.sequenced - before < LOOKBACK_S:
                yield f"an entry came again after {batch.sequenced - before:.0f} s and was not recognised"


def _documents(evidence: _Evidence) -> Iterator[str]:
    """The documents that came into force by the product are on the ledger, by the digest that decisions name."""
    world = evidence.world
    known = {entry.body["flags"]: entry for entry in evidence.entries if entry.type == DOCUMENT}
    objects = world.aws.s3.buckets[world.settings.ledger_bucket]
    for _, documents in world.aws.appconfig.history[1:]:
        digest = parse(documents[0]).digest
        if digest not in known:
            yield "flags came into force whose document is not on the ledger"
            continue
        text = objects[f"blob/{known[digest].body['document']}"].body
        if parse(json.loads(text)).digest != digest:
            yield "the document on the ledger is not the one that came into force"


def _looked_up(evidence: _Evidence) -> Iterator[str]:
    """The lookup index has every entry once, as Athena reads it, and as a lookup does."""
    world = evidence.world
    objects = build.build_log_objects(world.settings, world.aws.client)
    size = evidence.report.size if evidence.report else 0
    files = [gzip.decompress(objects.get(key) or b"") for key in objects.keys(ENTRIES)]
    rows = [json.loads(line)["index"] for file in files for line in file.splitlines()]
    if sorted(rows) != list(range(size)):
        yield f"the lookup index has {len(rows)} rows for {size} entries"
    lookup = Lookup(objects, size)
    if sorted(entry.id for entry in lookup.entries(Query())) != sorted(one.id for one in evidence.entries):
        yield "a lookup finds other entries than the log has"
    for entry in evidence.entries[::7]:
        if lookup.find(entry.id) != entry.index:
            yield f"{entry.id} is not found by its id"


def _ledger(evidence: _Evidence) -> Iterator[str]:
    """The ledger has every recorded event once, and no other of ours."""
    ids = Counter(entry.id for entry in evidence.entries)
    recorded = {event.id for event in evidence.events()}
    for missing in recorded - ids.keys():
        yield f"{missing} is not on the ledger"
    known = set(events.BY_DETAIL_TYPE)
    for entry in evidence.entries:
        # The stage that withdraws one version of many records nothing; here there are no versions.
        if entry.type in known - {events.EventRefused.detail_type} and entry.id not in recorded:
            yield f"{entry.id} is on the ledger and was never recorded"


def _templates(evidence: _Evidence) -> Iterator[str]:
    """No template without its entry, and none where the ledger says that none was made."""
    indexed = {entry.body["photo"] for entry in evidence.entries if entry.type == "Faces Indexed"}
    denied: dict[str, str] = {}
    for event in evidence.events():
        if isinstance(event, _NO_TEMPLATE):
            denied[evidence.pseudonym(event.upload.photo)] = event.id
    for tenant in TENANT_IDS:
        for name in ALL_COLLECTIONS:
            for face in evidence.faces(CollectionRef(tenant, name)):
                if face.source is None:
                    continue  # The API's decision is on the ledger before it is acted on.
                source = face.source
                photo = events.Upload(
                    bucket=source.bucket, key=source.key, version=source.version, sequencer=""
                ).photo
                entry = evidence.pseudonym(photo)
                if entry not in indexed:
                    said = f", and {denied[entry]} says that none was made" if entry in denied else ""
                    yield f"a template of {face.source.key} has no entry{said}"


def _deleted(evidence: _Evidence) -> Iterator[str]:
    """What was deleted or replaced has left neither faces nor chips; what is there has its people and no others."""
    latest = _latest(evidence.world) | doors.same_before(evidence.world, evidence.recorded)
    world = evidence.world
    erased = {one for erasure in world.erasures for one in erasure.attempted} | world.deleted_faces
    # Those that came while an erasure was under way.
    noted = map(decode, world.aws.dynamodb.tables[world.settings.erasures_table].all())
    erased |= {item["sk"].removeprefix("face#") for item in noted if item["sk"].startswith("face#")}
    kept = set()
    for identity, stages in evidence.recorded.items():
        upload = next(iter(stages.values())).upload
        now = latest.get(upload.key)
        if isinstance(stages.get("gate"), events.UploadWithdrawn):
            continue  # A photo that came where no rule is in force any more; or a deletion, which has no body.
        if now is not None and now.body is not None and now.sequencer == upload.sequencer:
            last = stages.get("recognize")
            kept.add(f"{upload.folder}{identity}")
            if upload.action == "index":
                ref = CollectionRef(upload.tenant, upload.collection)
                found = [f for f in evidence.faces(ref) if f.source and f.source.key == upload.key]
                kept |= {f"{upload.folder}{_indexed_as(upload, face).identity}" for face in found}
                if now.face_ids & erased or ref in world.deleted_collections:
                    # The faces of an earlier upload of the same photo had their pictures in its chips.
                    same = (one for one in world.uploads if (one.key, one.body) == (now.key, now.body))
                    kept |= {f"{upload.folder}{one.upload.identity}" for one in same}
                wanted = len(now.people) if isinstance(last, events.FacesIndexed) else 0
                if not isinstance(last, events.FacesIndexed):
                    # Those of the same photo stay, where an earlier upload of it said so: see _templates.
                    found = [face for face in found if face.source and face.source.version != upload.version]
                gone = sum(face_id(upload, row) in erased for row in range(wanted))
                if isinstance(last, events.FacesIndexed):
                    # An erasure that came in the middle of the recognition has taken them out of the record.
                    gone = max(gone, sum(not face.face_id for face in last.faces))
                gone = wanted if ref in world.deleted_collections else gone
                if not wanted - gone <= len(found) <= wanted:
                    yield f"{upload.key} has {len(found)} faces in the gallery, not {wanted} less {gone}"
            if not any(isinstance(event, FINAL_EVENTS) for event in stages.values()):
                yield f"{upload.key} has no end"
    for ref in (CollectionRef(tenant, name) for tenant in TENANT_IDS for name in ALL_COLLECTIONS):
        for face in evidence.faces(ref):
            if face.source and face.source.key not in evidence.photos:
                yield f"a face of {face.source.key}, which was deleted, is in the gallery"
    for key in evidence.chips:
        if key.split(".")[0] not in kept:
            yield f"{key} is left of an upload that is not there any more"


def _indexed_as(upload: events.Upload, face: Face) -> events.Upload:
    """Return the upload that put the face into the gallery: an earlier one of the same photo, perhaps."""
    assert face.source
    return msgspec.structs.replace(upload, version=face.source.version, sequencer=face.source.sequencer)


def _erasures(evidence: _Evidence) -> Iterator[str]:
    """Every erasure comes to its end, and after it nothing that shows or names the person is left."""
    world = evidence.world
    open_items = list(world.aws.dynamodb.tables[world.settings.erasures_table].all())
    for item in map(decode, open_items):
        if item["pk"] == "open":
            yield f"the erasure {item['erasure']} never came to its end"
    for erasure in world.erasures:
        if not erasure.ended:
            yield f"the erasure of {erasure.named_by} {erasure.name} never came to its end"
            continue
    yield from _erased_stay_erased(evidence)
    receipts = [entry for entry in evidence.entries if entry.type == "person.erased"]
    requests = {
        entry.id.removesuffix(":asked") for entry in evidence.entries if entry.type == "person.erasing"
    }
    for receipt in receipts:
        if receipt.id.removesuffix(":done") not in requests:
            yield f"the receipt {receipt.id} has no request"


def _erased_stay_erased(evidence: _Evidence) -> Iterator[str]:
    """Nothing shows or names an erased person, but for photos that the gate permitted after the request."""
    world = evidence.world
    for erasure in world.erasures:
        again = {one for upload in world.uploads_since(erasure.asked_at_s) for one in upload.face_ids}
        gone = erasure.attempted - again
        if left := {face.id for face in evidence.faces(erasure.ref)} & gone:
            yield f"{len(left)} faces are left after the receipt for {erasure.named_by} {erasure.name}"
        yield from _named(evidence, gone)
        yield from _shown(evidence, gone)


def _named(evidence: _Evidence, erased: set[str]) -> Iterator[str]:
    """Yield the documents and records that name an erased face."""
    world = evidence.world
    tables, settings = world.aws.dynamodb.tables, world.settings
    texts = {f"result {key}": stored.body.decode() for key, stored in evidence.results.items()}
    texts |= {
        f"candidates {key}": stored.body.decode()
        for key, stored in evidence.chips.items()
        if key.endswith(".json")
    }
    for name in (settings.uploads_table, settings.reviews_table):
        texts |= {f"{name} {number}": repr(item) for number, item in enumerate(tables[name].all())}
    for place, text in texts.items():
        if any(face in text for face in erased):
            yield f"{place} names an erased face"


def _shown(evidence: _Evidence, erased: set[str]) -> Iterator[str]:
    """Yield the chips that show an erased face."""
    for stages in evidence.recorded.values():
        detected = stages.get("detect")
        if not isinstance(detected, events.FacesDetected):
            continue
        stored = evidence.chips.get(detected.chips)
        chips = [] if stored is None else decode_chips(stored.body, max_chips=1000)
        for row in range(len(chips)):
            if face_id(detected.upload, row) in erased and chips[row].any():
                yield f"a picture of an erased face is left: {detected.chips} {row}"


def _tenants(evidence: _Evidence) -> Iterator[str]:
    """Tenants see nothing of each other: every event, face and match is of the tenant of its key."""
    owners: dict[str, set[str]] = {}
    for event in evidence.events():
        if isinstance(event, events.FacesIndexed):
            for face in event.faces:
                owners.setdefault(face.face_id, set()).add(event.upload.tenant)
    for event in evidence.events():
        tenant = event.upload.tenant
        if event.upload.bucket != DOOR_BUCKET and tenant != event.upload.key.split("/")[0]:
            yield f"an event about {event.upload.key} says that it is of {tenant}"
        if isinstance(event, events.FacesMatched | events.MatchesReleased):
            for match in (match for face in event.faces for match in face.matches):
                if not owners.get(match.face_id, {tenant}) <= {tenant}:
                    yield f"a search of {tenant} shows a face of {owners[match.face_id]}"
    for tenant in TENANT_IDS:
        for name in ALL_COLLECTIONS:
            for stored in evidence.faces(CollectionRef(tenant, name)):
                if not stored.source or stored.source.bucket == DOOR_BUCKET:
                    continue
                if stored.source.key.split("/")[0] != tenant:
                    yield f"a collection of {tenant} has a face of {stored.source.key}"


def _decisions(evidence: _Evidence) -> Iterator[str]:
    """A decision names flags that were in force when it was made, or so shortly before that they may be cached."""
    world = evidence.world
    if world.skewed:
        return
    disturbed = world.faults.failed["appconfigdata"] > 0
    max_age_s = (world.settings.flags_max_age if disturbed else world.settings.flags_poll_interval) + 5.0
    history = [
        (start_s, {parse(document).digest for document in documents})
        for start_s, documents in world.aws.appconfig.history
    ]
    ends = [start_s for start_s, _ in history[1:]] + [float("inf")]
    for event in evidence.events():
        decision = getattr(event, "decision", None)
        if decision is None or decision.fault:
            continue
        at_s = datetime.fromisoformat(decision.as_of).timestamp()
        if not any(
            decision.digest in digests and start_s <= at_s + 1 and end_s > at_s - max_age_s
            for (start_s, digests), end_s in zip(history, ends, strict=True)
        ):
            yield f"{event.id} was decided by flags that were not in force at {decision.as_of}"


def _changes(evidence: _Evidence) -> Iterator[str]:
    """No change of the flags without its entry, and none that loosens without two people."""
    said: dict[str, set[str]] = {}
    for entry in evidence.entries:
        if entry.type.startswith("moratorium."):
            said.setdefault(str(entry.body.get("digest")), set()).add(entry.type)
            if entry.type == "moratorium.approved":
                agreed = [one["person"] for one in (entry.body["proposer"], *entry.body["approvers"])]
                if len(set(agreed)) < len(agreed):
                    yield "one person agreed twice"
    history = evidence.world.aws.appconfig.history
    seen = list(history[0][1])
    for (_, before), (moment_s, documents) in itertools.pairwise(history):
        new = documents[0]
        if new in before:
            continue
        on_ledger = said.get(change_digest(FlagsChange(new)), set())
        loosens = classify(parse(before[0]), parse(new), since=datetime.fromtimestamp(moment_s, UTC))
        # What nobody published in its time makes place for the document before it, which was agreed to.
        if not on_ledger & {"moratorium.tightened", "moratorium.applied"} and new not in seen:
            yield "flags came into force by a deployment that is not on the ledger"
        if (
            loosens.kind is ChangeKind.LOOSENING
            and "moratorium.approved" not in on_ledger
            and new not in seen
        ):
            yield "flags were loosened and nobody but one had agreed"
        seen.append(new)


def _swept(evidence: _Evidence) -> Iterator[str]:
    """Nothing is left of a deleted collection."""
    world = evidence.world
    partitions = world.aws.dynamodb.tables[world.settings.gallery_table].items
    alive = {
        f"{tenant}#{item['sk']['S'][2:]}#{item['generation']['S']}"
        for tenant in TENANT_IDS
        for item in partitions.get(tenant, {}).values()
        if item["sk"]["S"].startswith("C#")
    }
    for partition, items in partitions.items():
        if "#" in partition and partition not in alive and items:
            yield f"{len(items)} items of the deleted collection {partition} are left"


def _reviews(evidence: _Evidence) -> Iterator[str]:
    """No match is released without the judgements that it needs, and no review closes before they are on the ledger."""
    world = evidence.world
    judged = Counter(entry.body["review"] for entry in evidence.entries if entry.type == JUDGED)
    ids = {entry.id for entry in evidence.entries if entry.type == JUDGED}
    store = ReviewStore(DynamoTable(world.aws.client("dynamodb"), world.settings.reviews_table))
    for review in store.closed_reviews(10_000):
        if review.outcome == NOTHING_TO_REVIEW:
            continue
        for case in (found.case for found in store.cases(review.identity)):
            for judgement in () if case.void else case.judgements:
                if f"review:{review.identity}:{case.number}:{judgement.reviewer[:16]}" not in ids:
                    yield f"{review.identity} is closed, and a judgement of it is not on the ledger"
    for event in evidence.events():
        if isinstance(event, events.MatchesReleased) and judged[event.upload.identity] < event.reviewers:
            yield f"{event.id} was released with {judged[event.upload.identity]} judgements on the ledger"


def _authorizations(evidence: _Evidence) -> Iterator[str]:
    """No authorisation is used more often than it allows, and each request that relies on one has used it once."""
    world = evidence.world
    authorizations = build.build_authorizations(world.settings, world.aws.client)
    used = list(authorizations.uses.all())
    by_search = {use.search: use.number for use in used}
    if len(by_search) < len(used):
        yield "a request has used two authorisations"
    numbers = Counter(use.number for use in used)
    for order in authorizations.all():
        number, most = order.authorization.number, order.authorization.searches
        if not order.used == numbers[number] <= most:
            yield f"{number} was used {numbers[number]} times, is counted {order.used} times, and allows {most}"
    said = {
        entry.body["search"]: entry.body["authorization"] for entry in evidence.entries if entry.type == USED
    }
    if said != by_search:
        yield f"uses and their entries differ: {by_search} and {said}"
    for entry in evidence.entries:
        found = (entry.body.get("decision") or {}).get("authorization") or {}
        if found.get("state") == "used" and by_search.get(found["search"]) != found["number"]:
            yield f"{entry.id} names {found['number']}, which its request has not used"
    for late in authorizations.uses.late():
        yield f"the search {late.id} still waits for an authorisation"


def _lapsed(evidence: _Evidence) -> Iterator[str]:
    """Nothing is left of a search whose authorisation did not come, and the ledger says so."""
    world = evidence.world
    table = world.aws.dynamodb.tables[world.settings.authorizations_table]
    lapsed = {row["search"] for row in map(decode, table.all()) if row.get("state") == "lapsed"}
    standing = {
        event.upload.photo
        for identity, stages in evidence.recorded.items()
        for event in stages.values()
        if isinstance(event, events.FacesIndexed) and identity not in lapsed
    }
    for identity in lapsed:
        stages = evidence.recorded.get(identity, {})
        if not stages:
            continue
        upload = next(iter(stages.values())).upload
        if not isinstance(stages.get(topology.LAPSE.task), events.AuthorizationLapsed):
            yield f"{identity} lapsed and nothing says so"
        for kept in (chips_key(upload), review_key(upload)):
            if kept in evidence.chips:
                yield f"{kept} is left of a search that lapsed"
        for event in stages.values():
            if emptied(event) != event:
                yield f"{event.id} still says what was seen, and it lapsed"
        result = evidence.results.get(result_key(upload.key))
        if result is not None:
            said = json.loads(result.body)
            empty = {"Authorization Lapsed", "Recognition Halted", "Upload Halted", "Upload Rejected"}
            if said["upload"]["sequencer"] == upload.sequencer and said["event"] not in empty:
                yield f"{upload.key} lapsed and has the result {said['event']}"
        if upload.action == "index" and upload.photo not in standing:
            for face in evidence.faces(CollectionRef(upload.tenant, upload.collection)):
                source = face.source
                if source and (source.key, source.version) == (upload.key, upload.version):
                    yield f"a template of {upload.key} is left, and it lapsed"


def _doors(evidence: _Evidence) -> Iterator[str]:
    yield from doors.check(evidence.world, evidence)


INVARIANTS = (
    _doors,
    _queues,
    _results,
    _verified,
    _repeated,
    _documents,
    _looked_up,
    _ledger,
    _templates,
    _deleted,
    _erasures,
    _tenants,
    _decisions,
    _changes,
    _swept,
    _reviews,
    _authorizations,
    _lapsed,
)
