"""Labelled photos on disk: a folder per person, a table with attributes, published pairs, marked faces.

Relative paths of a table are looked up beside the table, then in the folder ``images`` beside it, or in the folder that
the caller names. A photo without a person counts as the only one of its person.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from abeyance.evaluation.arrays import IntArray
from abeyance.evaluation.errors import DataInvalid

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff"})
_IMAGE_COLUMN = re.compile(r"^(image|photo|file|filename|file_name|path)(_[a-z0-9]+)?$")
_PERSON_COLUMNS = ("person_id", "person", "identity", "subject_id", "subject", "individual")
#: Names of the columns of a table of pairs: the two photos, and whether they show one person.
_PAIR_COLUMNS = (
    ("image_a", "photo_a", "image1", "image_1", "a"),
    ("image_b", "photo_b", "image2", "image_2", "b"),
    ("same", "is_same", "mated", "label"),
)
#: Other names of an attribute.
_ALIASES = {"ethnicity": "race", "sex": "gender", "age_group": "age"}
#: A column with more different values is free text or a number, and makes no groups.
_MAX_VALUES = 40
_DECADES = ((3, "0-2"), (10, "3-9"), *((10 * d, f"{10 * d - 10}-{10 * d - 1}") for d in range(2, 8)))


@dataclass(frozen=True, slots=True)
class LabelledPhoto:
    """A photo, its person, and the published attributes of that person."""

    path: Path
    person: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    #: Column of the table that names the photo, "" outside tables.
    column: str = ""

    @property
    def label(self) -> str:
        """Folder and name of the file, for reports."""
        return f"{self.path.parent.name}/{self.path.name}"


@dataclass(frozen=True, slots=True)
class PhotoSet:
    """Photos of one source."""

    name: str
    photos: tuple[LabelledPhoto, ...]
    #: Whether the source names persons; if not, every photo is a person of its own.
    persons_given: bool

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def paths(self) -> list[Path]:
        """Path of every photo."""
        return [photo.path for photo in self.photos]

    @property
    def persons(self) -> list[str]:
        """Person of every photo."""
        return [photo.person for photo in self.photos]

    @property
    def attributes(self) -> list[str]:
        """Names of the attributes that all photos have, in the order of the table."""
        if not self.photos:
            return []
        return [a for a in self.photos[0].attributes if all(a in p.attributes for p in self.photos)]

    def labels(self, attributes: Sequence[str]) -> list[str]:
        """Return the group of every photo: the values of ``attributes`` joined by `` / ``.

        Raises
        ------
        DataInvalid
            If an attribute is missing.
        """
        missing = [name for name in attributes if name not in self.attributes]
        if missing:
            raise DataInvalid(
                f"{self.name} has no column {', '.join(missing)}; there are: {', '.join(self.attributes) or 'none'}"
            )
        return [" / ".join(photo.attributes[name] for name in attributes) for photo in self.photos]

    @property
    def person_codes(self) -> IntArray:
        """(n,) int64: number of the person of every photo, from 0."""
        return codes_of(self.persons)

    @property
    def groupings(self) -> list[str]:
        """Which of race, gender and age the photos have."""
        return [name for name in ("race", "gender", "age") if name in self.attributes]

    def rows(self, rows: IntArray) -> PhotoSet:
        """Return only the photos of some rows."""
        return replace(self, photos=tuple(self.photos[row] for row in rows))

    def of_column(self, column: str) -> PhotoSet:
        """Return only the photos of one column of the table, for tables with several photos of a person.

        Raises
        ------
        DataInvalid
            If there are no photos in such a column.
        """
        kept = tuple(photo for photo in self.photos if photo.column == column)
        if not kept:
            columns = sorted({photo.column for photo in self.photos})
            raise DataInvalid(
                f"{self.name} has no photos in a column {column}; there are: {', '.join(columns)}"
            )
        return PhotoSet(f"{self.name} ({column})", kept, self.persons_given)

    def where(self, allowed: Mapping[str, Collection[str]]) -> PhotoSet:
        """Return only the photos with one of the ``allowed`` values of each attribute, in any case of letters.

        Raises
        ------
        DataInvalid
            If an attribute is missing, or no photo has such values.
        """
        photos = self.photos
        for name, values in allowed.items():
            self.labels([name])
            folded = {value.casefold() for value in values}
            photos = tuple(photo for photo in photos if photo.attributes[name].casefold() in folded)
        if not photos:
            raise DataInvalid(f"no photo of {self.name} has the attribute values that were asked for")
        return replace(self, photos=photos)

    def renamed(self, names: Mapping[str, str]) -> PhotoSet:
        """Return the photos with other names of attribute values, so that two sources can be compared.

        Parameters
        ----------
        names
            Published value, in any case of letters: new value.
        """
        folded = {old.casefold(): new for old, new in names.items()}
        return replace(
            self,
            photos=tuple(
                replace(
                    photo, attributes={k: folded.get(v.casefold(), v) for k, v in photo.attributes.items()}
                )
                for photo in self.photos
            ),
        )


@dataclass(frozen=True, slots=True)
class PhotoPair:
    """Two photos, mated (of one person) or non-mated."""

    a: Path
    b: Path
    same: bool
    #: Test fold of the published protocol, "" if it has none.
    fold: str = ""


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image and the boxes of its marked faces: x, y, width, height in pixels."""

    path: Path
    boxes: tuple[tuple[float, float, float, float], ...]


def read_photos(source: str | Path, *, images: str | Path = "") -> PhotoSet:
    """Read the photos of a folder or a table.

    Parameters
    ----------
    source
        A folder with a folder per person; a folder of photos of different people; or a CSV with one or more columns
        of photos (``image``, ``photo``, ``file`` or ``path``, also ``photo_a``, ``photo_b``), optionally a column of
        persons (``person_id``, ``person``, ``identity``, ``subject``), and columns of attributes.
    images
        Folder that the paths of a table are relative to; the table's own and ``images`` beside it come after it.

    Raises
    ------
    DataInvalid
        If there are no photos, if photos are missing, or if the table cannot be read.
    """
    path = Path(source)
    if path.is_dir():
        return _read_folder(path)
    rows = _rows(path)
    columns = list(rows[0])
    image_columns = [column for column in columns if _IMAGE_COLUMN.match(column)]
    if not image_columns:
        raise DataInvalid(
            f"{path.name} has no column of photos; call it image, photo, file or path (it has: {', '.join(columns)})"
        )
    person_column = next((column for column in _PERSON_COLUMNS if column in columns), "")
    attributes = _attributes(rows, [c for c in columns if c not in image_columns and c != person_column])
    resolve = _Resolver(path, images)
    photos = []
    for number, row in enumerate(rows, 1):
        known = {name: values[number - 1] for name, values in attributes.items()}
        person = row[person_column] if person_column else f"row {number}"
        photos += [
            LabelledPhoto(resolve(row[column], number), person, known, column)
            for column in image_columns
            if row[column]
        ]
    resolve.check()
    return PhotoSet(_name(path), tuple(photos), bool(person_column) or len(image_columns) > 1)


def join_photos(sets: Sequence[PhotoSet]) -> PhotoSet:
    """Return the photos of several sources as one; people of two sources are different people."""
    if len(sets) == 1:
        return sets[0]
    return PhotoSet(
        ", ".join(photos.name for photos in sets),
        tuple(
            replace(photo, person=f"{number}/{photo.person}")
            for number, photos in enumerate(sets, 1)
            for photo in photos.photos
        ),
        persons_given=all(photos.persons_given for photos in sets),
    )


def read_pairs(source: str | Path, *, images: str | Path = "") -> list[PhotoPair]:
    """Read pairs of a CSV (``image_a``, ``image_b``, ``same``, optionally ``fold``) or of LFW's own ``pairs.txt``.

    Raises
    ------
    DataInvalid
        As :func:`read_photos`.
    """
    path = Path(source)
    if path.suffix == ".txt":
        return _read_lfw(path, images)
    rows = _rows(path)
    first, second, label = (next((c for c in rows[0] if c in names), "") for names in _PAIR_COLUMNS)
    if not (first and second and label):
        raise DataInvalid(
            f"{path.name} needs the columns image_a, image_b and same (1 for one person, else 0)"
        )
    resolve = _Resolver(path, images)
    pairs = [
        PhotoPair(
            resolve(row[first], number),
            resolve(row[second], number),
            _truth(row[label], path),
            row.get("fold", ""),
        )
        for number, row in enumerate(rows, 1)
    ]
    resolve.check()
    return pairs


def read_boxes(source: str | Path, *, images: str | Path = "") -> list[LabelledImage]:
    """Read images with marked faces from a CSV: ``image``, ``x``, ``y``, ``width``, ``height`` in pixels.

    A row with an empty ``width`` or a ``width`` of 0 stands for an image without a face.

    Raises
    ------
    DataInvalid
        As :func:`read_photos`.
    """
    path = Path(source)
    rows = _rows(path)
    needed = ("image", "x", "y", "width", "height")
    if any(column not in rows[0] for column in needed):
        raise DataInvalid(f"{path.name} needs the columns {', '.join(needed)}")
    resolve = _Resolver(path, images)
    boxes: dict[Path, list[tuple[float, float, float, float]]] = {}
    for number, row in enumerate(rows, 1):
        known = boxes.setdefault(resolve(row["image"], number), [])
        try:
            x, y, width, height = (float(row[column] or 0) for column in needed[1:])
        except ValueError:
            raise DataInvalid(f"{path.name} has a box that is not four numbers") from None
        if width > 0 and height > 0:
            known.append((x, y, width, height))
    resolve.check()
    return [LabelledImage(image, tuple(found)) for image, found in boxes.items()]


def person_of(path: Path) -> str:
    """Return the person of a photo in a tree with a folder per person."""
    return path.parent.name


def codes_of(names: Sequence[str]) -> IntArray:
    """Return the number of each name, from 0, in the order of first appearance: (n,) int64."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


class _Resolver:
    """Paths of the photos of a table, and a count of those that are missing."""

    def __init__(self, table: Path, images: str | Path) -> None:
        own = [table.parent, table.parent / "images"]
        self._roots = [Path(images), *own] if images else own
        self._table = table
        self._missing: list[tuple[str, int]] = []
        self._paths: dict[str, Path] = {}

    def __call__(self, name: str, row: int) -> Path:
        """Return the path of photo ``name``, which stands in ``row`` of the table, counted from 1."""
        if name not in self._paths:
            found = next((root / name for root in self._roots if (root / name).is_file()), None)
            if found is None:
                self._missing.append((name, row))
            self._paths[name] = found or Path(name)
        return self._paths[name]

    def check(self) -> None:
        if self._missing:
            name, row = self._missing[0]
            raise DataInvalid(
                f"{len(self._missing)} of {len(self._paths)} photos of {self._table.name} are not in "
                f"{' or '.join(map(str, self._roots))}, the first of them {name} in row {row}; "
                "give their folder with --images"
            )


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [{k.strip().lower(): (v or "").strip() for k, v in row.items() if k} for row in reader]
    except OSError as error:
        raise DataInvalid(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataInvalid(f"{path.name} is not a CSV file in UTF-8") from error
    if not rows:
        raise DataInvalid(f"{path.name} has no rows")
    return rows


def _attributes(rows: list[dict[str, str]], columns: list[str]) -> dict[str, list[str]]:
    found = {}
    for column in columns:
        name = _ALIASES.get(column, column)
        values = [row[column] for row in rows]
        if name == "age":
            values = [_age_bin(value) for value in values]
        if name not in {"name", "id", "fold"} and 1 < len(set(values)) <= _MAX_VALUES:
            found[name] = [value or "unknown" for value in values]
    return found


def _age_bin(value: str) -> str:
    try:
        years = float(value)
    except ValueError:
        return value
    return next((label for below, label in _DECADES if years < below), "more than 70")


def _read_folder(folder: Path) -> PhotoSet:
    tree = [
        LabelledPhoto(file, person.name)
        for person in sorted(p for p in folder.iterdir() if p.is_dir())
        for file in _photos_in(person)
    ]
    if tree:
        return PhotoSet(_name(folder), tuple(tree), persons_given=True)
    flat = [LabelledPhoto(file, file.stem) for file in _photos_in(folder)]
    if not flat:
        raise DataInvalid(f"there are no photos in {folder}; expected a folder per person, or photos")
    return PhotoSet(_name(folder), tuple(flat), persons_given=False)


def _photos_in(folder: Path) -> Iterator[Path]:
    return (f for f in sorted(folder.iterdir()) if f.suffix.lower() in SUFFIXES and f.is_file())


def _read_lfw(path: Path, images: str | Path) -> list[PhotoPair]:
    """Read LFW's format: a head line (folds, pairs per fold and kind), then ``name n1 n2`` or ``name1 n1 name2 n2``."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        head = [int(word) for word in lines[0]]
        folds, size = head if len(head) == 2 else (1, head[0])
        resolve = _Resolver(path, images)
        pairs = []
        for number, words in enumerate(lines[1:]):
            first, one, second, two = words if len(words) == 4 else (words[0], words[1], words[0], words[2])
            a, b = (
                resolve(f"{name}/{name}_{int(n):04d}.jpg", number + 1)
                for name, n in ((first, one), (second, two))
            )
            pairs.append(PhotoPair(a, b, len(words) == 3, str(number // (2 * size) + 1) if folds > 1 else ""))
    except OSError as error:
        raise DataInvalid(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise DataInvalid(f"{path.name} is not in the format of LFW's pairs.txt") from error
    if not pairs:
        raise DataInvalid(f"{path.name} has no pairs")
    resolve.check()
    return pairs


def _truth(value: str, path: Path) -> bool:
    if value.lower() in {"1", "true", "yes", "same"}:
        return True
    if value.lower() in {"0", "-1", "false", "no", "different"}:
        return False
    raise DataInvalid(f"{path.name} has a value in column same that is neither 1 nor 0")


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}" if path.parent.name else path.name
