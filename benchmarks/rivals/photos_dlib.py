"""The package face_recognition, which is dlib: its HOG or its CNN detector, and its ResNet."""

from __future__ import annotations

import io
import warnings

from _serve import SETTINGS  # isort: skip
import numpy as np
from _photos import Found, serve_photos
from PIL import Image

# Its models find their files through pkg_resources.
warnings.simplefilter("ignore")
import face_recognition  # noqa: E402


def templates(body: bytes) -> list[Found]:
    """Return the box and the template of each face that face_recognition finds in an encoded photo."""
    photo = face_recognition.load_image_file(io.BytesIO(body))
    longest, limit = max(photo.shape[:2]), SETTINGS["longest_side"]
    # By default it enlarges the photo twice for detection. Where that would be larger than what everybody else looks
    # at, it gets a smaller copy instead.
    scale, enlarge = max(1.0, longest / limit), int(2 * longest <= limit)
    seen = photo
    if scale > 1:
        size = round(photo.shape[1] / scale), round(photo.shape[0] / scale)
        seen = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0))
    located = face_recognition.face_locations(seen, enlarge, SETTINGS["detector"])
    boxes = [tuple(round(side * scale) for side in box) for box in located]
    encodings = face_recognition.face_encodings(photo, boxes)
    return [
        ([left, top, right - left, bottom - top], encoding.tolist())
        for (top, right, bottom, left), encoding in zip(boxes, encodings, strict=True)
    ]


serve_photos(templates)
