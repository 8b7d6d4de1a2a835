"""Moratoria, proposals, the ledger and galleries, page by page."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import urljoin

import msgspec
import pytest
from flask import url_for

from abeyance.aws.dynamodb import DynamoTable
from abeyance.aws.timestamps import utc_now
from abeyance.console import ledger
from abeyance.deployment.parts import build_log_objects, build_policy
from abeyance.gallery.model import CollectionRef
from abeyance.ledger.defects import LogVerdict
from abeyance.ledger.documents import DOCUMENT
from abeyance.ledger.entry import Record
from abeyance.ledger.identity import LOG, read_identity
from abeyance.ledger.objects import DirectoryObjects
from abeyance.ledger.opened import open_log
from abeyance.ledger.receipts import check_receipt
from abeyance.ledger.recent import RecentIds
from abeyance.ledger.verification import verify_log
from abeyance.moratorium.decide import Request, decide
from abeyance.moratorium.errors import MoratoriumError
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.publish import FilePublisher
from abeyance.moratorium.subjects import GuardrailsChange
from abeyance.moratorium.tenants import TenantTable
from abeyance.moratorium.tokens import MadeUpTokens

from .conftest import MODEL, World, restrict


def decided(world: World, tenant: str, number: int = 1) -> None:
    """Write decisions of this moment to the ledger."""
    registered = TenantTable(DynamoTable(world.local.client("dynamodb"), world.settings.tenants_table)).get(
        tenant
    )
    request = Request(tenant=registered, tenant_id=tenant, action="search", purpose="unspecified")
    decision = decide(request, world.flags.read_bytes(), utc_now())
    body = {"decision": msgspec.to_builtins(decision)}
    now = utc_now().isoformat().replace("+00:00", "Z")
    first = len(world.entries())
    world.append(*(Record(id=f"d:{first + n}", type="decision", time=now, body=body) for n in range(number)))


def test_moratoria_in_force_are_at_the_top_of_every_page(world: World) -> None:
    for who, path in (("ada", "/console/review"), ("edda", "/console/ledger"), ("clara", "/console/nowhere")):
        head = world.browser(who).get(path).text.split("<main", 1)[0]
        assert "In force now: 2 moratoria" in head
        assert "police_halt" in head
        assert "until further notice" in head
        assert "since <time>2020-06-10</time>" in head
    world.flags.write_text("[]")
    assert "Every request is denied." in world.browser("ada").get("/console/review").text


def test_one_request_is_explained(world: World) -> None:
    clara = world.browser("clara")
    denied = clara.get(
        "/console/moratoria/explain?tenant=springfield-police&action=search&purpose=unspecified"
    )
    assert "<h1>Denied</h1>" in denied.text
    assert "police_halt halts it" in denied.text
    before = clara.get("/console/moratoria/explain?tenant=springfield-police&action=search&at=2020-06-09")
    assert "<h1>Permitted</h1>" in before.text
    assert clara.get("/console/moratoria/explain?tenant=acme&action=search&at=tomorrow").status_code == 409
    assert clara.get("/console/moratoria/timeline.svg").content_type.startswith("image/svg+xml")


def test_one_officer_puts_the_brake_on_and_two_take_it_off(world: World) -> None:
    clara, david = world.browser("clara"), world.browser("david")
    assert 'href="/console/brake"' in clara.get("/console/moratoria").text
    assert 'href="/console/brake"' not in world.browser("edda").get("/console/moratoria").text
    form = {"key": "stop_search", "reason": "An error was found.", "sector": "commercial", "action": "search"}
    assert world.browser("edda").post("/console/brake", **form).status_code == 403
    for wrong in ({"key": "Stop"}, {"reason": ""}, {"sector": "nobody"}, {"place": "Atlantis"}):
        refused = clara.post("/console/brake", **{**form, **wrong})
        assert refused.status_code == 409, wrong
    page = clara.get(clara.post("/console/brake", **form).headers["Location"]).text
    assert "The change is deployed" in page
    assert "brake:stop_search" in page
    denied = clara.get("/console/moratoria/explain?tenant=acme&action=search")
    assert "<h1>Denied</h1>" in denied.text
    assert "<h1>Permitted</h1>" in clara.get("/console/moratoria/explain?tenant=acme&action=index").text
    assert clara.post("/console/brake", **form).status_code == 409
    assert clara.post("/console/brake/other/release", note="Over.").status_code == 409

    there = clara.post("/console/brake/stop_search/release", note="Mended.").headers["Location"]
    assert "stop_search" in clara.get("/console/brake").text
    proposal = world.services.policy.changes.get(there.rpartition("/")[2])
    assert clara.post(f"{there}/approve", digest=proposal.digest).status_code == 409
    assert "Mended." in david.get(there).text
    assert david.post(f"{there}/approve", digest=proposal.digest).status_code == 303
    assert "stop_search" not in clara.get("/console/brake").text
    assert "<h1>Permitted</h1>" in clara.get("/console/moratoria/explain?tenant=acme&action=search").text


def test_a_claim_is_proved_or_contradicted(world: World) -> None:
    clara = world.browser("clara")
    ask = "/console/moratoria/prove?claim="
    holds = clara.get(
        ask + "deny+law_enforcement+search+in+PR+unless+missing_children,human_trafficking"
    ).text
    assert "<h1>The claim holds</h1>" in holds
    found = clara.get(ask + "deny law_enforcement search in US").text
    assert "<h1>The claim does not hold</h1>" in found
    assert "may search for human trafficking or missing children" in found
    refused = clara.get(ask + "deny <b>police</b>")
    assert refused.status_code == 409
    assert "this is not a claim" in refused.text
    assert "<b>police" not in refused.text


def test_a_proposal_shows_everything_that_it_could_ever_change(world: World) -> None:
    clara = world.browser("clara")
    lifted = clara.get("/console/proposals/new?switch=police_halt&on=0").text
    assert "Newly permitted" in lifted
    assert "everything by law enforcement, law enforcement support anywhere: any tenant but" in lifted
    assert "Newly denied" not in lifted
    unchanged = clara.get("/console/proposals/new").text
    assert "Nobody, anywhere, is permitted or denied anything else." in unchanged


def test_a_proposal_shows_its_guardrails_and_the_proofs(world: World) -> None:
    claim = "deny law_enforcement search in US unless missing_children, human_trafficking"
    rails = {"version": "1", "guardrails": {"police": {"claim": claim, "reason": "R.", "source": "S"}}}
    client = world.services.policy.changes
    now_s = utc_now().timestamp()
    people = [
        client.on_behalf_of(MadeUpTokens("key").make(f"{name}@local", ("policy_officer",), now_s))
        for name in ("clara", "david", "erin")
    ]
    made = people[0].submit(GuardrailsChange(rails))
    david = world.browser("david")
    page = david.get(f"/console/proposals/{made.id}").text
    assert "checked against these guardrails" in page
    assert f"<strong>Holds</strong>: <code>police</code>, <code>{claim}</code>" in page
    assert "2 of 3 people" in page
    assert david.post(f"/console/proposals/{made.id}/approve", digest=made.digest).status_code == 303
    assert "1 of 3 people" in david.get(f"/console/proposals/{made.id}").text
    assert people[2].approve(made.id, made.digest).state == "applied"
    draft = david.get("/console/proposals/new?switch=police_halt&on=0").text
    assert "<strong>Broken</strong>: <code>police</code>" in draft
    assert "Any tenant of the sector law enforcement" in draft
    assert "cannot be approved by anybody" in draft
    assert "Propose for approval" not in draft
    tighter = david.get("/console/proposals/new?preset=ibm-2020").text
    assert "<strong>Holds</strong>: <code>police</code>" in tighter
    assert "cannot be approved" not in tighter


def test_two_people_are_needed_to_loosen(world: World) -> None:
    decided(world, "springfield-police", 3)
    decided(world, "acme")
    clara, david = world.browser("clara"), world.browser("david")
    draft = clara.get("/console/proposals/new?switch=police_halt&on=0")
    assert "This <strong>loosens</strong>" in draft.text
    assert "police_halt goes out of force. It was: halt everything by law enforcement" in draft.text
    assert "3 newly permitted, 0 newly denied" in draft.text
    assert "Deploy now" not in draft.text
    text = json.dumps(
        {
            **restrict(),
            "values": {
                **restrict()["values"],
                "police_halt": {**restrict()["values"]["police_halt"], "enabled": False},
            },
        }
    )
    refused = clara.post("/console/proposals", document=text, note="because", do="at_once")
    assert refused.status_code == 409
    made = clara.post("/console/proposals", document=text, note="because", do="propose").location
    assert "You have agreed to this" in clara.get(made).text
    digest = clara.get(made).text.split('name="digest" value="')[1][:64]
    own = clara.post(f"{made}/approve", digest=digest)
    assert (own.status_code, "their own" in own.text) == (409, True)
    david.get(made)
    assert david.post(f"{made}/approve", digest="0" * 64).status_code == 409
    assert "police_halt" in world.browser("ada").get("/console/review").text
    assert david.post(f"{made}/approve", digest=digest).status_code == 303
    assert "applied" in david.get(made).text
    assert "police_halt" not in world.browser("ada").get("/console/review").text
    types = world.write_ledger()
    assert [
        one for one in types if one.startswith("moratorium") and one not in ("moratorium.adopted", DOCUMENT)
    ] == [
        "moratorium.proposed",
        "moratorium.refused",
        "moratorium.refused",
        "moratorium.approved",
        "moratorium.applied",
    ]


def test_a_failed_deployment_can_be_repeated(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clara, david = world.browser("clara"), world.browser("david")
    document = restrict()
    document["values"]["police_halt"]["enabled"] = False
    clara.get("/console/proposals")
    made = clara.post("/console/proposals", document=json.dumps(document), note="x", do="propose").location
    digest = david.get(made).text.split('name="digest" value="')[1][:64]
    with monkeypatch.context() as broken:
        broken.setattr(FilePublisher, "deploy", Mock(side_effect=MoratoriumError("the disk is full")))
        failed = david.post(f"{made}/approve", digest=digest)
        assert (failed.status_code, "the disk is full" in failed.text) == (409, True)
    assert "its deployment failed" in david.get(made).text
    assert "Deploy again" not in world.browser("edda").get(made).text
    assert david.post(f"{made}/retry").status_code == 303
    assert "Deploy again" not in david.get(made).text
    assert david.post(f"{made}/retry").status_code == 409
    assert [one for one in world.write_ledger() if one != "moratorium.adopted"] == [
        "moratorium.proposed",
        "moratorium.approved",
        "moratorium.applied",
        "moratorium.failed",
        "moratorium.refused",
    ]


def test_changes_of_the_flags_in_force_are_not_counted_as_the_drafts(world: World) -> None:
    decided(world, "springfield-police", 2)
    lifted = restrict()
    lifted["values"]["police_halt"]["enabled"] = False
    world.write_flags(lifted)
    clara = world.browser("clara")
    other = clara.get("/console/proposals/new?preset=san-francisco-2019").text
    assert "0 newly permitted, 0 newly denied" in other
    assert "2 more would change, but the flags in force already change them." in other
    back = clara.get("/console/proposals/new?switch=police_halt&on=1").text
    assert "2 that the flags in force change would be again as recorded." in back


def test_tightening_is_deployed_at_once(world: World) -> None:
    world.write_flags(new_deployment())
    clara = world.browser("clara")
    draft = clara.get("/console/proposals/new?preset=san-francisco-2019")
    assert "This <strong>tightens</strong>" in draft.text
    document = json.dumps(restrict())
    assert clara.post("/console/proposals", document=document, note="now", do="at_once").status_code == 303
    assert "review" in clara.get("/console/moratoria?done=1").text
    assert world.write_ledger()[-1] == "moratorium.tightened"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": "1"}', json.dumps(restrict(human_review="many"))]
)
def test_an_invalid_document_is_refused_with_the_reason(world: World, text: str) -> None:
    clara = world.browser("clara")
    clara.get("/console/proposals")
    assert "not valid" in clara.post("/console/proposals/preview", document=text).text
    assert clara.post("/console/proposals", document=text, note="x", do="propose").status_code == 409
    assert clara.get("/console/proposals/new?switch=nothing&on=0").status_code == 409
    assert clara.get("/console/proposals/new?preset=nothing").status_code == 409


def test_a_withdrawn_proposal_stays_on_the_list(world: World) -> None:
    clara = world.browser("clara")
    clara.get("/console/proposals")
    made = clara.post(
        "/console/proposals", document=json.dumps(restrict(human_review=3)), note="x", do="propose"
    ).location
    clara.get(made)
    assert clara.post(f"{made}/withdraw").status_code == 303
    assert "withdrawn" in world.browser("edda").get("/console/proposals").text


def test_the_ledger_is_searched_newest_first_and_page_by_page(world: World) -> None:
    decided(world, "acme", 60)
    decided(world, "springfield-police", 2)
    edda = world.browser("edda")
    first = edda.get("/console/ledger")
    assert "its end is not signed yet" in first.text
    assert first.text.count("<tr><td") == ledger.PAGE_ENTRIES
    assert "before=12" in first.text
    older = edda.get("/console/ledger?before=12")
    assert older.text.count("<tr><td") == 12
    denied = edda.get("/console/ledger?outcome=deny&tenant=springfield-police&flag=police_halt&action=search")
    assert denied.text.count("<tr><td") == 2
    assert edda.get("/console/ledger?flag=nothing").text.count("<tr><td") == 0
    assert edda.get("/console/ledger?before=abc").status_code == 200
    world.sign()
    assert "The log is whole." in edda.get("/console/ledger").text


def test_an_entry_that_was_redelivered_too_late_is_shown_once(world: World) -> None:
    decided(world, "acme", 3)
    again = world.entries()[1]
    RecentIds.find, find = lambda *_: None, RecentIds.find  # type: ignore[method-assign,assignment]
    try:
        world.append(Record(id=again.id, type=again.type, time=again.time, body=again.body))
    finally:
        RecentIds.find = find  # type: ignore[method-assign]
    edda = world.browser("edda")
    assert edda.get("/console/ledger").text.count("<tr><td") == 3


def test_an_entry_comes_with_a_receipt_that_anybody_can_check(world: World) -> None:
    decided(world, "acme", 5)
    edda = world.browser("edda")
    assert "There is no receipt yet:" in edda.get("/console/ledger/3").text
    assert edda.get("/console/ledger/3.tlog-proof").status_code == 503
    world.sign()
    assert "Proven: entry 3 is on the log" in edda.get("/console/ledger/3").text
    origin = read_identity(build_log_objects(world.settings, world.local.client).get(LOG)).origin
    policy = build_policy(world.settings, world.local.client)(origin)
    sent = edda.get("/console/ledger/3.tlog-proof")
    report = check_receipt(sent.text, policy)
    assert (report.ok, report.index, report.size) == (True, 3, 5)
    assert report.fields["body.decision.tenant"] == "acme"
    assert edda.get("/console/ledger/5").status_code == 404
    assert edda.get("/console/ledger/5.tlog-proof").status_code == 404


def test_an_export_in_pieces_is_the_log(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "PIECE_ENTRIES", 256)
    edda, export = world.browser("edda"), tmp_path / "export"
    assert edda.get("/console/ledger/export/0").status_code == 503
    for _ in range(3):
        decided(world, "acme", 200)
        world.sign()
    assert "Export in 3 pieces" in edda.get("/console/ledger").text
    for piece in range(3):
        answer = edda.get(f"/console/ledger/export/{piece}")
        assert answer.headers["Content-Disposition"].startswith("attachment")
        with zipfile.ZipFile(io.BytesIO(answer.data)) as file:
            assert not {name for name in file.namelist() if (export / name).exists()}
            file.extractall(export)
    assert edda.get("/console/ledger/export/3").status_code == 404
    objects = DirectoryObjects(export)
    policy = build_policy(world.settings, world.local.client)(read_identity(objects.get(LOG)).origin)
    report = verify_log(objects, policy, now=utc_now())
    assert (report.verdict, report.signed, report.checkpoints) == (LogVerdict.WHOLE, 600, 3), report
    assert open_log(objects, report.size).opened == 600


def test_a_tampered_ledger_is_red_and_names_the_entry(world: World) -> None:
    decided(world, "acme", 5)
    world.sign()
    client, key = world.local.client("s3"), "tile/entries/000.p/5"
    bundle = client.get_object(Bucket=world.settings.ledger_bucket, Key=key)["Body"].read()
    changed = bundle.replace(b'"body.decision":"', b'"body.decision":"A', 1)[:-1]
    client.put_object(Bucket=world.settings.ledger_bucket, Key=key, Body=changed)
    edda = world.browser("edda")
    page = edda.get("/console/ledger").text
    assert 'class="answer bad"' in page
    assert "The log is broken" in page
    assert "rewritten" in page
    assert edda.get("/console/ledger/2.tlog-proof").status_code == 503


def test_a_long_ledger_shows_its_last_verification(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "VERIFIED_ON_OPEN_ENTRIES", 3)
    decided(world, "acme", 4)
    edda = world.browser("edda")
    assert "The ledger has not been verified yet." in edda.get("/console/ledger").text
    edda.post("/console/ledger/verify")
    decided(world, "acme", 4)
    page = edda.get("/console/ledger").text
    assert "4 entries verified" in page


def test_galleries_and_erasure_with_a_receipt(world: World) -> None:
    world.enrol("jane")
    clara, edda = world.browser("clara"), world.browser("edda")
    assert ">staff</a>" in edda.get("/console/galleries").text
    assert "erase a person" not in edda.get("/console/galleries/acme/staff").text
    assert "erase a person" in clara.get("/console/galleries/acme/staff").text
    address = "/console/galleries/acme/staff"
    assert clara.post(f"{address}/find", by="external_image_id", name="nobody").status_code == 404
    assert clara.post(f"{address}/find", by="anything", name="jane").status_code == 409
    found = clara.post(f"{address}/find", by="external_image_id", name="jane").text
    assert "1 face and 0 users" in found
    assert "1 photo in the uploads bucket" in found
    sent = clara.post(f"{address}/view.json", by="external_image_id", name="jane")
    assert sent.headers["Content-Disposition"].startswith("attachment")
    assert [face["external_image_id"] for face in json.loads(sent.data)["faces"]] == ["jane"]
    assert edda.post(f"{address}/view.json", by="external_image_id", name="jane").status_code == 403
    assert clara.post(f"{address}/erase", by="external_image_id", name="jane").status_code == 409
    done = clara.post(f"{address}/erase", by="external_image_id", name="jane", sure="yes").text
    receipt = done.split('<code class="long">')[1].split("<")[0]
    world.write_ledger()
    assert receipt in {entry.id for entry in world.entries()}
    assert clara.post(f"{address}/find", by="external_image_id", name="jane").status_code == 404


@pytest.mark.parametrize("name", [".", "..", "...", "-"])
def test_the_page_of_a_collection_that_looks_like_a_path(world: World, name: str) -> None:
    ref = CollectionRef("acme", name)
    world.gallery.create_collection(ref, model=MODEL, dimension=512)
    clara = world.browser("clara")
    (address,) = re.findall(rf'href="([^"]+)">{re.escape(name)}</a>', clara.get("/console/galleries").text)
    # As a browser resolves it.
    assert urljoin("http://127.0.0.1/console/galleries", address).endswith(address)
    page = clara.get(address).text
    assert f"<h1>{name} " in page
    assert f'action="{address}/find"' in page
    assert clara.post(f"{address}/find", by="external_image_id", name="nobody").status_code == 404
    with world.app.test_request_context():
        assert url_for("galleries.collection", tenant="acme", name="staff") == "/console/galleries/acme/staff"


def test_moratoria_at_the_ends_of_the_calendar(world: World) -> None:
    document = restrict(starts="0001-01-01T00:00:00Z", ends="9999-12-31T23:59:59Z")
    document["values"]["police_halt"] |= {"starts": "9999-12-31T23:59:58Z", "ends": "9999-12-31T23:59:59Z"}
    world.flags.write_text(json.dumps(document))
    clara = world.browser("clara")
    assert "0001-01-01" in clara.get("/console/moratoria").text
    assert clara.get("/console/moratoria/timeline.svg").status_code == 200
    asked = "/console/moratoria/explain?tenant=acme&action=search&purpose=unspecified&at="
    for at in ("0001-01-01", "9999-12-31T23:59:58Z"):
        assert "review by 2" in clara.get(asked + at).text
    refused = clara.get(f"{asked}0001-01-01T00:00:00%2B14:00")
    assert (refused.status_code, "Write a date like this" in refused.text) == (409, True)


def test_accuracy(world: World) -> None:
    page = world.browser("edda").get("/console/accuracy").text
    assert "How the rates were measured" in page
    assert "1 in 1\u202f000" in page
