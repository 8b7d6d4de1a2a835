"""Access: decided and recorded before anything is read, and denied where anything fails."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from tests.fakes import InMemoryGallery, MemoryTable
from tests.tables import registry_of

from abeyance.gallery.search import Searcher
from abeyance.ledger.entry import Record, make_entry, read_opening
from abeyance.ledger.errors import LedgerUnavailable
from abeyance.moratorium.authorization import Authorization
from abeyance.moratorium.authorization_store import AuthorizationTable
from abeyance.moratorium.authorization_uses import UseTable
from abeyance.moratorium.document import parse
from abeyance.moratorium.guard import Guard
from abeyance.moratorium.simulate import Direction, simulate
from abeyance.moratorium.source import Snapshot
from abeyance.moratorium.tenants import Tenant
from abeyance.moratorium.vocabulary import PURPOSE_FORM
from abeyance.rekognition import wire
from abeyance.rekognition.access import MANAGED, NO_LEDGER, Access
from abeyance.rekognition.call import ApiRequest, ApiResponse
from abeyance.rekognition.operations import OPERATIONS, Services
from abeyance.rekognition.operations.services import EmbeddingModel
from abeyance.rekognition.photos import Photos
from abeyance.rekognition.service import Rekognition
from abeyance.vision.analysis import FaceAnalyzer

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
IMAGE = {"Bytes": base64.b64encode(b"pixels").decode()}
FACE = "02fc7f98-57d4-59e9-a67a-8b3633471b3a"
#: A valid request of each operation that needs a decision.
VIDEO: Any = {"S3Object": {"Bucket": "uploads", "Name": "acme/a.mp4"}}
GUARDED: dict[str, dict[str, Any]] = {
    "DetectFaces": {"Image": IMAGE},
    "CompareFaces": {"SourceImage": IMAGE, "TargetImage": IMAGE},
    "IndexFaces": {"CollectionId": "c", "Image": IMAGE},
    "SearchFaces": {"CollectionId": "c", "FaceId": FACE},
    "SearchFacesByImage": {"CollectionId": "c", "Image": IMAGE},
    "SearchUsers": {"CollectionId": "c", "FaceId": FACE},
    "SearchUsersByImage": {"CollectionId": "c", "Image": IMAGE},
    "AssociateFaces": {"CollectionId": "c", "UserId": "u", "FaceIds": [FACE]},
    "SearchFacesByTemplate": {"CollectionId": "c", "Template": [1.0], "FaceModelVersion": "m@0"},
    "GetFaceTemplate": {"CollectionId": "c", "FaceId": FACE},
    "ExportFaces": {"CollectionId": "c", "WithTemplates": True},
    "ImportFaces": {"CollectionId": "c", "FaceModelVersion": "m@0", "Faces": []},
    "ReembedFaces": {"CollectionId": "c", "TargetCollectionId": "d"},
    "StartFaceDetection": {"Video": VIDEO},
    "StartFaceSearch": {"CollectionId": "c", "Video": VIDEO},
}
PHOTO_ACTIONS = ("detect", "analyze", "compare", "index", "search")
ACTIONS = (*PHOTO_ACTIONS, "template_search", "template_export", "template_import")


def tenant(name: str, **more: Any) -> Tenant:
    fields: dict[str, Any] = {
        "sector": "commercial",
        "actions": ACTIONS,
        "purposes": ("unspecified",),
        **more,
    }
    return Tenant(id=name, jurisdiction="US", principals=(name,), **fields)


def flag(**more: Any) -> dict[str, Any]:
    return {
        "enabled": True,
        "effect": "halt",
        "actions": ["all"],
        "sectors": ["all"],
        "jurisdictions": ["all"],
        "starts": "2020-06-10T00:00:00Z",
        "on_expiry": "hold",
        "reason": "Halted by the council.",
        "source": "test",
        **more,
    }


class Ledger:
    """Keeps what it is given, checked as the ledger does; ``broken`` takes nothing."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.broken: Exception | None = None

    def put(self, record: Record) -> None:
        if self.broken:
            raise self.broken
        self.records.append(read_opening(make_entry(record, bytes(16)).opening).record())


def untouchable(*_: Any, **__: Any) -> Any:
    raise AssertionError("nothing may be read before it is permitted")


class NoStore:
    def __getattr__(self, name: str) -> Any:
        return untouchable


class World:
    """The service over fakes: flags that can be set, a ledger that can break, and things that may not be touched."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.values: dict[str, Any] = {}
        self.registry = registry_of(
            tenant("acme"),
            tenant("plain", actions=PHOTO_ACTIONS),
            tenant("paused", status="suspended"),
        )
        self.tenants: Any = self.registry
        self.gallery: Any = NoStore()
        self.s3: Any = NoStore()
        self.orders = MemoryTable()
        self.authorizations = AuthorizationTable(self.orders, UseTable(MemoryTable()), pause=lambda _: None)

    def current(self) -> Snapshot:
        raw = json.dumps(self.values)
        return Snapshot(flags=parse(raw), version="1", fetched_at=NOW, raw=raw.encode())

    def ask(
        self,
        operation: str,
        body: Any,
        principal: str = "acme",
        purpose: str = "unspecified",
        authorization: str = "",
        request_id: str = "r-1",
    ) -> ApiResponse:
        services = Services(
            gallery=self.gallery,
            searcher=Searcher(self.gallery),
            photos=Photos(self.s3, "uploads", self.registry.get, frozenset({"gallery"})),
            analyzer=FaceAnalyzer(untouchable, untouchable),
            embedder=untouchable,
            scale=untouchable,
            embedding_model=lambda: EmbeddingModel("m@0", 1),
            videos=NoStore(),
        )
        access = Access(
            Guard(self, self.tenants, lambda: NOW, authorizations=self.authorizations),
            self.tenants,
            self.ledger,
            lambda text: f"p{len(text)}",
            lambda: NOW,
        )
        request = ApiRequest(
            target=f"RekognitionService.{operation}",
            body=body if isinstance(body, bytes) else json.dumps(body).encode(),
            principal=principal,
            id=request_id,
            purpose=purpose,
            authorization=authorization,
        )
        return Rekognition(access, services)(request)


@pytest.fixture
def world() -> World:
    return World()


def error(answer: ApiResponse) -> tuple[str, str]:
    body = msgspec.json.decode(answer.body)
    assert answer.status == (500 if body["__type"] == "ThrottlingException" else 400)
    return body["__type"], body["Message"]


def test_table_covers_what_is_guarded() -> None:
    guarded = {name for name, entry in OPERATIONS.items() if entry.actions({"WithTemplates": True})}
    assert guarded == set(GUARDED)


@pytest.mark.parametrize("operation", sorted(GUARDED))
def test_a_halt_touches_nothing_and_is_recorded(world: World, operation: str) -> None:
    world.values = {"halt_all": flag()}
    assert error(world.ask(operation, GUARDED[operation])) == (
        "AccessDeniedException",
        "Halted by the council.",
    )
    record = world.ledger.records[0]
    assert record.type == "decision"
    assert record.body["operation"] == operation
    assert record.body["decision"]["outcome"] == "deny"
    assert record.body["decision"]["flags"][0]["key"] == "halt_all"
    assert record.body["decision"]["tenant"] == "acme"


@pytest.mark.parametrize("broken", [LedgerUnavailable("queue is down"), RuntimeError("anything")])
@pytest.mark.parametrize("operation", sorted(GUARDED))
def test_without_a_ledger_nothing_is_permitted(world: World, operation: str, broken: Exception) -> None:
    world.ledger.broken = broken
    assert error(world.ask(operation, GUARDED[operation])) == ("ThrottlingException", NO_LEDGER)


@pytest.mark.parametrize("operation", sorted(GUARDED))
def test_a_match_that_people_must_see_is_not_answered(world: World, operation: str) -> None:
    world.values = {"review": flag(effect="restrict", human_review=2)}
    matching = operation not in (
        *("DetectFaces", "IndexFaces", "ImportFaces", "ReembedFaces"),
        *("StartFaceDetection", "StartFaceSearch"),
    )
    answer = world.ask(operation, GUARDED[operation])
    record = world.ledger.records[-1]
    assert record.body["decision"]["outcome"] == "permit"
    if matching:
        name, message = error(answer)
        assert name == "AccessDeniedException"
        assert "2 independent reviewers" in message
        assert record.body["refused"] == "human_review"
    else:
        assert "refused" not in record.body


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_strangers_are_refused_and_recorded(world: World, operation: str) -> None:
    body = GUARDED.get(operation, {"CollectionId": "c", "UserId": "u", "FaceIds": [FACE]})
    members = wire.model().shapes[wire.model().operations[operation].input]["members"]
    answer = world.ask(operation, {name: value for name, value in body.items() if name in members}, "mallory")
    assert error(answer) == ("AccessDeniedException", "This tenant is not registered.")
    record = world.ledger.records[0]
    assert record.body["decision"]["clause"] == "unknown_tenant"
    assert record.body["principal"] == "p7"
    assert "mallory" not in msgspec.json.encode(record).decode()


@pytest.mark.parametrize("body", [b"{", {}, {"CollectionId": "!"}])
def test_strangers_learn_nothing_from_bad_requests(world: World, body: Any) -> None:
    assert error(world.ask("DescribeCollection", body, "mallory"))[0] == "AccessDeniedException"
    assert error(world.ask("NoSuchOperation", body, ""))[0] == "AccessDeniedException"


def test_the_suspended_cannot_even_list(world: World) -> None:
    assert error(world.ask("ListCollections", {}, "paused")) == (
        "AccessDeniedException",
        "This tenant is suspended.",
    )
    assert error(world.ask("DetectFaces", GUARDED["DetectFaces"], "paused"))[0] == "AccessDeniedException"
    assert [record.body["decision"]["tenant"] for record in world.ledger.records] == ["paused", "paused"]


def test_a_registry_out_of_reach_is_a_denial_that_passes(world: World) -> None:
    class Broken:
        def get(self, _: str) -> Any:
            raise ConnectionError

        by_principal = get

    world.tenants = Broken()
    for operation, body in (("ListCollections", {}), ("DetectFaces", GUARDED["DetectFaces"])):
        assert error(world.ask(operation, body))[0] == "ThrottlingException"
    assert {record.body["decision"]["outcome"] for record in world.ledger.records} == {"deny"}
    assert {record.body["decision"]["fault"] for record in world.ledger.records} == {"tenants_unavailable"}


def test_purposes_are_those_registered(world: World) -> None:
    answer = world.ask("DetectFaces", GUARDED["DetectFaces"], purpose="policing")
    assert error(answer)[0] == "AccessDeniedException"


@pytest.mark.parametrize("purpose", ["", "No Purpose", "policing\n", "x" * 100, "Missing_Children", "é"])
@pytest.mark.parametrize("operation", ["DetectFaces", "SearchUsers", "ListCollections"])
def test_a_badly_written_purpose_is_the_callers_mistake(world: World, operation: str, purpose: str) -> None:
    name, message = error(world.ask(operation, GUARDED.get(operation, {}), purpose=purpose))
    assert name == "InvalidParameterException"
    assert message.endswith(PURPOSE_FORM)
    assert world.ledger.records == []
    stranger = world.ask(operation, GUARDED.get(operation, {}), "mallory", purpose)
    assert error(stranger)[0] == "AccessDeniedException"
    assert {record.body["decision"]["fault"] for record in world.ledger.records} == {""}


def test_a_draft_is_tried_on_what_the_api_recorded(world: World) -> None:
    world.values = {"review": flag(effect="restrict", min_similarity=90)}
    for operation in sorted(GUARDED):
        world.ask(operation, GUARDED[operation])
    entries = [
        {"index": number, **msgspec.to_builtins(record)} for number, record in enumerate(world.ledger.records)
    ]
    replay = simulate(entries, parse({"halt": flag()}))
    assert replay.decisions == replay.replayed == len(entries) >= len(GUARDED)
    assert replay.count(Direction.NEWLY_DENIED) == len(entries)
    looser = simulate(entries, parse({}))
    assert looser.count(Direction.LESS_RESTRICTED) == len(entries)


@pytest.mark.parametrize(
    "operation", ["SearchFacesByTemplate", "GetFaceTemplate", "ExportFaces", "ImportFaces"]
)
def test_templates_are_off_unless_registered(world: World, operation: str) -> None:
    name, message = error(world.ask(operation, GUARDED[operation], "plain"))
    assert (name, "not registered" in message) == ("AccessDeniedException", True)


@pytest.mark.parametrize(
    ("operation", "body", "actions"),
    [
        ("DetectFaces", {"Image": IMAGE}, ["detect"]),
        ("DetectFaces", {"Image": IMAGE, "Attributes": ["DEFAULT"]}, ["detect"]),
        ("DetectFaces", {"Image": IMAGE, "Attributes": ["ALL", "DEFAULT"]}, ["analyze"]),
        ("DetectFaces", {"Image": IMAGE, "Attributes": ["SMILE"]}, ["analyze"]),
        ("IndexFaces", {"CollectionId": "c", "Image": IMAGE}, ["index"]),
        (
            "IndexFaces",
            {"CollectionId": "c", "Image": IMAGE, "DetectionAttributes": ["ALL"]},
            ["index", "analyze"],
        ),
    ],
)
def test_attributes_come_to_analysis(world: World, operation: str, body: Any, actions: list[str]) -> None:
    world.values = {"halt_all": flag()}
    world.ask(operation, body)
    assert [record.body["decision"]["action"] for record in world.ledger.records] == actions


def test_analysis_alone_can_be_halted(world: World) -> None:
    world.values = {"no_analysis": flag(actions=["analyze"])}
    body = {"CollectionId": "c", "Image": IMAGE, "DetectionAttributes": ["ALL"]}
    assert error(world.ask("IndexFaces", body)) == ("AccessDeniedException", "Halted by the council.")


@pytest.mark.parametrize("name", ["photos.jpg", "A" * 200])
def test_odd_collection_names_do_not_stop_the_ledger(world: World, name: str) -> None:
    world.values = {"halt_all": flag()}
    world.ask("SearchFaces", {"CollectionId": name, "FaceId": FACE})
    (record,) = world.ledger.records
    assert len(record.body["collection_sha256"]) == 64


def test_erasure_goes_on_under_a_halt(world: World) -> None:
    world.values = {"halt_all": flag()}
    world.gallery = InMemoryGallery()
    for operation, body in (
        ("CreateCollection", {"CollectionId": "c"}),
        ("CreateUser", {"CollectionId": "c", "UserId": "u"}),
        ("DeleteFaces", {"CollectionId": "c", "FaceIds": [FACE]}),
        ("DisassociateFaces", {"CollectionId": "c", "UserId": "u", "FaceIds": [FACE]}),
        ("DeleteUser", {"CollectionId": "c", "UserId": "u"}),
        ("DeleteCollection", {"CollectionId": "c"}),
    ):
        assert world.ask(operation, body).status == 200
        record = world.ledger.records[-1]
        assert (record.type, record.body["operation"], record.body["tenant"]) == (MANAGED, operation, "acme")
        assert "decision" not in record.body
    assert len(world.ledger.records) == 6


@pytest.mark.parametrize("operation", ["ListFaces", "DeleteFaces", "DeleteCollection"])
def test_a_call_that_cannot_be_put_on_the_ledger_does_nothing(world: World, operation: str) -> None:
    world.gallery = InMemoryGallery()
    world.ask("CreateCollection", {"CollectionId": "c"})
    world.ledger.broken = LedgerUnavailable("queue is down")
    body = {"CollectionId": "c", **({"FaceIds": [FACE]} if operation == "DeleteFaces" else {})}
    assert error(world.ask(operation, body)) == ("ThrottlingException", NO_LEDGER)
    world.ledger.broken = None
    assert world.ask("DescribeCollection", {"CollectionId": "c"}).status == 200


class FakeS3:
    """Says which keys it was asked for; answers with an error of AWS."""

    class exceptions:  # noqa: N801 - as boto3 names it
        class ClientError(Exception):
            def __init__(self, code: str) -> None:
                super().__init__(code)
                self.response = {"Error": {"Code": code}}

    def __init__(self, code: str) -> None:
        self.asked: list[str] = []
        self._code = code

    def get_object(self, **request: Any) -> Any:
        self.asked.append(request["Key"])
        raise self.exceptions.ClientError(self._code)


@pytest.mark.parametrize(
    "key",
    [
        "globex/a",
        "acme",
        "acmeother/a",
        "/acme/a",
        "acme/../globex/a",
        "acme/./a",
        "globex/acme/a",
        "ACME/a",
    ],
)
def test_only_ones_own_prefix_is_asked_for(world: World, key: str) -> None:
    world.s3 = FakeS3("NoSuchKey")
    image = {"S3Object": {"Bucket": "uploads", "Name": key}}
    assert error(world.ask("DetectFaces", {"Image": image}))[0] == "InvalidS3ObjectException"
    assert world.s3.asked == []


@pytest.mark.parametrize(
    ("code", "status", "name"),
    [
        ("NoSuchKey", 400, "InvalidS3ObjectException"),
        ("AccessDenied", 400, "InvalidS3ObjectException"),
        ("SlowDown", 500, "ThrottlingException"),
        ("InternalError", 500, "InternalServerError"),
    ],
)
def test_what_s3_says(world: World, code: str, status: int, name: str) -> None:
    world.s3 = FakeS3(code)
    answer = world.ask("DetectFaces", {"Image": {"S3Object": {"Bucket": "uploads", "Name": "acme/a"}}})
    assert (answer.status, msgspec.json.decode(answer.body)["__type"]) == (status, name)
    assert b"acme" not in answer.body


def test_unforeseen_errors_tell_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    class Leaky:
        def __getattr__(self, _: str) -> Callable[..., Any]:
            def fail(*_: Any, **__: Any) -> Any:
                raise KeyError("secret")

            return fail

    world.gallery = Leaky()
    answer = world.ask("ListCollections", {})
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert msgspec.json.decode(answer.body)["__type"] == "InternalServerError"
    assert "request failed" in caplog.text


def test_a_search_uses_an_authorisation_and_names_it(world: World) -> None:
    order = Authorization(
        tenant="acme",
        number="26-CR-1",
        issuer="A court",
        purposes=("unspecified",),
        place="US",
        collection="c",
        starts="2000-01-01T00:00:00Z",
        ends="2100-01-01T00:00:00Z",
        searches=1,
    )
    world.orders.transact([world.authorizations.register(order, NOW)])
    world.values = {"a": flag(exempt_purposes=["unspecified"], authorization_required=True)}
    body = {"CollectionId": "c", "FaceId": "00000000-0000-0000-0000-000000000000"}

    def asked(**options: Any) -> tuple[Any, ...]:
        world.ledger.records.clear()
        world.ask("SearchFaces", body, **options)
        decision = world.ledger.records[0].body["decision"]
        use = decision["authorization"]
        return decision["clause"], use["state"], use.get("number", ""), use.get("refused", "")

    refused = "authorization_required", "refused"
    assert asked(authorization="26-CR-2", request_id="r-1") == (*refused, "26-CR-2", "unknown")
    assert asked(authorization="26-CR-1", request_id="r-2") == ("authorized", "used", "26-CR-1", "")
    assert asked(request_id="r-2") == ("authorized", "used", "26-CR-1", "")
    assert asked(authorization="26-CR-1", request_id="r-3") == (*refused, "26-CR-1", "used_up")
    assert asked(request_id="r-3") == (*refused, "", "none_applies")


def test_an_authorisation_that_is_badly_written_or_late_is_an_invalid_parameter(world: World) -> None:
    for named in ("late", "26 CR 1"):
        answer = world.ask(
            "SearchFaces",
            {"CollectionId": "c", "FaceId": "00000000-0000-0000-0000-000000000000"},
            authorization=named,
        )
        assert error(answer)[0] == "InvalidParameterException"
