"""Keys of any form: each upload has one result and one record, within the limits of S3 and DynamoDB."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abeyance.pipeline.batch import Batch, Message, answer
from abeyance.pipeline.events import Upload
from abeyance.pipeline.upload_records import UploadRecords
from abeyance.pipeline.uploads import (
    MAX_KEY_BYTES,
    KeyNotUnderstood,
    chips_key,
    parse_key,
    parse_notification,
    result_key,
)

DIGEST = "0123456789abcdef" * 4
ODD = (
    "acme/index/staff/张伟.jpg",
    "acme/index/staff//.jpg",
    "acme/index/staff/./a.jpg",
    "acme/index/staff/a/../b.jpg",
    "acme/index/staff/a+b%20c.jpg",
    "acme/index/staff/line\nfeed\x01\x7f.jpg",
    "acme/index/staff/\u202egpj.exe",
    "acme/index/staff/C:\\photos\\a.jpg",
    f"acme/index/staff/key-sha256-{DIGEST}",
)
#: Keys as S3 takes them: 1 to 1024 bytes of UTF-8.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=MAX_KEY_BYTES)
KEYS = (
    TEXT.filter(lambda key: len(key.encode()) <= MAX_KEY_BYTES)
    | st.builds(
        lambda start, letter, length: (start + letter * length).encode()[:length].decode(errors="ignore"),
        st.sampled_from(["acme/index/staff/", "", "/", "张/", "a/b/c/d/", "/" * 700]),
        st.sampled_from(["a", "é", "张", "😀", "/", "../"]),
        st.integers(1000, MAX_KEY_BYTES),
    )
    | st.sampled_from(ODD)
)


def notification(name: Any, **thing: Any) -> dict[str, Any]:
    return {
        "detail-type": "Object Created",
        "source": "aws.s3",
        "detail": {
            "bucket": {"name": "uploads"},
            "object": {"key": name, "size": 3, "etag": "e", "sequencer": "0A", **thing},
        },
    }


@settings(max_examples=300, deadline=None)
@given(st.lists(KEYS, min_size=2, max_size=8, unique=True))
def test_every_key_has_a_result_of_its_own_within_the_limit(keys: list[str]) -> None:
    # The result's key as an upload's own key is the likeliest collision.
    own = keys + [result_key(key).removesuffix(".json") for key in keys]
    results = {key: result_key(key) for key in own}
    assert len(set(results.values())) == len(set(own))
    for result in results.values():
        assert len(result.encode()) <= MAX_KEY_BYTES
        assert result.endswith(".json")


@pytest.mark.parametrize("key", ODD[:-1])
def test_an_ordinary_result_is_beside_its_key(key: str) -> None:
    assert result_key(key) == f"{key}.json"


@pytest.mark.parametrize("letter", ["a", "é", "张", "😀"])
def test_a_long_key_keeps_tenant_action_and_collection(letter: str) -> None:
    start = f"acme/search/{'c' * 255}/"
    key = (start + letter * MAX_KEY_BYTES).encode()[:MAX_KEY_BYTES].decode(errors="ignore")
    assert result_key(key).startswith(f"{start}key-sha256-")


@settings(max_examples=200, deadline=None)
@given(KEYS)
def test_keys_of_stores_are_within_their_limits(key: str) -> None:
    upload = parse_notification(notification(key)).upload
    try:
        upload = parse_key(upload)
    except KeyNotUnderstood:
        assert not upload.tenant
    assert len(chips_key(upload).encode()) <= 200
    puts: list[Any] = []

    class Table:
        def transact(self, operations: Any) -> None:
            puts.extend(operations)

    longest = msgspec.structs.replace(upload, bucket="b" * 63)
    assert UploadRecords(Table(), 1, lambda: 0).claim(longest)  # type: ignore[arg-type]
    assert len(puts[0].item["object"].encode()) <= 2048


@pytest.mark.parametrize("collection", [".", "..", "...", "-", "a.b", "_"])
def test_collections_that_look_like_paths_are_names(collection: str) -> None:
    upload = parse_key(parse_notification(notification(f"acme/index/{collection}/a.jpg")).upload)
    assert (upload.tenant, upload.action, upload.collection) == ("acme", "index", collection)


@pytest.mark.parametrize("key", ["acme/index/staff/", "acme/index//a.jpg", "/acme/index/a.jpg", "acme/", "/"])
def test_a_folder_or_a_key_with_an_empty_part_is_not_understood(key: str) -> None:
    with pytest.raises(KeyNotUnderstood):
        parse_key(parse_notification(notification(key)).upload)


@pytest.mark.parametrize(
    ("field", "wrong"), [("key", 1), ("key", None), ("size", "3"), ("sequencer", 7), ("etag", [])]
)
def test_a_field_of_another_type_fails_its_own_message(field: str, wrong: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        parse_notification(notification("a", **{field: wrong}))


@pytest.mark.parametrize(
    "etag", ["d41d8cd98f00b204e9800998ecf8427e", "9b2cf535f27731c974343645a3985328-10000"]
)
def test_an_etag_of_several_parts_names_the_version(etag: str) -> None:
    upload = parse_notification(notification("acme/index/staff/a.jpg", etag=etag, size=5 * 2**40)).upload
    assert (upload.version, upload.etag, upload.size) == (etag, etag, 5_497_558_138_880)


@pytest.mark.parametrize(
    "body",
    [json.dumps(notification(text)) for text in ("\ud800", "a\udfff.jpg", "\udc00\ud800")]
    + ["[" * 100_000, '{"a": NaN}'],
)
def test_a_message_that_no_store_can_hold_fails_alone(body: str) -> None:
    seen: list[Upload] = []

    def stage(batch: Batch[Message]) -> None:
        for parsed in batch.map(lambda message: parse_notification(message.envelope)):
            assert parsed.upload.identity
            seen.append(parsed.upload)

    bodies = [json.dumps(notification("a")), body, json.dumps(notification("😀"))]
    records = [{"messageId": str(number), "body": text} for number, text in enumerate(bodies)]
    assert answer({"Records": records}, stage) == {"batchItemFailures": [{"itemIdentifier": "1"}]}
    assert [upload.key for upload in seen] == ["a", "😀"]
