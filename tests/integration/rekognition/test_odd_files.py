"""Odd files through the API: what is sound is answered as ever, and what is not is an invalid image, at once."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from tests.unit.vision.odd import ODD, SAME, Make

#: One core; a request takes a tenth of it.
_MAX_SECONDS = 2.0


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_is_answered_as_the_sound_one_or_refused(
    api: Any, photos: Callable[[str], bytes], name: str
) -> None:
    make, sound, right = ODD[name]
    with Image.open(io.BytesIO(photos("astronaut.png"))) as opened:
        image = opened.convert("RGB").crop((40, 0, 440, 400))

    client = api.client(checked=False)

    def faces(make: Make) -> Any:
        data, start = make(image), time.process_time()
        try:
            return client.detect_faces(Image={"Bytes": data})["FaceDetails"]
        finally:
            # The server runs in this process.
            assert time.process_time() - start < _MAX_SECONDS

    if right == SAME:
        assert faces(make) == faces(sound) != []
        return
    with pytest.raises(
        (client.exceptions.InvalidImageFormatException, client.exceptions.ImageTooLargeException)
    ):
        faces(make)
