"""The vector index that the template defines, in the emulator: written to, searched, and refused.

CloudFormation of the emulator leaves the index of a table out, so this makes the table by the API, from the template.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError
from tests.e2e.conftest import client
from tests.e2e.emulator import REGION, Emulator
from tests.infra.conftest import Synthesise, synthesise

from abeyance.gallery.errors import IndexUnavailable
from abeyance.gallery.model import CollectionRef, NewFace, TemplateKind
from abeyance.gallery.search import Searcher
from abeyance.gallery.store import DynamoGallery
from abeyance.gallery.vector_index import DynamoIndex, IndexSearcher

__all__ = ["synthesise"]

pytestmark = pytest.mark.timeout(300)

STAFF = CollectionRef("acme", "staff")
TABLE = "gallery"


@pytest.fixture(scope="module")
def definition(synthesise: Synthesise) -> dict[str, Any]:
    """The gallery table's properties, as deployed with ``vector_index=true``."""
    resources = synthesise(vector_index="true")["AbeyanceState"]["Resources"].values()
    (found,) = [made["Properties"] for made in resources if "VectorIndexes" in made.get("Properties", {})]
    return dict(found)


@pytest.fixture(scope="module")
def gallery(definition: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[DynamoGallery]:
    with Emulator(tmp_path_factory.mktemp("emulator"), enforce_iam=False) as emulator:
        dynamodb, s3 = client(emulator, "dynamodb"), client(emulator, "s3")
        parts = ("AttributeDefinitions", "KeySchema", "BillingMode", "VectorIndexes")
        dynamodb.create_table(TableName=TABLE, **{part: definition[part] for part in parts})
        dynamodb.get_waiter("table_exists").wait(
            TableName=TABLE, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
        )
        s3.create_bucket(Bucket="gallery", CreateBucketConfiguration={"LocationConstraint": REGION})
        name = definition["VectorIndexes"][0]["IndexName"]
        yield DynamoGallery(dynamodb, TABLE, s3, "gallery", vector_index=name)


@pytest.fixture(scope="module")
def index(gallery: DynamoGallery, definition: dict[str, Any]) -> DynamoIndex:
    return DynamoIndex(gallery.table._client, TABLE, definition["VectorIndexes"][0]["IndexName"])


def test_search_by_the_index_agrees_with_the_exact_search(gallery: DynamoGallery, index: DynamoIndex) -> None:
    dimension = 128
    gallery.create_collection(STAFF, model="sface-2021dec@0", dimension=dimension)
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((150, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    faces = [
        NewFace(id=str(uuid.UUID(int=n)), model="sface-2021dec@0", template=vector)
        for n, vector in enumerate(vectors)
    ]
    for start in (0, 75):
        gallery.index(STAFF, faces[start : start + 75])
    gallery.create_user(STAFF, "ann")
    gallery.associate_faces(STAFF, "ann", [face.id for face in faces[:5]])
    gallery.delete_faces(STAFF, [face.id for face in faces[100:120]])
    by_index, exactly = IndexSearcher(gallery, index, exact_up_to=0, recent=0), Searcher(gallery)
    probes = rng.standard_normal((4, dimension)).astype(np.float32)
    for kind in TemplateKind:
        found = by_index.search(STAFF, probes, limit=20, kind=kind)
        assert found == exactly.search(STAFF, probes, limit=20, kind=kind)
        assert len(found[0]) == (20 if kind is TemplateKind.FACE else 1)


def test_an_index_that_is_not_there_is_said(gallery: DynamoGallery) -> None:
    with pytest.raises(IndexUnavailable):
        DynamoIndex(gallery.table._client, TABLE, "templates-none").nearest(
            "p", TemplateKind.FACE, np.ones(128)
        )


def test_a_probe_or_a_vector_of_another_length_is_refused(
    gallery: DynamoGallery, index: DynamoIndex, definition: dict[str, Any]
) -> None:
    with pytest.raises(IndexUnavailable):
        index.nearest("p", TemplateKind.FACE, np.ones(64))
    attribute = definition["VectorIndexes"][0]["VectorAttribute"]["AttributeName"]
    item = {"pk": {"S": "p"}, "sk": {"S": "S#1"}, "k": {"S": "F"}, attribute: {"L": [{"N": "1"}]}}
    with pytest.raises(ClientError, match="Invalid size"):
        gallery.table._client.put_item(TableName=TABLE, Item=item)
