"""The journal of an import from Amazon Rekognition: each face with its outcome, so that nothing is done twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

from abeyance.moving.errors import MovingError

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS faces (
  face_id TEXT PRIMARY KEY, image_id TEXT NOT NULL, external_image_id TEXT NOT NULL, user_id TEXT NOT NULL,
  left REAL NOT NULL, top REAL NOT NULL, width REAL NOT NULL, height REAL NOT NULL,
  outcome TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '', new_id TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS images ON faces (image_id);
CREATE INDEX IF NOT EXISTS waiting ON faces (image_id) WHERE outcome = '';
CREATE INDEX IF NOT EXISTS users_of_faces ON faces (user_id);
CREATE INDEX IF NOT EXISTS new_ids ON faces (new_id);
CREATE TABLE IF NOT EXISTS users (user_id TEXT PRIMARY KEY, done INTEGER NOT NULL DEFAULT 0);
"""


class FaceOutcome(StrEnum):
    """The end of a face that was to be moved."""

    MOVED = "moved"
    #: No rule names its photo, or the photo is not there.
    PHOTO_MISSING = "photo_missing"
    #: The photo is there and cannot be read: damaged, too large, of another format.
    PHOTO_REFUSED = "photo_refused"
    #: No face is where the face was.
    FACE_NOT_FOUND = "face_not_found"
    #: A face is there, and the quality filter does not take it.
    QUALITY_REFUSED = "quality_refused"


class SourceFace(msgspec.Struct, frozen=True):
    """A face of the collection that is read."""

    face_id: str
    image_id: str
    external_image_id: str = ""
    user_id: str = ""
    #: left, top, width, height as shares of the photo's width and height.
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


class Ended(msgspec.Struct, frozen=True):
    """The outcome of a face; ``new_id`` is its id in the new collection, if it was moved."""

    face_id: str
    outcome: FaceOutcome
    reason: str = ""
    new_id: str = ""


class Journal:
    """A journal in a SQLite file that only its owner can read: it names faces and people.

    Parameters
    ----------
    path
        The file, made if it is missing.
    about
        What the import is of; a journal of another one raises :class:`MovingError`.
    """

    def __init__(self, path: Path, about: Mapping[str, str]) -> None:
        path.touch(mode=0o600)
        self._db = sqlite3.connect(path)
        self._db.executescript(_SCHEMA)
        for name, value in about.items():
            if self.fact(name, value) != value:
                raise MovingError(f"{path} is the journal of another import; name another one with --journal")

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def fact(self, name: str, value: str = "") -> str:
        """Return what is noted under a name; note ``value``, if it is not empty and nothing is."""
        with self._db:
            if value:
                self._db.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, value))
            found = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else ""

    def add(self, faces: Iterable[SourceFace]) -> None:
        """Note faces that are to be moved; those that are known stay as they are."""
        rows = [
            (face.face_id, face.image_id, face.external_image_id, face.user_id, *face.box) for face in faces
        ]
        with self._db:
            self._db.executemany(
                "INSERT OR IGNORE INTO faces (face_id, image_id, external_image_id, user_id, left, top, width, height) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )

    def add_users(self, user_ids: Iterable[str]) -> None:
        """Note users that are to be made."""
        with self._db:
            self._db.executemany(
                "INSERT OR IGNORE INTO users (user_id) VALUES (?)", ((one,) for one in user_ids)
            )

    def count(self, *, waiting: bool = False) -> int:
        """Return the number of faces, or of those without an outcome."""
        condition = "WHERE outcome = ''" if waiting else ""
        return int(self._db.execute(f"SELECT count(*) FROM faces {condition}").fetchone()[0])  # noqa: S608

    def photos(self) -> Iterator[list[SourceFace]]:
        """Yield the faces of each photo that has a face without an outcome."""
        while True:
            first = self._db.execute("SELECT min(image_id) FROM faces WHERE outcome = ''").fetchone()[0]
            if first is None:
                return
            yield self._faces("image_id = ?", first)

    def end(self, ended: Iterable[Ended]) -> None:
        """Note outcomes, all or none."""
        with self._db:
            self._db.executemany(
                "UPDATE faces SET outcome = ?, reason = ?, new_id = ? WHERE face_id = ?",
                [(str(one.outcome), one.reason, one.new_id, one.face_id) for one in ended],
            )

    def retry(self) -> None:
        """Forget the outcomes of faces that were not moved."""
        with self._db:
            self._db.execute("UPDATE faces SET outcome = '', reason = '' WHERE outcome != 'moved'")
            self._db.execute("UPDATE users SET done = 0")

    def waiting_users(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each user that is not made yet, with the new ids of their faces."""
        for (user_id,) in self._db.execute("SELECT user_id FROM users WHERE NOT done").fetchall():
            found = self._db.execute(
                "SELECT DISTINCT new_id FROM faces WHERE user_id = ? AND new_id != ''", (user_id,)
            )
            yield user_id, [row[0] for row in found]

    def end_user(self, user_id: str) -> None:
        """Note that a user is made."""
        with self._db:
            self._db.execute("UPDATE users SET done = 1 WHERE user_id = ?", (user_id,))

    def outcomes(self) -> dict[str, int]:
        """Return the number of faces with each outcome."""
        found = dict(self._db.execute("SELECT outcome, count(*) FROM faces GROUP BY outcome"))
        return {str(outcome): found.get(str(outcome), 0) for outcome in FaceOutcome}

    def unmoved(self) -> Iterator[dict[str, Any]]:
        """Yield the faces that were not moved, with the reason."""
        names = ("face_id", "image_id", "external_image_id", "outcome", "reason")
        query = f"SELECT {', '.join(names)} FROM faces WHERE outcome NOT IN ('', 'moved') ORDER BY face_id"  # noqa: S608
        for row in self._db.execute(query):
            yield dict(zip(names, row, strict=True))

    def moved(self, limit: int) -> list[SourceFace]:
        """Return up to ``limit`` moved faces of different photos, spread over the journal."""
        rows = self._faces(
            "face_id IN (SELECT min(face_id) FROM faces WHERE outcome = 'moved' GROUP BY image_id)"
        )
        return rows[:: max(1, len(rows) // limit)][:limit] if limit else []

    def moved_id(self, face_id: str) -> list[str]:
        """Return the face, if it was moved."""
        return self._column("SELECT face_id FROM faces WHERE face_id = ? AND outcome = 'moved'", face_id)

    def old_id(self, new_id: str) -> list[str]:
        """Return the faces that became a face of the new collection."""
        return self._column("SELECT face_id FROM faces WHERE new_id = ? ORDER BY face_id", new_id)

    def _column(self, query: str, value: str) -> list[str]:
        return [str(row[0]) for row in self._db.execute(query, (value,))]

    def _faces(self, condition: str, *values: str) -> list[SourceFace]:
        names = "face_id, image_id, external_image_id, user_id, left, top, width, height"
        query = f"SELECT {names} FROM faces WHERE {condition} ORDER BY face_id"  # noqa: S608
        return [
            SourceFace(face_id, image_id, name, user_id, (left, top, width, height))
            for face_id, image_id, name, user_id, left, top, width, height in self._db.execute(query, values)
        ]
