"""What the commands that measure share: models, cache, progress, and where results go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abeyance.cli.output import Exit, console, errors, fail, progress, report

if TYPE_CHECKING:
    import msgspec

    from abeyance.evaluation.datasets import PhotoSet
    from abeyance.evaluation.report import Page
    from abeyance.evaluation.templates import Extracted, Extractor
    from abeyance.vision.models.manifest import ModelEntry

Model = Annotated[str, typer.Option(help="Embedder in the model manifest.")]
DetectorName = Annotated[str, typer.Option("--detector", help="Detector in the model manifest.")]
Models = Annotated[
    str,
    typer.Option(
        help="Directory of models; otherwise $ABEYANCE_MODELS, otherwise the user's cache.",
        show_default=False,
    ),
]
Confidence = Annotated[float, typer.Option(help="Least confidence of a face, 0 to 1.", min=0.05, max=1.0)]
Images = Annotated[
    str, typer.Option(help="Folder that the paths of the tables are relative to.", show_default=False)
]
Workers = Annotated[int, typer.Option(help="Threads; 0 takes one for every core.", min=0, max=64)]
Cache = Annotated[
    bool,
    typer.Option(
        "--cache/--no-cache",
        help="Keep templates in the user's cache, for the next run. They are biometric data.",
    ),
]
Html = Annotated[
    Path | None,
    typer.Option("--html", help="Write a report to this file, and the numbers as JSON beside it."),
]
SameShot = Annotated[
    float,
    typer.Option(
        help="Mated pairs with this cosine or more are one shot cropped twice and left out.", min=0.5
    ),
]


class Bench:
    """Models that are ready, and templates of photos with a progress bar."""

    def __init__(
        self,
        model: str,
        detector: str,
        models: str = "",
        *,
        confidence: float = 0.7,
        cache: bool = True,
        workers: int = 0,
    ) -> None:
        from abeyance.embedding.onnx import load_embedder
        from abeyance.evaluation.templates import Extractor
        from abeyance.vision.models.manifest import Manifest
        from abeyance.vision.models.store import cache_directory, load_detector

        manifest = Manifest.load()
        embedder = load_embedder(model, models, manifest=manifest)
        self.entry: ModelEntry = embedder.entry
        self.extractor: Extractor = Extractor(
            load_detector(detector, models, manifest=manifest),
            embedder,
            detector_identity=manifest[detector].identity,
            min_confidence=confidence,
            cache=cache_directory() / "evaluation" if cache else None,
            workers=workers,
        )

    @property
    def model(self) -> str:
        """Identity of embedder and detector."""
        return self.extractor.identity

    def templates(self, paths: Sequence[Path], what: str) -> Extracted:
        """Templates of photos."""
        with progress() as bar:
            task = bar.add_task(f"Templates of {what}", total=len(paths))
            return self.extractor(paths, lambda: bar.advance(task))

    def of(self, photos: PhotoSet) -> Extracted:
        """Templates of a set of photos."""
        return self.templates(photos.paths, photos.name)

    def cosines(self, similarities: Sequence[float]) -> list[tuple[float, float]]:
        """(similarity, cosine) on the model's scale."""
        from abeyance.vision.similarity import SimilarityScale

        scale = SimilarityScale.of(self.entry)
        return [(float(s), float(scale.cosine(float(s)))) for s in similarities]


@contextmanager
def refusing() -> Iterator[None]:
    """Ends the command with a sentence where the data or the models are not what is needed."""
    from abeyance.evaluation.errors import DataInvalid, EvaluationError, TooFew
    from abeyance.vision.errors import ImageRejected, ManifestInvalid, ModelError

    try:
        yield
    except TooFew as error:
        fail(str(error), Exit.NO)
    except (DataInvalid, ManifestInvalid) as error:
        fail(str(error), Exit.USAGE)
    except ImageRejected as error:
        fail(f"a photo cannot be decoded: {error}", Exit.USAGE)
    except (EvaluationError, ModelError) as error:
        fail(str(error), Exit.UNAVAILABLE)


def answer(
    kind: str,
    result: msgspec.Struct,
    *,
    as_json: bool,
    show: Callable[[], None],
    html: Path | None = None,
    page: Callable[[], Page] | None = None,
) -> None:
    """Print the result, and write the report where one was asked for."""
    from abeyance.evaluation.report import envelope, write

    if html is not None and page is not None:
        written, beside = write(page(), kind, result, html, datetime.now(UTC))
        errors.print(f"Report: {written}  Numbers: {beside}", highlight=False, markup=False, soft_wrap=True)
    value: dict[str, Any] = envelope(kind, result)
    report(value, as_json=as_json, show=show)


def say(text: str) -> None:
    """A line for people."""
    console.print(text, highlight=False, markup=False)
