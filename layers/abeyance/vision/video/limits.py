"""The limits of accepted videos, and what a container says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: FFmpeg's names of the accepted codecs.
CODECS: Final = ("h264", "hevc", "vp8", "vp9", "av1")
#: Longest part of a video that is decided for, decoded and kept or discarded as one.
SEGMENT_MS: Final = 30_000


@dataclass(frozen=True, slots=True)
class VideoLimits:
    """Limits of accepted videos. Those of bytes and duration are Amazon Rekognition's for stored video."""

    max_bytes: int = 10 * 1024**3
    max_duration_ms: int = 6 * 3600 * 1000
    #: Width times height: 4096 x 2304.
    max_pixels: int = 4096 * 2304
    #: Shortest side in pixels.
    min_side: int = 80
    #: Streams of any kind.
    max_streams: int = 16
    #: Bytes of one decoded frame, of which a decoder holds some twenty.
    max_frame_bytes: int = 4096 * 2304 * 3
    #: Processor time of one segment, in seconds.
    max_segment_s: float = 240.0
    #: Damaged packets of one segment; the rest of the segment is left out after so many.
    max_damaged: int = 200


DEFAULT_VIDEO_LIMITS: Final = VideoLimits()


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """The facts in a container about its video stream."""

    duration_ms: int
    #: Pixels of an upright frame.
    width: int
    height: int
    #: Frames a second, on average; 0 if the container does not say.
    frame_rate: float
    codec: str
    #: ``mov`` (MP4 and QuickTime) or ``matroska`` (MKV and WebM).
    container: str
    #: Degrees, counter-clockwise, by which frames are turned to be upright: 0, 90, 180 or 270.
    rotation: int
