"""The console end to end: real uploads, real functions, a real browser."""

from __future__ import annotations

import io
import zlib
from typing import Any

import pytest
from PIL import Image, ImageDraw

from abeyance.local.system import LocalSystem

from .conftest import SCREENSHOTS, Visit, Visitor, put, result, wait_for


def placeholder(route: Any) -> None:
    """Answer with a drawn face, so that screenshots show no real one."""
    seed = zlib.crc32(route.request.url.rsplit("/", 1)[-1].encode()) % 40
    picture = Image.new("RGB", (112, 112), (214, 218, 222))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((22, 8, 90, 108), fill=(222, 184, 150), outline=(120, 90, 70), width=2)
    draw.pieslice((18, 0, 94, 76), 180, 360, fill=(70 + seed, 60, 50))
    for left in (36, 64):
        draw.ellipse((left, 46, left + 12, 54), fill="white", outline=(60, 50, 40))
        draw.ellipse((left + 4, 47, left + 9, 53), fill=(50, 60, 80))
    draw.line((56, 54, 52, 72, 58, 73), fill=(120, 90, 70), width=2)
    draw.arc((42, 74, 70, 94), 20, 160, fill=(150, 60, 60), width=3)
    body = io.BytesIO()
    picture.save(body, "PNG")
    route.fulfill(body=body.getvalue(), content_type="image/png")


def judge_with_keys(visitor: Visitor, name: str) -> None:
    """Judge a comparison with the keyboard only."""
    page = visitor.page
    if SCREENSHOTS:
        page.route("**/probe.png", placeholder)
        page.route("**/candidate.png", placeholder)
    page.get_by_role("button", name="Next comparison").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/review/*/*")
    assert "Is this one person?" in visitor.text()
    for picture in page.locator("figure img").all():
        assert picture.evaluate("one => one.complete && one.naturalWidth") == 112
    visitor.check_page(name)
    page.locator("#main").focus()
    page.keyboard.press("1")
    assert page.get_by_label("Same person").is_checked()
    page.keyboard.press("b")
    page.keyboard.type("facial")
    page.keyboard.press("Tab")
    page.keyboard.type("123 looks alike")
    assert page.get_by_label("Same person").is_checked()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/review?none=1")


def test_two_reviewers_judge_and_the_match_is_released(
    system: LocalSystem, visit: Visit, portrait: bytes
) -> None:
    key = "acme/search/staff/<b>visitor</b>.png"
    first = put(system, key, portrait)
    assert (first["event"], first["reviewers"]) == ("Faces Matched", 2)
    assert all(face["matches"] == [] for face in first["faces"])
    ada = visit("Ada")
    wait_for(lambda: "1 comparison waits" in (ada.page.goto(ada.page.url) and ada.text()))
    ada.check_page("queue")
    judge_with_keys(ada, "compare")
    assert result(system, key)["event"] == "Faces Matched"
    ben = visit("Ben")
    judge_with_keys(ben, "compare-second")
    released = result(system, key)
    assert released["event"] == "Matches Released"
    assert released["faces"][0]["matches"][0]["external_image_id"] == "worker.png"
    system.drain(30)
    edda = visit("Edda")
    edda.go("/review")
    assert "Matches Released" in edda.text()
    edda.check_page("reviews")
    edda.page.locator("main a").first.click()
    assert edda.text().count("facial features") == 2
    edda.check_page("outcome")
    edda.go("/ledger?type=review.judged")
    assert edda.page.locator("tbody tr").count() == 2


def test_a_halt_is_lifted_by_two_and_the_next_upload_is_permitted(
    system: LocalSystem, visit: Visit, portrait: bytes
) -> None:
    assert put(system, "springfield-police/index/cases/a.png", portrait)["event"] == "Upload Halted"
    clara, david = visit("Clara"), visit("David")
    clara.go("/proposals")
    clara.check_page("proposals")
    clara.click("Switch off police_halt")
    assert "This loosens" in clara.text()
    assert "1 newly permitted" in clara.text()
    clara.check_page("draft")
    clara.page.get_by_label("Reason").fill("The council has decided so")
    clara.click("Propose for approval")
    assert "another person must approve" in clara.text()
    address = clara.page.url
    clara.click("Approve this change")
    assert "nobody approves their own proposal" in clara.text()
    clara.check_page("refused")
    clara.complaints.clear()  # the browser notes the refusal as an error of the network
    assert "police_halt" in david.page.locator(".force").inner_text()
    david.page.goto(address)
    david.check_page("proposal")
    david.click("Approve this change")
    assert "applied" in david.text()
    assert "police_halt" not in david.page.locator(".force").inner_text()
    assert put(system, "springfield-police/index/cases/b.png", portrait)["event"] == "Faces Indexed"


def test_a_person_is_erased_and_the_receipt_is_on_the_ledger(
    system: LocalSystem, visit: Visit, portrait: bytes
) -> None:
    put(system, "acme/index/leavers/gone.png", portrait)
    clara = visit("Clara")
    clara.go("/galleries")
    clara.check_page("galleries")
    clara.click("leavers")
    clara.page.get_by_label("Find by").select_option("external_image_id")
    clara.page.get_by_label("Name", exact=True).fill("gone.png")
    clara.click("Find")
    assert "1 face and 0 users" in clara.text()
    clara.check_page("erase")
    clara.page.get_by_label("I confirm").check()
    clara.click("Erase")
    assert "The receipt is on the ledger" in clara.text()
    clara.check_page("erased")
    system.drain(30)
    edda = visit("Edda")
    edda.go("/ledger?type=person.erased")
    assert edda.page.locator("tbody tr").count() == 1


#: Pages that no test above opens.
PAGES = {
    "signin": ("", "/signin"),
    "overview": ("Clara", "/moratoria"),
    "explained": (
        "Clara",
        "/moratoria/explain?tenant=icmec&action=search&purpose=missing_children&at=2026-01-01",
    ),
    "brake": ("Clara", "/brake"),
    "document": ("Clara", "/proposals/new"),
    "collection": ("Clara", "/galleries/acme/staff"),
    "ledger": ("Edda", "/ledger"),
    "entry": ("Edda", "/ledger/2"),
    "accuracy": ("Edda", "/accuracy"),
}


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_accessible(visit: Visit, name: str) -> None:
    who, path = PAGES[name]
    visitor = visit(who)
    assert visitor.go(path).status == 200
    visitor.check_page(name)


def test_the_first_page_is_light(visit: Visit) -> None:
    """Few bytes in few requests, and few elements to lay out."""
    ada = visit("Ada")
    ada.go("/review")
    requests = ada.page.evaluate("performance.getEntriesByType('resource').length")
    elements = ada.page.evaluate("document.querySelectorAll('*').length")
    print(f"first page: {requests} requests, {elements} elements, {ada.weight()} bytes")
    assert ada.weight() < 100_000
    assert requests <= 10
    assert elements < 500


def test_a_printed_page_has_no_controls(visit: Visit) -> None:
    edda = visit("Edda")
    edda.go("/ledger")
    edda.page.emulate_media(media="print")
    assert not edda.page.locator("nav").is_visible()
    assert edda.page.locator("button:visible").count() == 0
    assert edda.page.locator("tbody tr").first.is_visible()


def test_a_tampered_ledger_is_red_and_names_the_entry(system: LocalSystem, visit: Visit) -> None:
    edda = visit("Edda")
    edda.go("/ledger")
    assert "The log is broken" not in edda.text()
    s3, bucket = system.client("s3"), system.settings.ledger_bucket
    bundles = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket, Prefix="tile/entries/")["Contents"]]
    for key in bundles:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        s3.put_object(
            Bucket=bucket, Key=key, Body=body.replace(b'"body.tenant":"', b'"body.tenant":"A', 1)[:-1]
        )
    edda.page.goto(edda.page.url)
    state = edda.page.get_by_role("alert")
    assert "The log is broken" in state.inner_text()
    assert "rewritten" in state.inner_text()
    edda.check_page("tampered")
    red = state.evaluate("one => getComputedStyle(one).borderLeftColor")
    assert red == "rgb(156, 28, 21)"
