"""The rules for the body of a ledger entry: JSON that is small, lossless, and holds nothing about a face.

A ledger is kept for years, shown to auditors, and never edited, so what must not be kept must not get in.
This is a guard against a careless producer; it cannot stop one that hides data on purpose.
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import Any, Final

from abeyance.ledger.canonical import is_plain
from abeyance.ledger.errors import Inadmissible

#: Longest string, in characters. The longest that is needed is the reason of a flag.
MAX_STRING: Final = 2048
#: Longest run of base64 or hex without a space. A SHA-256 has 64; the smallest useful template has 172.
MAX_BLOB: Final = 128
#: Most numbers in one array, nested arrays counted in. A box has 4, five landmarks have 10.
MAX_NUMBERS: Final = 16
#: Deepest nesting of objects and arrays.
MAX_DEPTH: Final = 24
#: Most values in one body.
MAX_VALUES: Final = 5000
#: Largest exact integer of an IEEE 754 double, and so of canonical JSON (RFC 8785, section 3.2.2.3).
MAX_NUMBER: Final = 2**53 - 1

_KEY: Final = re.compile(r"[ !#-\[\]-~]{1,128}")
_BLOB: Final = re.compile(rf"[A-Za-z0-9+/_=-]{{{MAX_BLOB + 1},}}")
_IMAGE_NAME: Final = re.compile(r"\.(?:jpe?g|png|webp|gif|bmp|tiff?|heic|avif)\b", re.IGNORECASE)
#: Compared in lower case and without ``_``, ``-``, ``.`` and blanks, so that ExternalImageId is
#: external_image_id.
_FORBIDDEN_KEYS: Final = frozenset(
    {"template", "templates", "facetemplate", "embedding", "embeddings", "descriptor", "descriptors"}
    | {"facevector", "vector", "vectors", "chipbytes", "chipdata"}
    | {"image", "imagebytes", "imagedata", "pixels", "thumbnail"}
    | {"externalimageid", "externalimageids", "externalid", "filename", "objectkey", "s3key"}
    | {"gender", "agerange", "emotions", "ethnicity", "race"}
    | {"fullname", "firstname", "lastname", "dateofbirth", "birthdate"}
)
_SEPARATORS: Final = str.maketrans("", "", "_-. ")


def check_body(body: Any) -> bool:
    """Refuse a body that must not be on the ledger; return whether ``canonical_json`` may write it the fast way.

    Parameters
    ----------
    body
        What a producer wants to write: nested ``dict``, ``list``, ``tuple``, ``str``, ``int``, ``float``,
        ``bool``, ``None``, and nothing else.

    Raises
    ------
    Inadmissible
        Not an object; bytes or another type that JSON has not; a key that names biometric or personal data;
        an array of more than :data:`MAX_NUMBERS` numbers; a string that is too long, looks like encoded data,
        names an image file or cannot be UTF-8; a number that a double does not hold exactly; too deep or too
        large.
    """
    if not isinstance(body, dict):
        raise Inadmissible(f"body: must be a JSON object, not {type(body).__name__}")
    walk = _Check()
    walk.value(body, "body", 0)
    return walk.plain


def named(collection: str) -> dict[str, str]:
    """Return a collection as a body names it; by its digest where the name itself is nothing that a body may hold."""
    if not collection:
        return {}
    try:
        check_body({"collection": collection})
    except Inadmissible:
        return {"collection_sha256": hashlib.sha256(collection.encode()).hexdigest()}
    return {"collection": collection}


class _Check:
    """One walk through a body; counts what it has seen."""

    def __init__(self) -> None:
        self.values = 0
        self.plain = True

    def value(self, value: Any, path: str, depth: int) -> int:
        """Check one value; return how many numbers it holds outside of objects."""
        self.values += 1
        if self.values > MAX_VALUES:
            raise Inadmissible(f"body: more than {MAX_VALUES} values; write a summary")
        if depth > MAX_DEPTH:
            raise Inadmissible(f"{path}: nested more than {MAX_DEPTH} deep")
        if value is None or isinstance(value, bool):
            return 0
        if isinstance(value, str):
            _check_string(value, path)
            return 0
        if isinstance(value, int | float):
            _check_number(value, path)
            self.plain &= isinstance(value, int) or is_plain(value)
            return 1
        if isinstance(value, dict):
            for key, item in value.items():
                self.value(item, f"{path}.{_checked_key(key, path)}", depth + 1)
            return 0
        if isinstance(value, list | tuple):
            numbers = sum(self.value(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value))
            if numbers > MAX_NUMBERS:
                raise Inadmissible(
                    f"{path}: {numbers} numbers in one array look like a template; at most {MAX_NUMBERS}"
                )
            return numbers
        raise Inadmissible(f"{path}: {type(value).__name__} is no JSON value; convert it before writing it")


def _checked_key(key: Any, path: str) -> str:
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise Inadmissible(
            f"{path}: keys are 1 to 128 printable ASCII characters without quote and backslash"
        )
    if key.lower().translate(_SEPARATORS) in _FORBIDDEN_KEYS:
        raise Inadmissible(
            f"{path}.{key}: biometric or personal data does not belong on the ledger; leave it out"
        )
    if _IMAGE_NAME.search(key):
        raise Inadmissible(
            f"{path}: a key names an image file, and file names name people; write its pseudonym"
        )
    return key


def _check_string(value: str, path: str) -> None:
    if len(value) > MAX_STRING:
        raise Inadmissible(f"{path}: string of {len(value)} characters; at most {MAX_STRING} are allowed")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Inadmissible(f"{path}: string with a lone surrogate, which UTF-8 cannot hold") from None
    if len(value) > MAX_BLOB and _BLOB.search(value):
        raise Inadmissible(
            f"{path}: looks like encoded data; the ledger takes a digest or a pseudonym instead"
        )
    if _IMAGE_NAME.search(value):
        raise Inadmissible(
            f"{path}: names an image file, and file names name people; write its pseudonym instead"
        )


def _check_number(value: float, path: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise Inadmissible(f"{path}: NaN and infinity are no JSON numbers")
    if not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise Inadmissible(
            f"{path}: beyond 2**53 - 1, where canonical JSON would lose digits; write it as a string"
        )
