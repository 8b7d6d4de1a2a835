"""Options, models and output that the measuring commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer
from rich.text import Text

from abeyance.cli.output import Exit, Json, ModelsDirectory, console, errors, fail, progress, report, table

if TYPE_CHECKING:
    import msgspec

    from abeyance.evaluation.datasets import PhotoSet
    from abeyance.evaluation.report import Section, StudyReport
    from abeyance.evaluation.templates import TemplateExtractor, TemplateSet
    from abeyance.vision.models.manifest import ModelEntry

Images = Annotated[
    str, typer.Option(help="Folder that the paths of the tables are relative to.", show_default=False)
]
SameShot = Annotated[
    float,
    typer.Option(help="Leave out mated pairs with this cosine or more as one shot cropped twice.", min=0.5),
]
SamePerson = Annotated[
    float,
    typer.Option(
        help="Count photos of one group and age with this cosine or more on average as one person, instead of a "
        "list; 0 leaves nothing out.",
        min=0,
    ),
]
Repeats = Annotated[
    list[str] | None,
    typer.Option(
        help="Judged pairs, which show one person twice: a CSV with image_a, image_b, same; or fairface, for the list "
        "of that set that comes with Abeyance. May be repeated.",
        show_default=False,
    ),
]
#: Rows of a table that are printed on a terminal.
_MAX_ROWS = 20
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class DetectorOptions:
    """Options that choose the detector and the directory of models."""

    detector: Annotated[str, typer.Option(help="Detector in the model manifest.")] = "yunet-2023mar"
    models: ModelsDirectory = ""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of threads and cache."""

    workers: Annotated[int, typer.Option(help="Threads; 0 takes one for every core.", min=0, max=64)] = 0
    cache: Annotated[
        bool,
        typer.Option(
            "--cache/--no-cache",
            help="Keep templates in the user's cache, for the next run. They are biometric data.",
        ),
    ] = True

    @property
    def folder(self) -> Path | None:
        """Folder of the cache; None without a cache."""
        from abeyance.vision.models.store import cache_directory

        return cache_directory() / "evaluation" if self.cache else None


@dataclass(frozen=True, slots=True)
class ModelOptions(DetectorOptions):
    """Options that choose detector and embedder."""

    model: Annotated[str, typer.Option(help="Embedder in the model manifest.")] = "sface-2021dec"
    confidence: Annotated[
        float, typer.Option(help="Least confidence of a face, 0 to 1.", min=0.05, max=1.0)
    ] = 0.65

    def load(self, run: RunOptions) -> LoadedModels:
        """Open the models."""
        return LoadedModels(self, run)


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Options that choose where the result goes."""

    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write a report to this file, and the numbers as JSON beside it."),
    ] = None
    as_json: Json = False


def with_options(command: Callable[..., Result]) -> Callable[..., Result]:
    """Replace each parameter of a command that is a dataclass of options by the options themselves."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if hasattr(hint, "__dataclass_fields__")}
    shared = [
        (option.name, option.default, get_type_hints(group, include_extras=True)[option.name])
        for group in groups.values()
        for option in fields(group)
    ]
    own = [
        (name, parameter.default, hints[name])
        for name, parameter in inspect.signature(command).parameters.items()
        if name not in groups
    ]
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, default, annotation in (*own, *shared)
    ]

    @functools.wraps(command)
    def run(**values: Any) -> Result:
        for name, group in groups.items():
            values[name] = group(**{option.name: values.pop(option.name) for option in fields(group)})
        return command(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


class LoadedModels:
    """Open models, and templates of photos with a progress bar."""

    def __init__(self, options: ModelOptions, run: RunOptions) -> None:
        from abeyance.embedding.onnx import load_embedder
        from abeyance.evaluation.templates import TemplateExtractor
        from abeyance.vision.models.manifest import Manifest
        from abeyance.vision.models.store import load_detector

        manifest = Manifest.load()
        embedder = load_embedder(options.model, options.models, manifest=manifest)
        self.entry: ModelEntry = embedder.entry
        self.extractor: TemplateExtractor = TemplateExtractor(
            load_detector(options.detector, options.models, manifest=manifest),
            embedder,
            detector_identity=manifest[options.detector].identity,
            min_confidence=options.confidence,
            cache=run.folder,
            workers=run.workers,
        )

    @property
    def identity(self) -> str:
        """Identities of detector, settings and embedder."""
        return self.extractor.identity

    def templates(self, paths: Sequence[Path], name: str) -> TemplateSet:
        """Return the templates of photos."""
        with ticking(f"Templates of {name}", len(paths)) as tick:
            return self.extractor(paths, tick)

    def with_templates(self, photos: PhotoSet) -> tuple[PhotoSet, TemplateSet]:
        """Return a set of photos and its templates."""
        return photos, self.templates(photos.paths, photos.name)

    def read(self, source: Path | None, images: str = "") -> tuple[PhotoSet, TemplateSet] | None:
        """Return the photos of a folder or a table and their templates; None without a source."""
        from abeyance.evaluation.datasets import read_photos

        return self.with_templates(read_photos(source, images=images)) if source else None

    def thresholds(self, similarities: Sequence[float]) -> list[tuple[float, float]]:
        """Return (similarity, cosine) on the model's scale."""
        from abeyance.vision.similarity import SimilarityScale

        scale = SimilarityScale.of(self.entry)
        return [(float(s), float(scale.cosine(float(s)))) for s in similarities]


@contextmanager
def ticking(description: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar; the function advances it by one."""
    with progress() as bar:
        task = bar.add_task(description, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def stepping(description: str) -> Iterator[Callable[[str, int], None]]:
    """Show a progress bar; the function is called with the step that begins, and the number of steps."""
    with progress() as bar:
        task = bar.add_task(description, total=None)
        begun = 0

        def begin(step: str, steps: int) -> None:
            nonlocal begun
            bar.update(task, description=f"{description}: {step}", total=steps, completed=begun)
            begun += 1

        yield begin


@contextmanager
def exit_on_error() -> Iterator[None]:
    """End the command with a message if the data or the models are not usable."""
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


def assignments(values: Sequence[str] | None, option: str, form: str) -> list[tuple[str, str]]:
    """Split ``NAME=VALUE`` texts of an option, or end the command."""
    pairs = [text.partition("=") for text in values or []]
    for name, _, value in pairs:
        if not (name and value):
            fail(f"{option} takes {form}, not {name}", Exit.USAGE)
    return [(name, value) for name, _, value in pairs]


def emit(
    kind: str,
    result: msgspec.Struct,
    output: OutputOptions,
    files: Mapping[str, Path | None] | None = None,
    **values: Any,
) -> None:
    """Print the result, and write the HTML report if it was asked for.

    Parameters
    ----------
    kind
        Name of the result and of its report.
    files
        Files that the command wrote, by description.
    values
        Variables of the report's template beside the result.
    """
    from abeyance.evaluation.render import write_html
    from abeyance.evaluation.report import build_report, envelope

    content = functools.partial(build_report, kind, found=result, **values)
    if output.html is not None:
        with exit_on_error():
            written, numbers = write_html(content(), kind, result, output.html, datetime.now(UTC))
        _note(f"Report: {written}  Numbers: {numbers}")
    for description, path in (files or {}).items():
        if path is not None:
            _note(f"{description}: {path}")
    with exit_on_error():
        report(envelope(kind, result), as_json=output.as_json, show=lambda: render_terminal(content()))


def render_terminal(content: StudyReport) -> None:
    """Print title, text and tables of a report, without plots, pictures and details."""
    console.print(Text(content.title, style="bold"))
    _say(content.summary)
    for value, meaning in content.tiles:
        console.print(Text.assemble("  ", (value, "bold"), f"  {meaning}"))
    for section in content.sections:
        if not section.detail:
            _print_section(section)
    for name, value in content.provenance:
        _say(f"{name}: {value}")


def _print_section(section: Section) -> None:
    console.print()
    console.print(Text(section.heading, style="bold"))
    for paragraph in section.paragraphs:
        _say(paragraph)
    for item in section.items:
        _say(f"- {item}")
    for one in section.tables:
        if one.rows:
            console.print(table(one.caption, one.columns, one.rows[:_MAX_ROWS]))
        if len(one.rows) > _MAX_ROWS:
            _say(f"{len(one.rows) - _MAX_ROWS} more rows are in the HTML report and in the JSON.")
        if one.note:
            _say(one.note)


def _say(text: str) -> None:
    console.print(" ".join(text.split()), highlight=False, markup=False)


def _note(text: str) -> None:
    errors.print(text, highlight=False, markup=False, soft_wrap=True)
