"""A plain loop of PyAV and OpenCV's FaceDetectorYN and FaceRecognizerSF over the frames at given times."""

from __future__ import annotations

from _serve import SETTINGS, THREADS, serve, timed  # isort: skip
from typing import Any

import av
import cv2

cv2.setNumThreads(THREADS)
_detector = cv2.FaceDetectorYN.create(SETTINGS["detector"], "", (320, 320), 0.7, 0.3, 5000)
_recogniser = cv2.FaceRecognizerSF.create(SETTINGS["recogniser"], "")


def faces_of(frame: Any) -> int:
    """Make the templates of the faces of a frame, (h, w, 3) uint8 BGR; return how many there are."""
    longest = max(frame.shape[:2])
    scale = max(1.0, longest / SETTINGS["longest_side"])
    size = round(frame.shape[1] / scale), round(frame.shape[0] / scale)
    seen = frame if scale == 1 else cv2.resize(frame, size)
    _detector.setInputSize((seen.shape[1], seen.shape[0]))
    found = _detector.detect(seen)[1]
    for row in [] if found is None else found:
        row[:14] *= scale
        _recogniser.feature(_recogniser.alignCrop(frame, row))
    return 0 if found is None else len(found)


def examine() -> int:
    """Decode the whole video; return the number of faces in the frames at the given times."""
    waiting, count = list(SETTINGS["times"]), 0
    with av.open(SETTINGS["video"]) as container:
        container.streams.video[0].codec_context.thread_count = THREADS
        for frame in container.decode(video=0):
            if waiting and frame.time * 1000 >= waiting[0] - 1:
                waiting.pop(0)
                count += faces_of(frame.to_ndarray(format="bgr24"))
    return count


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Answer with the seconds that the video took."""
    faces, seconds = timed(examine, request["times"])
    return {**seconds, "faces": faces}


serve(answer)
