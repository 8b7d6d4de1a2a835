"""deepface with YuNet and SFace: its lightest pair, on the same weights as ours."""

from __future__ import annotations

import io
import os

from _serve import SETTINGS, THREADS  # isort: skip

# Where it looks for weights before it would download them, and what it counts as a face.
os.environ["DEEPFACE_HOME"] = SETTINGS["home"]
os.environ["yunet_score_threshold"] = "0.7"  # noqa: SIM112

import cv2
import onnxruntime
from _photos import Found, serve_photos
from deepface import DeepFace

cv2.setNumThreads(THREADS)
# It has no setting for threads; without this its model would start some for every core, and spin.
_options = onnxruntime.SessionOptions


def _single() -> onnxruntime.SessionOptions:
    options = _options()
    options.intra_op_num_threads = THREADS
    return options


onnxruntime.SessionOptions = _single


def templates(body: bytes) -> list[Found]:
    """Return the box and the template of each face that deepface finds in an encoded photo."""
    faces = DeepFace.represent(
        io.BytesIO(body),
        model_name="SFace",
        detector_backend="yunet",
        enforce_detection=False,
        max_faces=None,
    )
    found = []
    for face in faces:
        area = face["facial_area"]
        # Where it finds none, it takes the whole photo for a face of no confidence.
        if face["face_confidence"]:
            found.append(([area[side] for side in "xywh"], face["embedding"]))
    return found


serve_photos(templates)
