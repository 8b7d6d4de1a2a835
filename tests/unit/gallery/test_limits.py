"""Keys of the gallery's items and objects under names of any length that the gallery takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abeyance.aws.table import Key
from abeyance.gallery.items import (
    face_key,
    log_key,
    meta_key,
    object_prefix,
    purge_key,
    segment_key,
    source_key,
    token_key,
    user_key,
)
from abeyance.gallery.model import COLLECTION_PATTERN, TENANT_PATTERN, USER_PATTERN, CollectionRef

#: DynamoDB's limits, in bytes.
PARTITION_BYTES, SORT_BYTES = 2048, 1024
GENERATION = "f" * 32
FACE = "0" * 8 + "-0000-0000-0000-" + "0" * 12

REFS = st.builds(
    CollectionRef,
    st.from_regex(TENANT_PATTERN, fullmatch=True),
    st.from_regex(COLLECTION_PATTERN, fullmatch=True) | st.sampled_from([".", "..", "a" * 255]),
)
ANYTHING = st.text(st.characters(exclude_categories=["Cs"]), max_size=1024)


@given(REFS, st.from_regex(USER_PATTERN, fullmatch=True), ANYTHING)
def test_keys_are_within_the_limits(ref: CollectionRef, user: str, text: str) -> None:
    pk = ref.pk(GENERATION)
    keys = [
        meta_key(ref),
        purge_key(ref, GENERATION),
        face_key(pk, FACE),
        log_key(pk, 10**15),
        segment_key(pk, 10**9),
        user_key(pk, user),
        source_key(pk, text[:63], text),
        token_key(pk, "operation", text),
    ]
    for partition, sort in keys:
        assert len(partition.encode()) <= PARTITION_BYTES
        assert len(sort.encode()) <= SORT_BYTES
    prefix = object_prefix(ref, GENERATION)
    assert len(prefix.encode()) <= 512
    assert not {".", "..", ""} & set(prefix.removesuffix("/").split("/"))


@given(REFS, REFS)
def test_two_collections_share_no_prefix(one: CollectionRef, other: CollectionRef) -> None:
    prefixes = [object_prefix(ref, GENERATION) for ref in (one, other)]
    assert (prefixes[0].startswith(prefixes[1])) == (one == other)


@pytest.mark.parametrize("key", [source_key, token_key])
@given(ANYTHING, ANYTHING, ANYTHING, ANYTHING)
def test_two_names_share_no_digest(
    key: Callable[[str, str, str], Key], a: str, b: str, c: str, d: str
) -> None:
    assert (key("pk", a, b) == key("pk", c, d)) == ((a, b) == (c, d))
