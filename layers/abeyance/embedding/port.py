"""The port for making templates, and the errors that every implementation raises.

Imports nothing heavy at run time, so that any room may catch the errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class EmbedderUnavailable(Exception):
    """The endpoint cannot answer now. Nothing is wrong with the chips: put the work back and try later.

    Attributes
    ----------
    retry_after
        Seconds to wait before the next try.
    """

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class WrongModel(EmbedderUnavailable):
    """The endpoint serves another model than this deployment expects; its templates must not be mixed with ours."""


class ChipsRefused(ValueError):
    """The endpoint refuses these chips now and later; ``reason`` is its machine-readable reason."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Embedder(Protocol):
    """A maker of templates. Templates of two embedders are comparable if and only if their identities are equal."""

    @property
    def identity(self) -> str:
        """``<name>@<12 hex digits>`` of the model; see :attr:`abeyance.vision.models.manifest.ModelEntry.identity`."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a template."""
        ...

    def embed(self, chips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Make the templates of aligned faces.

        Parameters
        ----------
        chips
            (n, 112, 112, 3) uint8 RGB, from :func:`abeyance.vision.alignment.align`.

        Returns
        -------
        NDArray
            (n, dimension) float32, unit length, in the order of the chips.

        Raises
        ------
        ValueError
            For another shape or type.
        EmbedderUnavailable, ChipsRefused
            By implementations that ask an endpoint.
        """
        ...
