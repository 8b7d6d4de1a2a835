"""The model manifest: weights, sources, licences and use of every model.

The manifest is data (``layers/models/manifest.json``). An operator adds models of their own with a second
file of the same shape, named by ``$ABEYANCE_MANIFEST`` or given as an argument; no code changes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from abeyance.vision.errors import ManifestInvalid

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9._-]{0,62}$")]
Triple = tuple[float, float, float]


class ModelRole(StrEnum):
    """The purpose of a model."""

    DETECTOR = "detector"
    EMBEDDER = "embedder"
    AGE = "age"
    GENDER = "gender"
    EXPRESSION = "expression"
    MESH = "mesh"
    IRIS = "iris"


class PackageSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A published archive: a wheel or sdist of a Python package, or the tarball of an npm package."""

    registry: Literal["pypi", "npm"]
    package: str
    version: str
    kind: Literal["wheel", "sdist", "tarball"]
    #: Of the archive; more than one where the same files were published in several archives.
    sha256: tuple[Sha256, ...]
    #: Size of the archive in bytes, for the progress bar; 0 if not known.
    bytes: int = 0
    #: Wheel tag ``python-abi-platform[.platform...]`` to ask for, where the wheel is not a pure one. Files
    #: taken from a wheel are data, so one fixed tag serves every machine.
    wheel_tag: str = ""


class Licence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The terms for using a model."""

    #: SPDX identifier, or ``LicenseRef-...`` for terms of the operator's own.
    spdx: str
    attribution: str
    #: Further information for users: training data, restrictions.
    notice: str = ""


class Conversion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The conversion of the published file to the one that runs. A change of the arithmetic is a new version."""

    name: Literal[
        "none",
        "yunet-dynamic",
        "sface-fold",
        "prelu",
        "tfjs-age-gender",
        "tfjs-expression",
        "tfjs-mesh",
        "tfjs-iris",
    ] = "none"
    version: int = 1
    #: Form in which the arithmetic is written. A new form is converted anew, and templates stay comparable.
    form: int = 1


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Preprocessing of uint8 RGB to the input: ``(channel - mean) / std``, float32, channels in ``colour`` order."""

    colour: Literal["RGB", "BGR"] = "RGB"
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    #: Width and height in pixels; 0 where the model takes any size.
    width: int = 0
    height: int = 0
    #: Name of the alignment that chips are cut with; see ``abeyance.vision.alignment``.
    alignment: Literal[
        "", "arcface-112", "dlib-0.2", "box-1.0-1.1", "box-1.2-upright", "box-1.5-upright", "eye-2.3"
    ] = ""


class SimilarityCalibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The published meaning of ``similarity``; see ``abeyance.vision.similarity``."""

    #: (cosine, similarity 0-100), both strictly increasing.
    knots: tuple[tuple[float, float], ...]
    #: Data, number of pairs and assumptions of the measurement.
    provenance: str


class PackageFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A further file of a model that is published in several: its graph, or the names of its weights."""

    file: str
    sha256: Sha256


class FittedMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The map that follows an embedder; see :class:`abeyance.vision.models.template_map.TemplateMap`."""

    #: Path relative to the manifest that names it.
    file: str
    sha256: Sha256


class FormerModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An earlier form of an embedder: the same weights with another map or none, so that its templates can be made."""

    calibration: SimilarityCalibration
    map: FittedMap | None = None


class Confidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The calibration of an attribute model's confidence; see ``abeyance.vision.attributes``."""

    #: Data and limits of the measurement.
    provenance: str
    #: 0 to 100; an answer with less confidence is withheld.
    floor: float = 0.0
    #: Divisor of the logarithms of the classes' shares, and the terms that are then added.
    temperature: float = 1.0
    biases: tuple[float, ...] = ()
    #: (share that the model claims, share that is true), both rising, 0 to 1.
    knots: tuple[tuple[float, float], ...] = ()
    #: (age that the model claims, lowest, highest age of the range) in years, all three rising.
    ranges: tuple[tuple[float, float, float], ...] = ()


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model of the manifest."""

    name: Name
    role: ModelRole
    #: SHA-256 and size of the file as published, before any conversion.
    sha256: Sha256
    bytes: int = 0
    licence: Licence
    about: str = ""
    #: Source of the file: a published package and the path of the file in it ...
    source: PackageSource | None = None
    file: str = ""
    #: Further files of the same package.
    also: tuple[PackageFile, ...] = ()
    #: ... or a file of the operator's own, relative to the manifest that names it.
    path: str = ""
    conversion: Conversion = Conversion()
    preprocessing: Preprocessing = Preprocessing()
    #: Length of a template, for an embedder.
    dimension: int = 0
    map: FittedMap | None = None
    #: Earlier forms, whose collections are still answered.
    former: tuple[FormerModel, ...] = ()
    calibration: SimilarityCalibration | None = None
    #: Names of the outputs in their order, for a classifier.
    classes: tuple[str, ...] = ()
    confidence: Confidence | None = None

    def __post_init__(self) -> None:
        if bool(self.path) == bool(self.source):
            raise ValueError(f"model {self.name}: give either a source with a file, or a path")
        if self.source and not self.file:
            raise ValueError(f"model {self.name}: a source needs the path of the file in the package")
        if self.path and self.also:
            raise ValueError(f"model {self.name}: only a package has further files")
        if self.map and (self.role is not ModelRole.EMBEDDER or self.conversion.name == "none"):
            raise ValueError(f"model {self.name}: only an embedder that is converted takes a map; try prelu")
        if self.role is ModelRole.EMBEDDER:
            if self.dimension < 1:
                raise ValueError(f"model {self.name}: an embedder needs its dimension")
            if self.calibration is None:
                raise ValueError(
                    f"model {self.name}: an embedder needs a calibration, else similarity has no meaning"
                )
            if (self.preprocessing.width, self.preprocessing.height) != (112, 112):
                raise ValueError(f"model {self.name}: an embedder takes chips of 112 x 112")

    @property
    def identity(self) -> str:
        """``<name>@<12 hex digits>``: equal if and only if templates are comparable.

        The digits are the head of the SHA-256 of the canonical JSON (RFC 8785) of everything that determines
        a template: published weights, conversion, preprocessing with alignment, dimension. Calibration and
        licence are not in it.
        """
        import rfc8785

        determines = {
            "sha256": self.sha256,
            "conversion": {"name": self.conversion.name, "version": self.conversion.version},
            "preprocessing": msgspec.to_builtins(self.preprocessing),
            "dimension": self.dimension,
            "normalisation": "l2" if self.role is ModelRole.EMBEDDER else "",
            **({"also": [part.sha256 for part in self.also]} if self.also else {}),
            **({"map": self.map.sha256} if self.map else {}),
        }
        return f"{self.name}@{hashlib.sha256(rfc8785.dumps(determines)).hexdigest()[:12]}"

    @property
    def forms(self) -> tuple[ModelEntry, ...]:
        """The earlier forms as entries of their own, which have the same name and another identity."""
        return tuple(
            msgspec.structs.replace(self, map=one.map, calibration=one.calibration, former=())
            for one in self.former
        )


class _ManifestFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    models: tuple[ModelEntry, ...]


class Manifest(msgspec.Struct, frozen=True):
    """The models of this installation by name."""

    entries: dict[str, ModelEntry]

    @classmethod
    def load(cls, path: str | Path = "", extra: Iterable[str | Path] = ()) -> Manifest:
        """Read the manifest of this installation and those of the operator.

        Parameters
        ----------
        path
            The main manifest; empty for the one that comes with the package.
        extra
            Further manifests; ``$ABEYANCE_MANIFEST`` (paths separated as in ``$PATH``) comes after them.
            Paths of models in them are relative to the file that names them.

        Raises
        ------
        ManifestInvalid
            If a file is missing or malformed, or two entries have one name.
        """
        named = [Path(p) for p in os.environ.get("ABEYANCE_MANIFEST", "").split(os.pathsep) if p]
        entries: dict[str, ModelEntry] = {}
        for file in [Path(path) if path else _installed(), *map(Path, extra), *named]:
            for entry in _read(file).models:
                if entry.path:
                    entry = msgspec.structs.replace(
                        entry, path=str(file.parent.joinpath(entry.path).absolute())
                    )
                entry = msgspec.structs.replace(
                    entry,
                    map=_beside(file, entry.map),
                    former=tuple(
                        msgspec.structs.replace(one, map=_beside(file, one.map)) for one in entry.former
                    ),
                )
                if entries.setdefault(entry.name, entry) != entry:
                    raise ManifestInvalid(
                        f"{file}: the manifest already has another model {entry.name}; names are part of a "
                        "template's identity, so choose another one"
                    )
        return cls(entries)

    def __getitem__(self, name: str) -> ModelEntry:
        try:
            return self.entries[name]
        except KeyError:
            known = ", ".join(sorted(self.entries))
            raise ManifestInvalid(f"no model {name!r} in the manifest; there are: {known}") from None


def entry_of(manifest: Manifest, identity: str) -> ModelEntry | None:
    """Return the model of an identity, one of its earlier forms included; None if the manifest has none."""
    name = identity.partition("@")[0]
    entry = manifest.entries.get(name)
    forms = (entry, *entry.forms) if entry else ()
    return next((one for one in forms if one.identity == identity), None)


def _beside(manifest: Path, fitted: FittedMap | None) -> FittedMap | None:
    if fitted is None:
        return None
    return msgspec.structs.replace(fitted, file=str(manifest.parent.joinpath(fitted.file).absolute()))


def _installed() -> Path:
    package = Path(__file__).parents[2]
    # In a wheel, in the repository, in a Lambda layer.
    places = [
        package / "models",
        package.parent / "models",
        package.parents[1] / "models",
        Path("/opt/models"),
    ]
    for place in places:
        if (place / "manifest.json").is_file():
            return place / "manifest.json"
    raise ManifestInvalid("the model manifest is missing from this installation; install abeyance again")


def _read(path: Path) -> _ManifestFile:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_ManifestFile)
    except OSError as error:
        raise ManifestInvalid(f"cannot read the model manifest {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ManifestInvalid(f"{path} is not a model manifest: {error}") from error
