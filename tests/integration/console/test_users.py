"""The pages of users: faces side by side, merge, split, "not this person", and what to look at."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from abeyance.console import galleries
from abeyance.vision.similarity import SimilarityScale

from .conftest import STAFF, Browser, World

HERE = "/console/galleries/acme/staff"
PURPOSE = "access_control"


@pytest.fixture
def faces(world: World) -> list[str]:
    """Three faces: two of ann, one of ben."""
    made = [world.enrol(name, f"acme/index/staff/{name}.png") for name in ("a", "bb", "ccc")]
    for name, own in (("ann", made[:2]), ("ben", made[2:])):
        world.gallery.create_user(STAFF, name)
        world.gallery.associate_faces(STAFF, name, own)
    return made


@pytest.fixture
def clara(world: World, faces: list[str]) -> Browser:
    browser = world.browser("clara")
    assert "faces side by side" in browser.get(HERE).text
    return browser


def faces_of(world: World, user: str) -> set[str]:
    (found,) = world.gallery.get_users(STAFF, [user])
    return set(found.face_ids)


def test_a_users_faces_are_side_by_side_with_their_pictures(
    world: World, clara: Browser, faces: list[str]
) -> None:
    listed = clara.get(f"{HERE}/users").text
    assert all(f'name="user" value="{name}"' in listed for name in ("ann", "ben"))
    shown = clara.post(f"{HERE}/users/show", user="ann", purpose=PURPOSE).text
    pictures = re.findall(r'<img src="([^"]+/faces/[^"]+)"', shown)
    assert len(pictures) == 2
    assert all("acme/index/staff/" in shown for _ in faces[:2])
    answer = clara.get(pictures[0].replace("&amp;", "&"))
    assert (answer.status_code, answer.content_type) == (200, "image/png")
    assert world.write_ledger().count("person.seen") == 1
    # An address is of use to whoever opened the page, for what it was opened for, and while that is permitted.
    address = pictures[0].replace("&amp;", "&")
    assert clara.get(address.partition("&opened=")[0]).status_code == 404
    assert clara.get(re.sub(r"faces/[^.]+", f"faces/{faces[-1]}", address)).status_code == 404
    assert clara.get(address.replace(f"purpose={PURPOSE}", "purpose=other")).status_code == 404
    assert world.write_ledger().count("person.seen") == 1
    world.write_flags(_halting(world))
    assert clara.get(address).status_code == 404
    # A page of users has no name in its address.
    assert not re.search(r'(href|src)="[^"]*(ann|ben)', listed + shown)


def test_where_comparing_is_halted_there_are_places_and_no_pictures(
    world: World, clara: Browser, faces: list[str]
) -> None:
    world.write_flags(_halting(world))
    shown = clara.post(f"{HERE}/users/show", user="ann", purpose=PURPOSE).text
    assert "may not be compared" in shown
    assert '<img src="/console/galleries' not in shown
    assert clara.get(f"{HERE}/faces/{faces[0]}.png?purpose={PURPOSE}").status_code == 404
    assert "person.seen" not in world.write_ledger()


def _halting(world: World) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(world.flags.read_text())
    document["values"]["review"] |= {"effect": "halt", "actions": ["compare", "index"]}
    del document["values"]["review"]["human_review"]
    return document


def test_users_are_split_merged_and_told_apart(world: World, clara: Browser, faces: list[str]) -> None:
    clara.get(f"{HERE}/users")
    form = {"user": "ann", "purpose": PURPOSE}
    assert "Not the same person" in clara.post(f"{HERE}/users/split", **form, new="ann-2", face=faces[1]).text
    assert faces_of(world, "ann-2") == {faces[1]}
    assert clara.post(f"{HERE}/users/merge", **form, gone="ann-2", sure="yes").status_code == 409
    verdict = {"one": "user:ann", "other": "user:ann-2", "purpose": PURPOSE}
    assert clara.post(f"{HERE}/users/withdraw", **verdict).status_code == 200
    assert clara.post(f"{HERE}/users/merge", **form, gone="ann-2").status_code == 409
    assert clara.post(f"{HERE}/users/merge", **form, gone="ann-2", sure="yes").status_code == 200
    assert faces_of(world, "ann") == set(faces[:2])
    shown = clara.post(f"{HERE}/users/reject", **form, one="user:ann", other=f"face:{faces[1]}").text
    assert "Withdraw" in shown
    assert faces_of(world, "ann") == {faces[0]}
    kinds = [kind for kind in world.write_ledger() if kind.startswith("person.")]
    assert [kind for kind in kinds if kind != "person.seen"] == [
        "person.split",
        "person.not.withdrawn",
        "person.merged",
        "person.not",
    ]
    world.write_flags(_halting(world))
    refused = clara.post(f"{HERE}/users/merge", **form, gone="ben", sure="yes")
    assert refused.status_code == 409
    assert faces_of(world, "ben") == {faces[2]}


def test_what_to_look_at_is_listed_and_decided(
    world: World, faces: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(galleries, "USERS_A_PAGE", 1)
    scale = SimilarityScale([(-1.0, 0.0), (1.0, 100.0)])
    monkeypatch.setattr(world.services.curation, "_scale_of", lambda model: scale)
    clara = world.browser("clara")
    first = clara.get(f"{HERE}/users").text
    (token,) = re.findall(r'name="after" value="([^"]+)"', first)
    assert 'value="ben"' in clara.post(f"{HERE}/users", after=token).text
    form = {"threshold": "0", "purpose": PURPOSE}
    assert clara.post(f"{HERE}/users/check", **form).status_code == 409  # Two reviewers have to look.
    document = _halting(world)
    document["values"]["review"] = {"enabled": False}
    world.write_flags(document)
    found = clara.post(f"{HERE}/users/check", **form).text
    assert "look alike" in found
    assert "low quality" in found
    pair = {"one": "user:ann", "other": "user:ben", "purpose": PURPOSE}
    assert clara.post(f"{HERE}/users/reject", **pair).status_code == 200
    assert "look alike" not in clara.post(f"{HERE}/users/check", **form).text
