"""The port, whatever is behind it: in this process, the endpoint over HTTP, the endpoint over SageMaker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import numpy as np
import pytest
from botocore.config import Config

from abeyance.embedding.http import HttpTransport
from abeyance.embedding.onnx import OnnxEmbedder
from abeyance.embedding.port import ChipsRefused, Embedder, EmbedderUnavailable, WrongModel
from abeyance.embedding.remote import RemoteEmbedder, RetryPolicy
from abeyance.embedding.sagemaker import SageMakerTransport
from abeyance.vision.models.manifest import ModelEntry
from abeyance.vision.session import open_session

from .conftest import SageMaker, Server

QUICK = RetryPolicy(read_timeout_s=60.0, budget_s=90.0, attempts=3, backoff_base_s=0.01, backoff_cap_s=0.05)


def runtime(url: str) -> Any:
    """A sagemaker-runtime client without tries of its own."""
    return boto3.client(
        "sagemaker-runtime",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=1, read_timeout=60),
    )


@pytest.fixture(scope="module")
def sagemaker(server: Server) -> Iterator[SageMaker]:
    stub = SageMaker(server)
    yield stub
    stub.close()


@pytest.fixture(params=["local", "http", "sagemaker"])
def embedder(
    request: pytest.FixtureRequest, tiny: ModelEntry, server: Server, sagemaker: SageMaker
) -> Embedder:
    makers: dict[str, Callable[[], Embedder]] = {
        "local": lambda: OnnxEmbedder(open_session(tiny.path), tiny),
        "http": lambda: RemoteEmbedder(tiny, HttpTransport(server.url, QUICK), QUICK),
        "sagemaker": lambda: RemoteEmbedder(tiny, SageMakerTransport(runtime(sagemaker.url), "faces"), QUICK),
    }
    return makers[request.param]()


@pytest.fixture(scope="module")
def oracle(tiny: ModelEntry) -> OnnxEmbedder:
    return OnnxEmbedder(open_session(tiny.path), tiny)


def chips(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 112, 112, 3), dtype=np.uint8)


def test_identity_and_dimension_are_those_of_the_model(embedder: Embedder, tiny: ModelEntry) -> None:
    assert (embedder.identity, embedder.dimension) == (tiny.identity, 32)


@pytest.mark.parametrize("count", [0, 1, 5, 65, 150])
def test_templates_are_of_unit_length_in_the_order_of_the_chips(
    embedder: Embedder, oracle: OnnxEmbedder, count: int
) -> None:
    sent = chips(count, seed=count)
    made = embedder.embed(sent)
    assert made.shape == (count, 32)
    assert made.dtype == np.float32
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    assert np.allclose(made, oracle.embed(sent), atol=1e-5)


def test_a_view_that_is_not_contiguous_gives_the_same_templates(
    embedder: Embedder, oracle: OnnxEmbedder
) -> None:
    sent = chips(6)[::-2, :, ::-1]
    assert np.allclose(embedder.embed(sent), oracle.embed(np.ascontiguousarray(sent)), atol=1e-5)


@pytest.mark.parametrize(
    "bad", [chips(1)[0], chips(1)[:, :96], chips(1).astype(np.float32), chips(1).transpose(0, 3, 1, 2)]
)
def test_anything_but_chips_is_an_error(embedder: Embedder, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="chips"):
        embedder.embed(bad)


def test_several_threads_get_their_own_templates(embedder: Embedder, oracle: OnnxEmbedder) -> None:
    sent = [chips(number % 5 + 1, seed=number) for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(embedder.embed, sent))
    for mine, answer in zip(sent, made, strict=True):
        assert np.allclose(answer, oracle.embed(mine), atol=1e-5)


def test_an_endpoint_with_another_model_is_an_error(
    server: Server, sagemaker: SageMaker, tiny: ModelEntry
) -> None:
    import msgspec

    other = msgspec.structs.replace(tiny, sha256="0" * 64)
    for transport in (HttpTransport(server.url), SageMakerTransport(runtime(sagemaker.url), "faces")):
        with pytest.raises(WrongModel, match=tiny.identity):
            RemoteEmbedder(other, transport, QUICK).embed(chips(1))


@pytest.mark.parametrize(
    "says",
    [
        (429, "ModelNotReadyException", {"Message": "provisioning"}),
        (503, "ServiceUnavailable", {"Message": "try again"}),
        (500, "InternalFailure", {"Message": "failure"}),
        (530, "InternalDependencyException", {"Message": "dependency"}),
        (400, "ThrottlingException", {"Message": "Rate exceeded"}),
        (424, "ModelError", {"OriginalStatusCode": 0, "OriginalMessage": "timed out"}),
        (
            424,
            "ModelError",
            {"OriginalStatusCode": 429, "OriginalMessage": '{"reason":"OVERLOADED","message":"full"}'},
        ),
        (
            424,
            "ModelError",
            {"OriginalStatusCode": 503, "OriginalMessage": '{"reason":"NOT_READY","message":"warm"}'},
        ),
        (424, "ModelError", {"OriginalStatusCode": 502, "OriginalMessage": "<html>"}),
    ],
)
def test_sagemaker_errors_of_a_busy_endpoint_are_retried(
    sagemaker: SageMaker, tiny: ModelEntry, says: tuple[int, str, dict[str, Any]]
) -> None:
    sagemaker.asked = 0
    sagemaker.says = [says]
    embedder = RemoteEmbedder(tiny, SageMakerTransport(runtime(sagemaker.url), "faces"), QUICK)
    assert embedder.embed(chips(1)).shape == (1, 32)
    assert sagemaker.asked == 2


@pytest.mark.parametrize(
    "says",
    [
        (400, "ValidationError", {"Message": "Endpoint faces of account 1 not found."}),
        (403, "AccessDeniedException", {"Message": "no"}),
        (424, "ModelError", {"OriginalStatusCode": 404, "OriginalMessage": "not ours"}),
    ],
)
def test_permanent_sagemaker_errors_are_not_retried(
    sagemaker: SageMaker, tiny: ModelEntry, says: tuple[int, str, dict[str, Any]]
) -> None:
    sagemaker.asked = 0
    sagemaker.says = [says]
    embedder = RemoteEmbedder(tiny, SageMakerTransport(runtime(sagemaker.url), "faces"), QUICK)
    with pytest.raises(EmbedderUnavailable):
        embedder.embed(chips(1))
    assert sagemaker.asked == 1


def test_a_refusal_comes_through_sagemaker(sagemaker: SageMaker, tiny: ModelEntry) -> None:
    body = '{"reason":"TOO_MANY_CHIPS","message":"at most 128"}'
    sagemaker.says = [(424, "ModelError", {"OriginalStatusCode": 413, "OriginalMessage": body})]
    embedder = RemoteEmbedder(tiny, SageMakerTransport(runtime(sagemaker.url), "faces"), QUICK)
    with pytest.raises(ChipsRefused) as refused:
        embedder.embed(chips(1))
    assert refused.value.reason == "TOO_MANY_CHIPS"


def test_a_closed_port_is_unavailable(tiny: ModelEntry) -> None:
    nobody = "http://127.0.0.1:9"
    for transport in (HttpTransport(nobody), SageMakerTransport(runtime(nobody), "faces")):
        with pytest.raises(EmbedderUnavailable):
            RemoteEmbedder(tiny, transport, QUICK).embed(chips(1))
