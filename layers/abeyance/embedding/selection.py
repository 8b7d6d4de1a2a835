"""The embedder that a deployment's setting names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from abeyance.vision.models.manifest import Manifest, ModelRole

if TYPE_CHECKING:
    from abeyance.embedding.port import Embedder
    from abeyance.embedding.remote import RetryPolicy

#: Models whose names begin so have random weights, for load tests; their templates mean nothing.
LOAD_TEST_PREFIX = "loadtest-"


def embedder_from(
    setting: str,
    model: str,
    models: str = "",
    *,
    manifest: Manifest | None = None,
    policy: RetryPolicy | None = None,
    sagemaker_runtime: Callable[[], Any] | None = None,
    verify: bool = True,
) -> Embedder:
    """Open the embedder that ``setting`` names. Imports and opens only what that one needs.

    Parameters
    ----------
    setting
        ``local``, ``http:<url>`` (``http://...`` and ``https://...`` alone are understood too) or
        ``sagemaker:<endpoint name>``.
    model
        Name in the manifest: of the model that runs here, or that the endpoint must serve.
    models
        Directory of the models; for ``local`` only.
    sagemaker_runtime
        Makes the client; see :class:`~abeyance.embedding.sagemaker.SageMakerTransport`.
    verify
        Compare a local model with its checksum.

    Raises
    ------
    ValueError
        If the setting is none of these, or the model is no embedder, or one for load tests.
    ModelError
        If the manifest has no such model, or a local one cannot be opened.
    """
    if model.startswith(LOAD_TEST_PREFIX):
        raise ValueError(f"{model} has random weights: it is for load tests, and its templates mean nothing")
    if setting == "local":
        from abeyance.embedding.onnx import load_embedder

        return load_embedder(model, models, manifest=manifest, verify=verify)
    entry = (manifest or Manifest.load())[model]
    if entry.role is not ModelRole.EMBEDDER:
        raise ValueError(f"ABEYANCE_EMBEDDER_MODEL must name an embedder; {model} is for {entry.role}")
    from abeyance.embedding.remote import RemoteEmbedder

    kind, _, rest = setting.partition(":")
    if kind == "sagemaker" and rest and sagemaker_runtime:
        from abeyance.embedding.sagemaker import SageMakerTransport

        return RemoteEmbedder(entry, SageMakerTransport(sagemaker_runtime(), rest), policy)
    url = setting if rest.startswith("//") else rest
    if kind in ("http", "https") and url.startswith(("http://", "https://")):
        from abeyance.embedding.http import HttpTransport

        return RemoteEmbedder(entry, HttpTransport(url, policy), policy)
    raise ValueError(f"ABEYANCE_EMBEDDER={setting}: expected local, http:<url> or sagemaker:<endpoint name>")
