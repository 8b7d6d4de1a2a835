"""Models whose collections are still answered beside those of the deployed model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from abeyance.embedding.port import Embedder
from abeyance.vision.models.manifest import FittedMap, ModelEntry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from abeyance.vision.models.template_map import TemplateMap
    from abeyance.vision.similarity import SimilarityScale


@dataclass(frozen=True, slots=True)
class FormerEmbedding:
    """A model beside the deployed one. Its embedder is opened when a collection of it is asked for."""

    entry: ModelEntry
    embedder: Callable[[], Embedder]

    @property
    def identity(self) -> str:
        """Identity of the model."""
        return self.entry.identity

    def scale(self) -> SimilarityScale:
        """Return its similarity scale."""
        from abeyance.vision.similarity import SimilarityScale

        return SimilarityScale.of(self.entry)


#: Former models by identity.
FormerModels = Mapping[str, FormerEmbedding]


def former_models(
    deployed: ModelEntry,
    embedder: Callable[[], Embedder],
    other: tuple[ModelEntry, Callable[[], Embedder]] | None = None,
) -> FormerModels:
    """Return the earlier forms of the deployed model, and one other model, by identity.

    Parameters
    ----------
    embedder
        Opens the deployed model.
    other
        Another model and what opens it.
    """
    found = [
        FormerEmbedding(form, functools.cache(functools.partial(_remapped, deployed, form, embedder)))
        for form in deployed.forms
    ]
    if other is not None:
        found.append(FormerEmbedding(*other))
    return {one.identity: one for one in found if one.identity != deployed.identity}


def convert(source: ModelEntry, target: ModelEntry, templates: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the templates that the target makes of the same faces, (n, d) float32 of unit length, without the faces.

    Raises ``ValueError`` unless the two are forms of one model, whose maps alone differ; see :func:`is_convertible`.
    """
    if not is_convertible(source, target):
        raise ValueError(f"templates of {source.identity} do not say what {target.identity} would make")
    plain = _read_map(source.map).undo(templates) if source.map else templates
    return _read_map(target.map).apply(plain) if target.map else plain


def is_convertible(source: ModelEntry, target: ModelEntry) -> bool:
    """Return whether two models differ in their maps alone."""
    from msgspec.structs import replace

    return replace(source, map=None).identity == replace(target, map=None).identity


class RemappedEmbedder:
    """An earlier form of a model, made from the templates of the form that is deployed."""

    def __init__(self, deployed: ModelEntry, form: ModelEntry, embedder: Embedder) -> None:
        self._deployed = deployed
        self._form = form
        self._embedder = embedder
        self.identity = form.identity
        self.dimension = form.dimension

    def embed(self, chips: NDArray[np.uint8]) -> NDArray[np.float32]:
        return convert(self._deployed, self._form, self._embedder.embed(chips))


def _remapped(deployed: ModelEntry, form: ModelEntry, embedder: Callable[[], Embedder]) -> Embedder:
    return RemappedEmbedder(deployed, form, embedder())


@functools.cache
def _read_map(fitted: FittedMap) -> TemplateMap:
    from abeyance.vision.models.template_map import TemplateMap

    return TemplateMap.read(fitted)
