"""OpenCV's FaceDetectorYN and FaceRecognizerSF."""

from __future__ import annotations

from _serve import SETTINGS, THREADS  # isort: skip
import cv2
import numpy as np
from _photos import Found, serve_photos

cv2.setNumThreads(THREADS)
_detector = cv2.FaceDetectorYN.create(SETTINGS["detector"], "", (320, 320), 0.7, 0.3, 5000)
_recogniser = cv2.FaceRecognizerSF.create(SETTINGS["recogniser"], "")


def templates(body: bytes) -> list[Found]:
    """Return the box and the template of each face that OpenCV finds in an encoded photo."""
    photo = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    longest = max(photo.shape[:2])
    scale = max(1.0, longest / SETTINGS["longest_side"])
    size = round(photo.shape[1] / scale), round(photo.shape[0] / scale)
    seen = photo if scale == 1 else cv2.resize(photo, size)
    _detector.setInputSize((seen.shape[1], seen.shape[0]))
    found = _detector.detect(seen)[1]
    faces = []
    for row in [] if found is None else found:
        row[:14] *= scale
        template = _recogniser.feature(_recogniser.alignCrop(photo, row))[0]
        faces.append((row[:4].tolist(), (template / np.linalg.norm(template)).tolist()))
    return faces


serve_photos(templates)
