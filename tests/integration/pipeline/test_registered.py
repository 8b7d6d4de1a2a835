"""Uploads to a bucket that a tenant made and registered rules for, keys as they are, through the whole system."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError

from abeyance.deployment.parts import build_tenants
from abeyance.local.system import LocalSystem

INDEX, SEARCH = "doors/in 1/=index:doors", "doors/out/=search:doors:missing_children"


@pytest.fixture
def doors(system: LocalSystem) -> Iterator[Callable[..., None]]:
    """Registers rules for uploads to acme's bucket."""
    s3 = system.client("s3", "acme")
    s3.create_bucket(Bucket="doors")

    def register(*rules: str) -> None:
        registry = build_tenants(system.settings, system.client)
        tenant, revision = registry.read("acme")
        assert tenant
        purposes = tuple({*tenant.purposes, "missing_children"})
        registry.put(msgspec.structs.replace(tenant, uploads=rules, purposes=purposes), revision)

    yield register
    register()


def result(system: LocalSystem, key: str) -> dict[str, Any] | None:
    try:
        answer = system.client("s3").get_object(Bucket="results", Key=f"acme/s3:doors/{key}.json")
    except ClientError:
        return None
    found: dict[str, Any] = json.loads(answer["Body"].read())
    return found


def test_photos_are_taken_where_they_are(
    system: LocalSystem, portraits: dict[str, Path], doors: Callable[..., None]
) -> None:
    s3 = system.client("s3", "acme")
    api = system.client("rekognition", "acme")

    def put(key: str, photo: str, tags: str = "") -> None:
        s3.put_object(Bucket="doors", Key=key, Body=portraits[photo].read_bytes(), Tagging=tags)
        system.drain(120)

    doors(INDEX, SEARCH)
    put("in 1/2026/ü a.jpg", "obama.jpg", "purpose=missing_children&external-image-id=barack")
    put("out/b.jpg", "obama2.jpg")
    put("elsewhere/c.jpg", "obama.jpg")
    put("acme/index/doors/d.jpg", "obama.jpg")
    indexed, searched = result(system, "in 1/2026/ü a.jpg"), result(system, "out/b.jpg")
    assert indexed
    assert searched
    assert (indexed["event"], indexed["decision"]["purpose"]) == ("Faces Indexed", "missing_children")
    assert indexed["faces"][0]["external_image_id"] == "barack"
    assert (searched["event"], searched["decision"]["purpose"]) == ("Faces Matched", "missing_children")
    (match,) = searched["faces"][0]["matches"]
    assert match["external_image_id"] == "barack"
    assert result(system, "elsewhere/c.jpg") is result(system, "acme/index/doors/d.jpg") is None
    assert len(api.list_faces(CollectionId="doors")["Faces"]) == 1

    # Other rules: the photo that is written over leaves its former collection.
    doors("doors/in 1/=index:doors-2", SEARCH)
    put("in 1/2026/ü a.jpg", "biden.jpg")
    assert api.list_faces(CollectionId="doors")["Faces"] == []
    assert len(api.list_faces(CollectionId="doors-2")["Faces"]) == 1
    # No rule: what came from the photo goes with it.
    doors(SEARCH)
    s3.delete_object(Bucket="doors", Key="in 1/2026/ü a.jpg")
    system.drain(120)
    assert api.list_faces(CollectionId="doors-2")["Faces"] == []
    assert result(system, "in 1/2026/ü a.jpg") is None
    assert result(system, "out/b.jpg")
    assert system.waiting()["abeyance-gate-dead"] == 0
