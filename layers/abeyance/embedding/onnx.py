"""The embedder in this process, by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abeyance.vision.errors import ModelUnusable
from abeyance.vision.models.manifest import Manifest, ModelEntry, ModelRole
from abeyance.vision.models.store import entry_for, locate


def load_embedder(
    name: str = "sface-2021dec",
    directory: str | Path = "",
    *,
    manifest: Manifest | None = None,
    threads: int = 1,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    verify: bool = True,
) -> OnnxEmbedder:
    """Open the embedder ``name`` of the manifest; raises :class:`~abeyance.vision.errors.ModelError`."""
    from abeyance.vision.session import open_session

    entry = entry_for(name, ModelRole.EMBEDDER, manifest)
    path = locate(entry, directory, verify=verify)
    return OnnxEmbedder(open_session(path, threads=threads, providers=providers), entry)


class OnnxEmbedder:
    """An embedder of the manifest, run by ONNX Runtime. May be used from several threads at once.

    Parameters
    ----------
    session
        An open session of the converted model.
    entry
        Its entry in the manifest; kept as an attribute, with licence and calibration.
    batch
        Most chips of one call of the model. On a CPU four are best: they share the reading of the last layer's
        weights, and what lies between the layers still fits into the cache, which sixteen do not.

    Raises
    ------
    ModelUnusable
        If the file's shapes are not those of the entry.
    """

    def __init__(self, session: Any, entry: ModelEntry, *, batch: int = 4) -> None:
        self._session = session
        self.entry = entry
        self.identity = entry.identity
        self.dimension = entry.dimension
        model_input, model_output = session.get_inputs()[0], session.get_outputs()[0]
        self._input = model_input.name
        self._output = model_output.name
        # Some published embedders take exactly one chip.
        self._batch = model_input.shape[0] if isinstance(model_input.shape[0], int) else batch
        pre = entry.preprocessing
        expected = [3, pre.height, pre.width] if pre.layout == "NCHW" else [pre.height, pre.width, 3]
        if not _fits(model_input.shape[1:], expected) or not _fits(model_output.shape[1:], [entry.dimension]):
            raise ModelUnusable(
                f"the manifest says that {entry.name} takes {expected} and gives [{entry.dimension}], but "
                f"the file takes {model_input.shape[1:]} and gives {model_output.shape[1:]}; correct the "
                "entry"
            )
        channels = [0, 1, 2] if pre.colour == "RGB" else [2, 1, 0]
        self._channels = channels
        self._mean = np.array(pre.mean, np.float32)
        self._factor = (1 / np.array(pre.std, np.float64)).astype(np.float32)
        self._is_normalised = not self._mean.any() and bool((self._factor == 1).all())

    def embed(self, chips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Make the templates of aligned faces; see :meth:`abeyance.embedding.port.Embedder.embed`."""
        pre = self.entry.preprocessing
        if chips.ndim != 4 or chips.shape[1:] != (pre.height, pre.width, 3) or chips.dtype != np.uint8:
            raise ValueError(
                f"expected (n, {pre.height}, {pre.width}, 3) uint8 chips, not {chips.shape} {chips.dtype}"
            )
        templates: NDArray[np.float32] = np.empty((len(chips), self.dimension), np.float32)
        for start in range(0, len(chips), self._batch):
            part = slice(start, start + self._batch)
            (templates[part],) = self._session.run([self._output], {self._input: self._tensor(chips[part])})
        # A chip that gives no direction at all would divide by zero; it stays near zero and matches nothing.
        templates /= np.maximum(np.linalg.norm(templates, axis=1, keepdims=True), 1e-12)
        return templates

    def _tensor(self, chips: NDArray[np.uint8]) -> NDArray[np.float32]:
        values = chips[..., self._channels].astype(np.float32)
        if not self._is_normalised:
            values = (values - self._mean) * self._factor
        return (
            values
            if self.entry.preprocessing.layout == "NHWC"
            else np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        )


def _fits(shape: list[int | str | None], expected: list[int]) -> bool:
    # A name or None is a free dimension; a model that declares none at all is judged by what it answers.
    return not shape or (
        len(shape) == len(expected)
        and all(have == want for have, want in zip(shape, expected, strict=True) if isinstance(have, int))
    )
