"""Decoding of stored video with FFmpeg (PyAV): the container, its segments, and frames at the times asked for.

The only module that imports PyAV. Files come from strangers: the signature decides the demuxer, so that no playlist
and no other format is ever opened; codec, size, duration and streams are compared with the limits before a frame is
decoded; processor time and damage have a budget. A file that ends FFmpeg itself ends the process, as for photos.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from abeyance.vision.errors import RejectReason, VideoRejected
from abeyance.vision.video.limits import CODECS, DEFAULT_VIDEO_LIMITS, SEGMENT_MS, VideoInfo, VideoLimits
from abeyance.vision.video.ranges import RangeFile

#: First boxes of a QuickTime or MP4 file, at its fifth byte.
_MOV_BOXES: Final = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_EBML: Final = b"\x1a\x45\xdf\xa3"
#: Rows and columns of the grid of brightness that is compared from frame to frame.
_GRID_ROWS, _GRID_COLUMNS = 36, 64


class DecodedFrame:
    """A decoded frame that is not converted to pixels yet.

    Attributes
    ----------
    time_ms
        Since the start of the video.
    """

    __slots__ = ("_frame", "_rotation", "time_ms")

    def __init__(self, frame: Any, time_ms: int, rotation: int) -> None:
        self._frame = frame
        self._rotation = rotation
        self.time_ms = time_ms

    def brightness(self) -> NDArray[np.int16]:
        """Return about 36 x 64 samples of brightness, 0 to 255."""
        plane = self._frame.planes[0]
        deep = plane.line_size >= 2 * plane.width
        rows = np.frombuffer(plane, np.uint16 if deep else np.uint8).reshape(plane.height, -1)
        grid = rows[
            :: max(1, plane.height // _GRID_ROWS), : plane.width : max(1, plane.width // _GRID_COLUMNS)
        ]
        bits = self._frame.format.components[0].bits
        return (grid >> (bits - 8) if deep else grid).astype(np.int16)

    def pixels(self) -> NDArray[np.uint8]:
        """Return (h, w, 3) uint8 RGB, upright."""
        picture = self._frame.to_ndarray(format="rgb24")
        return np.ascontiguousarray(np.rot90(picture, self._rotation // 90)) if self._rotation else picture


class VideoReader:
    """An open video; use it as a context manager.

    Parameters
    ----------
    file
        The container, read by ranges.
    size
        Its bytes.

    Raises
    ------
    VideoRejected
        If it is not a video within the limits.
    """

    def __init__(self, file: RangeFile, size: int, limits: VideoLimits = DEFAULT_VIDEO_LIMITS) -> None:
        self._file = file
        self._limits = limits
        if not size:
            raise VideoRejected(RejectReason.EMPTY, "the video has no bytes; upload it again")
        if size > limits.max_bytes:
            raise VideoRejected(
                RejectReason.TOO_MANY_BYTES,
                f"the video has {size} bytes, at most {limits.max_bytes} are accepted; cut it",
            )
        self._container_format = self._sniff()
        with self._faults():
            self._container: Any = av.open(
                file,
                format=self._container_format,
                # Text in metadata may be in any encoding, and is not read.
                metadata_errors="ignore",
                options={"max_streams": str(limits.max_streams)},
            )
        try:
            with self._faults():
                self._stream = self._video_stream()
                self.info = self._probe()
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def segments(self) -> list[tuple[int, int]]:
        """Return (start, end) in milliseconds of the segments, each of at most 30 s, in order and without gaps.

        A segment starts at the last key frame within 30 s of the one before; without one, 30 s after it.
        """
        starts = [0]
        end = self.info.duration_ms
        while end - starts[-1] > SEGMENT_MS:
            nominal = starts[-1] + SEGMENT_MS
            key = self._key_frame_before(nominal)
            starts.append(key if key is not None and key > starts[-1] else nominal)
        return list(zip(starts, [*starts[1:], end], strict=True))

    def frames(self, start_ms: int, end_ms: int, *, is_last: bool = False) -> Iterator[DecodedFrame]:
        """Yield the frames from ``start_ms`` on and before ``end_ms``, in order; those no other needs are left out.

        Parameters
        ----------
        is_last
            The video ends with this segment: frames up to 30 s behind the end that the container states are yielded.

        Raises
        ------
        VideoRejected
            TOO_COSTLY if decoding takes too much processor time.
        """
        budget = time.process_time() + self._limits.max_segment_s
        until = end_ms + SEGMENT_MS if is_last else end_ms
        damaged = 0
        latest = -1
        for packet in self._packets_from(start_ms):
            if time.process_time() > budget:
                raise VideoRejected(
                    RejectReason.TOO_COSTLY,
                    f"30 s of the video take more than {self._limits.max_segment_s:.0f} s to decode; encode it anew",
                )
            try:
                decoded = packet.decode()
            except FFmpegError:
                damaged += 1
                if damaged > self._limits.max_damaged:
                    return
                continue
            for frame in decoded:
                at = self._time_ms(frame.pts)
                if at is None or at <= latest:
                    continue
                if at >= until:
                    return
                if at >= start_ms and self._is_within_limits(frame):
                    latest = at
                    yield DecodedFrame(frame, at, _turn(frame.rotation))

    def _packets_from(self, start_ms: int) -> Iterator[Any]:
        context = self._stream.codec_context
        context.skip_frame = "NONREF"
        with self._faults():
            if not self._seek(start_ms):
                self._seek(0)
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, EOFError):
                return
            except FFmpegError:
                self._raise_fault()
                return  # broken here: what came before is decoded
            yield packet

    def _seek(self, at_ms: int) -> bool:
        offset = int(at_ms / 1000 / self._stream.time_base) + (self._stream.start_time or 0)
        try:
            self._container.seek(offset, stream=self._stream, backward=True, any_frame=False)
        except FFmpegError:
            self._raise_fault()
            return False
        return True

    def _key_frame_before(self, at_ms: int) -> int | None:
        """Return the time of the last key frame at or before a time, in milliseconds; None if none is found."""
        if not self._seek(at_ms):
            return None
        with contextlib.suppress(FFmpegError, StopIteration, EOFError):
            packet = next(self._container.demux(self._stream))
            found = self._time_ms(packet.pts) if packet.is_keyframe else None
            return found if found is not None and found <= at_ms else None
        self._raise_fault()
        return None

    def _time_ms(self, pts: int | None) -> int | None:
        if pts is None:
            return None
        since_start = pts - int(self._stream.start_time or 0)
        return round(float(since_start * self._stream.time_base * 1000))

    def _is_within_limits(self, frame: Any) -> bool:
        """Return whether a frame has the limits' size: a stream may change it on its way."""
        width, height = int(frame.width), int(frame.height)
        return width * height <= self._limits.max_pixels and min(width, height) >= self._limits.min_side

    def _sniff(self) -> str:
        with self._faults():
            head = self._file.read(8)
        self._file.seek(0)
        if head[4:8] in _MOV_BOXES:
            return "mov"
        if head[:4] == _EBML:
            return "matroska"
        raise VideoRejected(
            RejectReason.UNSUPPORTED_FORMAT,
            "the file is no MP4, MOV, MKV or WebM video, whatever its name says; export it as one of these",
        )

    def _video_stream(self) -> Any:
        streams = self._container.streams
        if len(streams) > self._limits.max_streams:
            raise VideoRejected(
                RejectReason.TOO_COSTLY,
                f"the video has {len(streams)} streams, at most {self._limits.max_streams} are accepted",
            )
        usable = [one for one in streams.video if not one.disposition & av.stream.Disposition.attached_pic]
        if not usable:
            raise VideoRejected(RejectReason.NO_VIDEO, "the file has no video stream; upload one that has")
        if usable[0].codec_context is None or usable[0].codec_context.name not in _DECODERS:
            raise VideoRejected(
                RejectReason.UNSUPPORTED_CODEC,
                f"the video's codec is not accepted; encode it as one of {', '.join(CODECS)}",
            )
        return usable[0]

    def _probe(self) -> VideoInfo:
        stream, limits = self._stream, self._limits
        context = stream.codec_context
        width, height = context.width, context.height
        if width * height > limits.max_pixels:
            raise VideoRejected(
                RejectReason.TOO_MANY_PIXELS,
                f"the video has {width} x {height} pixels, at most {limits.max_pixels} are accepted; make it smaller",
            )
        if min(width, height) < limits.min_side:
            raise VideoRejected(
                RejectReason.TOO_SMALL,
                f"the video has {width} x {height} pixels, both sides must have at least {limits.min_side}",
            )
        pixel_format = context.format
        if pixel_format is None:
            raise _corrupt()
        bits = sum(
            part.bits * part.width * part.height / (width * height) for part in pixel_format.components
        )
        if width * height * bits / 8 > limits.max_frame_bytes:
            raise VideoRejected(
                RejectReason.TOO_COSTLY, "a frame of the video takes too much memory; encode it with 8 bits"
            )
        duration = self._duration_ms()
        if duration > limits.max_duration_ms:
            raise VideoRejected(
                RejectReason.TOO_LONG,
                f"the video takes {duration // 1000} s, at most {limits.max_duration_ms // 1000} are accepted; cut it",
            )
        context.thread_count = 1
        rotation = self._first_rotation()
        upright = (height, width) if rotation % 180 else (width, height)
        return VideoInfo(
            duration_ms=duration,
            width=upright[0],
            height=upright[1],
            frame_rate=round(float(stream.average_rate or 0), 3),
            codec=_DECODERS[context.name],
            container=self._container_format,
            rotation=rotation,
        )

    def _duration_ms(self) -> int:
        """Return the duration that the container states, or that of its packets."""
        if self._stream.duration:
            return int(self._stream.duration * self._stream.time_base * 1000)
        if self._container.duration:
            return int(self._container.duration / 1000)
        latest = 0
        for packet in self._packets_from(0):
            latest = max(latest, self._time_ms(packet.pts) or 0)
            if latest > self._limits.max_duration_ms:
                break
        return latest

    def _first_rotation(self) -> int:
        """Return the rotation of the first frame; raises ``VideoRejected`` if no frame can be decoded."""
        damaged = 0
        for packet in self._packets_from(0):
            try:
                for frame in packet.decode():
                    return _turn(frame.rotation)
            except FFmpegError:
                damaged += 1
                if damaged > self._limits.max_damaged:
                    break
        raise _corrupt()

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """Turn FFmpeg's errors into a rejection, and those of the file into themselves."""
        try:
            yield
        except VideoRejected:
            raise
        except (FFmpegError, ValueError, OverflowError, UnicodeDecodeError) as error:
            self._raise_fault()
            raise _corrupt() from error

    def _raise_fault(self) -> None:
        if self._file.fault is not None:
            raise self._file.fault


#: FFmpeg's decoders of the accepted codecs -> the codec.
_DECODERS: Final = {
    **{name: name for name in CODECS},
    "libdav1d": "av1",
    "libvpx-vp9": "vp9",
    "libvpx": "vp8",
}


def open_video(
    read: Callable[[int, int], bytes], size: int, limits: VideoLimits = DEFAULT_VIDEO_LIMITS
) -> VideoReader:
    """Open a video by ranges.

    Parameters
    ----------
    read
        Returns the bytes from a first to a last offset, both included; what it raises passes.
    size
        Bytes of the whole file.

    Raises
    ------
    VideoRejected
        If it is not a video within the limits.
    """
    return VideoReader(RangeFile(read, size), size, limits)


def _turn(rotation: int | None) -> int:
    """Return the nearest quarter turn, counter-clockwise: 0, 90, 180 or 270."""
    return round((rotation or 0) / 90) * 90 % 360


def _corrupt() -> VideoRejected:
    return VideoRejected(RejectReason.CORRUPT, "the video cannot be decoded; export it anew and upload that")
