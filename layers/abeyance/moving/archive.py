"""The file of an exported collection: Parquet, encrypted as Parquet's own specification says.

Each row is a face; a row without ``face_id`` is a user without faces. The faces of a user are adjacent, in the order in
which they were associated. Encryption is Parquet Modular Encryption (AES-GCM, footer included), so that any reader of
the format with the key can read it. https://github.com/apache/parquet-format/blob/master/Encryption.md
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

from abeyance.moving.errors import MovingError
from abeyance.moving.keys import MasterKey

FORMAT: Final = b"abeyance-collection-1"
_KEY_NAME: Final = "export"
_MODEL, _COLLECTION, _TEMPLATES = b"abeyance.model", b"abeyance.collection", b"abeyance.templates"

SCHEMA: Final = pa.schema(
    [
        pa.field("face_id", pa.string()),
        pa.field("image_id", pa.string()),
        pa.field("external_image_id", pa.string()),
        pa.field("user_id", pa.string()),
        # Shares of the upright photo's width and height.
        *(pa.field(side, pa.float64()) for side in ("left", "top", "width", "height")),
        # 0 to 100.
        pa.field("confidence", pa.float32()),
        pa.field("quality", pa.map_(pa.string(), pa.float64())),
        *(pa.field(f"photo_{part}", pa.string()) for part in ("bucket", "key", "version")),
        # Half-precision numbers, little-endian, of unit length up to rounding.
        pa.field("template", pa.binary()),
    ]
)


class ArchiveWriter:
    """A file in the writing, as a context manager; it has its name only when it is complete.

    Parameters
    ----------
    path
        Where it will lie. A file there is replaced.
    key
        Wraps its data key.
    model, collection, templates
        Identity of the model, name of the collection, and whether it has templates.
    """

    def __init__(self, path: Path, key: MasterKey, *, model: str, collection: str, templates: bool) -> None:
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        facts = {
            b"abeyance.format": FORMAT,
            _MODEL: model.encode(),
            _COLLECTION: collection.encode(),
            _TEMPLATES: b"yes" if templates else b"no",
        }
        self._schema = SCHEMA.with_metadata(facts)
        factory, connection = _crypto(key)
        encryption = pe.EncryptionConfiguration(
            footer_key=_KEY_NAME, uniform_encryption=True, double_wrapping=False, data_key_length_bits=256
        )
        self._properties = factory.file_encryption_properties(connection, encryption)

    def __enter__(self) -> ArchiveWriter:
        self._writer = pq.ParquetWriter(
            self._part, self._schema, compression="zstd", encryption_properties=self._properties
        )
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._writer.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows, as the schema names their columns, in a group of their own."""
        if rows:
            self._writer.write_table(pa.Table.from_pylist(list(rows), self._schema))


class Archive:
    """An exported collection.

    Raises :class:`MovingError` for a file of another kind or key.
    """

    def __init__(self, path: Path, key: MasterKey) -> None:
        self.path = path
        factory, connection = _crypto(key)
        try:
            properties = factory.file_decryption_properties(connection, pe.DecryptionConfiguration())
            self._file = pq.ParquetFile(path, decryption_properties=properties)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise MovingError(f"{path} is no export, is damaged, or has another key") from error
        facts = self._file.schema_arrow.metadata or {}
        if facts.get(b"abeyance.format") != FORMAT:
            raise MovingError(f"{path} is no export of a collection")
        self.model = facts[_MODEL].decode()
        self.collection = facts[_COLLECTION].decode()
        self.has_templates = facts[_TEMPLATES] == b"yes"
        self.rows: int = self._file.metadata.num_rows

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def pages(self, faces: int, after: int = 0) -> Iterator[list[dict[str, Any]]]:
        """Yield rows by the page, without the first ``after``: at least ``faces`` rows if there are, and whole users.

        With at most 100 faces a user, a page has fewer than ``faces`` + 100 rows.
        """
        page: list[dict[str, Any]] = []
        for row in self._rows(after):
            if len(page) >= faces and (not row["user_id"] or row["user_id"] != page[-1]["user_id"]):
                yield page
                page = []
            page.append(row)
        if page:
            yield page

    def _rows(self, after: int) -> Iterator[dict[str, Any]]:
        for group in range(self._file.num_row_groups):
            count = self._file.metadata.row_group(group).num_rows
            if after >= count:
                after -= count
                continue
            for batch in self._file.iter_batches(batch_size=1000, row_groups=[group]):
                rows = batch.to_pylist()
                yield from rows[after:]
                after = max(0, after - len(rows))


class _KeyService(pe.KmsClient):  # type: ignore[misc]
    """The master key, as Parquet's library asks for it."""

    def __init__(self, key: MasterKey) -> None:
        super().__init__()
        self._key = key

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        return self._key.wrap(key_bytes)

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        return self._key.unwrap(wrapped_key)


def _crypto(key: MasterKey) -> tuple[Any, Any]:
    return pe.CryptoFactory(lambda _: _KeyService(key)), pe.KmsConnectionConfig()
