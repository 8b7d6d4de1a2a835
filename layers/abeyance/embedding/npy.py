"""The wire format between the embedding endpoint and its clients: NumPy's own file format, without pickle.

NumPy parses the header of an ``.npy`` file as a literal and executes nothing. Header and number of bytes are checked
before any array is made.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

MEDIA_TYPE = "application/x-npy"
#: Height, width and channels of a chip, uint8 RGB.
CHIP = (112, 112, 3)
CHIP_BYTES = math.prod(CHIP)
#: Most chips of one request: 4.8 MB, below the 6 MiB that SageMaker's InvokeEndpoint takes.
MAX_CHIPS = 128
#: Longest header that is read, in bytes. NumPy writes 128 for the arrays of this format.
MAX_HEADER_BYTES = 1024
#: Identity of the model, on every answer of the endpoint.
MODEL_HEADER = "X-Abeyance-Model"
#: The only response header of a container that SageMaker hands on; here it carries the same identity.
SAGEMAKER_HEADER = "X-Amzn-SageMaker-Custom-Attributes"


class BadBody(ValueError):
    """A body that is not the expected array.

    Attributes
    ----------
    reason
        Machine-readable: BAD_NPY, BAD_DTYPE, BAD_SHAPE, TOO_MANY_CHIPS or BAD_LENGTH. The message is for people;
        neither quotes the content.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def encode(array: NDArray[Any]) -> bytes:
    """Return ``array`` as an .npy file, version 1.0, C order. Raises ``ValueError`` for object arrays."""
    file = io.BytesIO()
    npy.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return file.getvalue()


def decode_chips(body: bytes | bytearray | memoryview, max_chips: int = MAX_CHIPS) -> NDArray[np.uint8]:
    """Return the chips of a request.

    Returns
    -------
    NDArray
        (n, 112, 112, 3) uint8 RGB, 0 <= n <= ``max_chips``: a view of ``body``, nothing is copied.

    Raises
    ------
    BadBody
    """
    shape, dtype, data = _open(body)
    if dtype != np.uint8:
        raise BadBody("BAD_DTYPE", f"chips are uint8, not {dtype.str[:16]}")
    if len(shape) != 4 or shape[1:] != CHIP or shape[0] < 0:
        raise BadBody("BAD_SHAPE", "chips are (n, 112, 112, 3), C order, channels RGB")
    if shape[0] > max_chips:
        raise BadBody("TOO_MANY_CHIPS", f"at most {max_chips} chips in one request; send several requests")
    return _view(data, shape, np.uint8)


def decode_templates(body: bytes | bytearray | memoryview, count: int, dimension: int) -> NDArray[np.float32]:
    """Return the templates of a response, (``count``, ``dimension``) float32; raises :class:`BadBody`."""
    shape, dtype, data = _open(body)
    if dtype != np.float32:
        raise BadBody("BAD_DTYPE", "templates are float32")
    if shape != (count, dimension):
        raise BadBody("BAD_SHAPE", f"expected {count} templates of {dimension} numbers")
    return _view(data, shape, np.float32)


def _open(body: bytes | bytearray | memoryview) -> tuple[tuple[int, ...], np.dtype[Any], memoryview]:
    """Return the shape and dtype that the header declares, and the bytes after it."""
    file = io.BytesIO(memoryview(body)[: MAX_HEADER_BYTES + 16])
    try:
        version = npy.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = npy.read_array_header_1_0(file, max_header_size=MAX_HEADER_BYTES)
        elif version == (2, 0):
            shape, fortran, dtype = npy.read_array_header_2_0(file, max_header_size=MAX_HEADER_BYTES)
        else:
            raise ValueError
    except Exception as error:
        # The parser raises ValueError, SyntaxError, TypeError and others on a bad header.
        raise BadBody("BAD_NPY", "the body is not an .npy file of version 1.0 or 2.0") from error
    if fortran and len(shape) > 1:
        raise BadBody("BAD_SHAPE", "the array is in Fortran order; write it with numpy.ascontiguousarray")
    return shape, dtype, memoryview(body)[file.tell() :]


def _view(data: memoryview, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    expected = math.prod(shape) * np.dtype(dtype).itemsize
    if len(data) != expected:
        raise BadBody("BAD_LENGTH", f"the header declares {expected} bytes of content, and {len(data)} came")
    return np.frombuffer(data, dtype).reshape(shape)
