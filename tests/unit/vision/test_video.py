"""Video: ranges, segments at key frames, samples, tracks, people; bad files end typed."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from tests.videos import Clip, make

from abeyance.vision.analysis import AnalyzedFace
from abeyance.vision.errors import RejectReason, VideoRejected
from abeyance.vision.quality import FaceQuality
from abeyance.vision.video.decode import open_video
from abeyance.vision.video.limits import SEGMENT_MS, VideoLimits
from abeyance.vision.video.people import TrackSummary, appearances, group_by_person
from abeyance.vision.video.ranges import BLOCK_BYTES, MAX_BLOCKS, RangeFile
from abeyance.vision.video.sampling import MAX_STEP_MS, sample
from abeyance.vision.video.tracks import LinkThresholds, TrackLinker

SHORT = Clip(2, size=(320, 180), rate=10)


@pytest.fixture(scope="module")
def mp4() -> bytes:
    return make(SHORT)


def reader(body: bytes) -> Callable[[int, int], bytes]:
    return lambda first, last: body[first : last + 1]


def reason_of(body: bytes, **limits: int) -> RejectReason:
    """Return why a video is rejected, when it is opened and all of it is decoded."""
    with pytest.raises(VideoRejected) as caught:
        decode_all(body, VideoLimits(**limits))
    return caught.value.reason


def decode_all(body: bytes, limits: VideoLimits) -> list[int]:
    """Return the times of all frames, segment by segment."""
    with open_video(reader(body), len(body), limits) as video:
        segments = video.segments()
        return [
            frame.time_ms
            for number, (start, end) in enumerate(segments)
            for frame in video.frames(start, end, is_last=number == len(segments) - 1)
        ]


class TestRanges:
    def test_a_file_is_read_by_blocks_that_are_kept(self) -> None:
        body, asked = bytes(range(256)) * 4096 * 3, []

        def read(first: int, last: int) -> bytes:
            asked.append((first, last))
            return body[first : last + 1]

        file = RangeFile(read, len(body))
        assert file.read(4) == body[:4]
        file.seek(-4, 2)
        assert file.read(9) == body[-4:]
        assert file.read(1) == b""
        file.seek(BLOCK_BYTES - 2)
        assert file.read(4) == body[BLOCK_BYTES - 2 : BLOCK_BYTES]
        assert asked == [(0, BLOCK_BYTES - 1), (2 * BLOCK_BYTES, len(body) - 1)]

    def test_memory_is_bounded(self) -> None:
        size = BLOCK_BYTES * (MAX_BLOCKS + 5)
        file = RangeFile(lambda first, last: bytes(last - first + 1), size)
        for _ in iter(lambda: file.read(BLOCK_BYTES), b""):
            pass
        assert len(file._blocks) == MAX_BLOCKS

    def test_a_fault_of_the_store_is_no_fault_of_the_video(self, mp4: bytes) -> None:
        def broken(first: int, last: int) -> bytes:
            raise ConnectionError

        with pytest.raises(ConnectionError):
            open_video(broken, len(mp4))


CONTAINERS = [
    ("libx264", "mp4", "h264", "mov"),
    ("libx264", "mov", "h264", "mov"),
    ("libx265", "mp4", "hevc", "mov"),
    ("libx264", "matroska", "h264", "matroska"),
    ("libvpx-vp9", "webm", "vp9", "matroska"),
    ("libsvtav1", "mp4", "av1", "mov"),
]


class TestDecoding:
    @pytest.mark.parametrize(("encoder", "muxer", "codec", "container"), CONTAINERS)
    def test_every_codec_and_container(self, encoder: str, muxer: str, codec: str, container: str) -> None:
        body = make(SHORT, codec=encoder, container=muxer, gop=10)
        with open_video(reader(body), len(body)) as video:
            info = video.info
            assert (info.codec, info.container, info.width, info.height) == (codec, container, 320, 180)
            assert info.duration_ms == pytest.approx(2_000, abs=110)
            assert info.frame_rate == pytest.approx(10, abs=0.6)
            times = [frame.time_ms for frame in video.frames(0, info.duration_ms, is_last=True)]
        assert times == sorted(set(times))
        assert times[0] == 0
        assert times[-1] >= 1_400

    def test_a_turned_video_is_upright(self) -> None:
        body = make(SHORT, rotation=90)
        with open_video(reader(body), len(body)) as video:
            assert (video.info.width, video.info.height, video.info.rotation) == (180, 320, 90)
            frame = next(iter(video.frames(0, 2_000))).pixels()
        plain = make(SHORT)
        with open_video(reader(plain), len(plain)) as video:
            other = next(iter(video.frames(0, 2_000))).pixels()
        assert frame.shape == (320, 180, 3)
        assert np.abs(np.rot90(other).astype(int) - frame).mean() < 3

    def test_sound_and_uneven_times_do_no_harm(self) -> None:
        body = make(SHORT, audio=True, variable=True)
        with open_video(reader(body), len(body)) as video:
            times = [frame.time_ms for frame in video.frames(0, 2_000, is_last=True)]
        assert all(time % 100 == 0 for time in times)
        assert {1, 2} <= set(np.diff(times) // 100)

    def test_ten_bits_are_as_eight(self) -> None:
        body = make(SHORT, codec="libx265", pix_fmt="yuv420p10le")
        with open_video(reader(body), len(body)) as video:
            frame = next(iter(video.frames(0, 2_000)))
            assert frame.pixels().dtype == np.uint8
            assert 0 <= frame.brightness().min() <= frame.brightness().max() <= 255

    def test_segments_begin_at_key_frames_and_no_frame_is_in_two(self) -> None:
        clip = Clip(70, size=(160, 90), rate=5)
        body = make(clip, gop=35)
        with open_video(reader(body), len(body)) as video:
            segments = video.segments()
            assert [start for start, _ in segments] == [0, 28_000, 56_000]
            assert all(end - start <= SEGMENT_MS for start, end in segments)
            times: list[int] = []
            for number, (start, end) in enumerate(segments):
                times += [f.time_ms for f in video.frames(start, end, is_last=number == 2)]
        assert times == sorted(set(times))
        assert times[-1] >= 69_000

    def test_without_key_frames_a_segment_begins_in_between(self) -> None:
        body = make(Clip(65, size=(160, 90), rate=4), gop=1_000)
        with open_video(reader(body), len(body)) as video:
            assert [start for start, _ in video.segments()] == [0, 30_000, 60_000]
            first = next(iter(video.frames(30_000, 60_000)))
            assert 30_000 <= first.time_ms <= 31_000

    def test_a_video_that_breaks_off_is_read_up_to_there(self) -> None:
        clip = Clip(20, size=(320, 180), rate=10)
        body = make(clip, container="matroska", gop=20)
        broken = body[: len(body) // 2]
        with open_video(reader(broken), len(broken)) as video:
            times = [frame.time_ms for frame in video.frames(0, 20_000, is_last=True)]
        assert 6_000 <= times[-1] <= 14_000

    def test_damage_in_the_middle_costs_only_what_it_hits(self) -> None:
        clip = Clip(12, size=(320, 180), rate=10)
        body = bytearray(make(clip, container="matroska", gop=10))
        middle = len(body) // 2
        body[middle : middle + 400] = bytes(400)
        with open_video(reader(bytes(body)), len(body)) as video:
            times = [frame.time_ms for frame in video.frames(0, 12_000, is_last=True)]
        assert times[0] == 0
        assert times[-1] >= 10_000


def _atom(body: bytes, name: bytes, offset: int, value: bytes) -> bytes:
    """Return an MP4 with bytes of the first atom of that name replaced, counted from its name."""
    place = body.index(name) + offset
    return body[:place] + value + body[place + len(value) :]


def bad_files() -> Iterator[tuple[str, Callable[[bytes], bytes], set[RejectReason]]]:
    corrupt = {RejectReason.CORRUPT}
    unknown = {RejectReason.UNSUPPORTED_FORMAT}
    yield "empty", lambda _: b"", {RejectReason.EMPTY}
    yield "text", lambda _: b"not a video at all", unknown
    yield "a playlist", lambda _: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", unknown
    yield "a list of files", lambda _: b"ffconcat version 1.0\nfile /etc/passwd\n", unknown
    yield "a photo", lambda _: b"\xff\xd8\xff\xe0" + bytes(99), unknown
    yield "a zip", lambda _: b"PK\3\4" + bytes(99), unknown
    yield "AVI", lambda _: make(SHORT, codec="libx264", container="avi"), unknown
    yield "MPEG-TS", lambda _: make(SHORT, container="mpegts"), unknown
    yield "a signature alone", lambda _: b"\0\0\0\x18ftypmp42" + bytes(12), corrupt
    yield "EBML alone", lambda _: b"\x1a\x45\xdf\xa3" + bytes(40), corrupt
    yield "cut off before its index", lambda body: body[: len(body) // 2], corrupt
    yield "zeros behind the header", lambda body: body[:64] + bytes(len(body) - 64), corrupt
    yield "no frame left", lambda body: _zeroed_media(body), corrupt
    yield "an old codec", lambda _: make(SHORT, codec="mpeg4"), {RejectReason.UNSUPPORTED_CODEC}
    yield "moving photos", lambda _: _mjpeg(), {RejectReason.UNSUPPORTED_CODEC}
    yield "sound alone", lambda _: _sound(), {RejectReason.NO_VIDEO}
    yield "too small", lambda _: make(Clip(1, size=(64, 64))), {RejectReason.TOO_SMALL}
    yield (
        "no table of samples",
        lambda body: _atom(body, b"stbl", 0, b"free"),
        {RejectReason.UNSUPPORTED_CODEC},
    )
    yield "a table of no size", lambda body: _atom(body, b"stsz", 8, b"\xff" * 8), corrupt
    yield "noise", lambda _: b"\0\0\0\x18ftyp" + np.random.default_rng(1).bytes(20_000), corrupt


def _zeroed_media(body: bytes) -> bytes:
    start = body.index(b"mdat") + 4
    size = struct.unpack(">I", body[start - 8 : start - 4])[0]
    return body[:start] + bytes(size - 8) + body[start + size - 8 :]


def _mjpeg() -> bytes:
    return make(SHORT, codec="mjpeg", container="mov", pix_fmt="yuvj420p")


def _sound() -> bytes:
    import io

    import av

    body = io.BytesIO()
    with av.open(body, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=16000)
        for number in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 16000, number * 1024
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return body.getvalue()


BAD = list(bad_files())


@pytest.mark.parametrize(("what", "spoil", "reasons"), BAD, ids=[what for what, _, _ in BAD])
def test_a_bad_video_ends_typed(
    mp4: bytes, what: str, spoil: Callable[[bytes], bytes], reasons: set[RejectReason]
) -> None:
    assert reason_of(spoil(mp4)) in reasons


def test_limits_hold_before_anything_is_decoded(mp4: bytes) -> None:
    assert reason_of(mp4, max_bytes=1_000) is RejectReason.TOO_MANY_BYTES
    assert reason_of(mp4, max_pixels=320 * 179) is RejectReason.TOO_MANY_PIXELS
    assert reason_of(mp4, max_duration_ms=1_000) is RejectReason.TOO_LONG
    assert reason_of(mp4, max_frame_bytes=320 * 180) is RejectReason.TOO_COSTLY
    assert reason_of(make(SHORT, audio=True), max_streams=1) in {
        RejectReason.TOO_COSTLY,
        RejectReason.CORRUPT,
    }
    assert reason_of(mp4, max_segment_s=0) is RejectReason.TOO_COSTLY


@dataclasses.dataclass
class Grey:
    """A frame of one brightness, or of another one in its left half."""

    time_ms: int
    level: int
    moved: int = 0

    def brightness(self) -> np.ndarray:
        grid = np.full((36, 64), self.level, np.int16)
        grid[:, :8] += self.moved
        return grid

    def pixels(self) -> np.ndarray:
        raise AssertionError("only chosen frames are converted")


class TestSampling:
    def test_a_still_picture_is_sampled_every_half_second(self) -> None:
        times = [one.frame.time_ms for one in sample(Grey(at, 90) for at in range(0, 3_000, 40))]
        assert max(np.diff(times)) <= MAX_STEP_MS
        assert len(times) <= 7

    def test_motion_is_sampled_more_often(self) -> None:
        moving = (Grey(at, 90, moved=60 * (at // 200 % 2)) for at in range(0, 3_000, 40))
        assert len(list(sample(moving))) >= 8

    def test_a_cut_is_sampled_at_once_and_marked(self) -> None:
        found = list(sample(Grey(at, 40 if at < 1_000 else 160) for at in range(0, 2_000, 40)))
        assert [one.frame.time_ms for one in found if one.is_cut] == [0, 1_000]

    def test_shaking_has_a_bound(self) -> None:
        shaken = (Grey(at, 90, moved=60 * (at // 40 % 2)) for at in range(0, 30_000, 40))
        assert len(list(sample(shaken))) <= 120


def face(x: float, quality: float = 50.0) -> AnalyzedFace:
    return AnalyzedFace(
        box=(x, 50, 60, 60),
        landmarks=np.zeros((5, 2), np.float32),
        confidence=0.9,
        quality=FaceQuality(brightness=50, sharpness=quality, yaw=0, pitch=0, roll=0, size=60, visible=1.0),
        reasons=(),
        chip=np.full((112, 112, 3), int(x) % 256, np.uint8),
        photo_size=(640, 360),
    )


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


class TestTracks:
    def linker(self, *templates: np.ndarray) -> TrackLinker:
        waiting = iter(templates)
        return TrackLinker(
            lambda chips: np.stack([next(waiting) for _ in chips]), LinkThresholds(near=0.3, far=0.5)
        )

    def test_one_face_is_one_track(self) -> None:
        linker = self.linker(unit(1, 0), unit(1, 0.1), unit(1, 0.2))
        for number, x in enumerate((100, 110, 120)):
            linker.add(500 * number, [face(x)], is_cut=number == 0)
        (track,) = linker.tracks
        assert track.times_ms == [0, 500, 1_000]
        assert np.linalg.norm(track.template) == pytest.approx(1)

    def test_another_person_in_the_same_place_is_another_track(self) -> None:
        linker = self.linker(unit(1, 0), unit(0, 1))
        linker.add(0, [face(100)], is_cut=True)
        linker.add(500, [face(100)], is_cut=False)
        assert len(linker.tracks) == 2

    def test_a_cut_and_a_long_gap_end_a_track(self) -> None:
        for cut, later in ((True, 500), (False, 2_500)):
            linker = self.linker(unit(1, 0), unit(1, 0))
            linker.add(0, [face(100)], is_cut=True)
            linker.add(later, [face(100)], is_cut=cut)
            assert len(linker.tracks) == 2

    def test_two_people_who_cross_keep_their_tracks(self) -> None:
        one, two = unit(1, 0), unit(0, 1)
        linker = self.linker(one, two, one, two, one, two)
        for number in range(3):
            places = [face(100 + 60 * number), face(220 - 60 * number)]
            linker.add(400 * number, places, is_cut=number == 0)
        assert [len(track.faces) for track in linker.tracks] == [3, 3]

    def test_without_templates_the_box_decides(self) -> None:
        linker = TrackLinker(None, LinkThresholds(0.3, 0.5))
        linker.add(0, [face(100)], is_cut=True)
        linker.add(500, [face(105)], is_cut=False)
        linker.add(1_000, [face(400)], is_cut=False)
        assert [len(track.faces) for track in linker.tracks] == [2, 1]
        assert linker.tracks[0].template.size == 0

    def test_the_best_views_are_kept(self) -> None:
        linker = self.linker(*[unit(1, 0)] * 5)
        for number, quality in enumerate((10, 90, 30, 80, 70)):
            linker.add(300 * number, [face(100, quality)], is_cut=number == 0)
        assert [number for _, number, _ in linker.tracks[0].best] == [1, 3, 4]


def track(segment: int, first: int, last: int, template: np.ndarray, x: float = 0.1) -> TrackSummary:
    box = (x, 0.1, 0.1, 0.2)
    return TrackSummary(segment, first, last, box, box, template, 5)


class TestPeople:
    def test_tracks_of_one_template_are_one_person_unless_they_show_together(self) -> None:
        same = unit(1, 0.05)
        tracks = [
            track(0, 0, 5_000, unit(1, 0)),
            track(0, 8_000, 9_000, same),
            track(0, 2_000, 4_000, same),
            track(1, 31_000, 32_000, unit(0, 1)),
        ]
        groups = group_by_person(tracks, 0.5)
        assert [sorted(group) for group in groups] in (
            [[0], [1, 2], [3]],
            [[0, 1], [2], [3]],
            [[0], [2, 1], [3]],
        )
        assert all(not {0, 2} <= set(group) for group in groups)

    def test_without_templates_only_the_border_of_segments_is_crossed(self) -> None:
        none = np.empty(0, np.float32)
        tracks = [
            track(0, 0, 29_800, none),
            track(1, 30_000, 33_000, none),
            track(1, 36_000, 38_000, none),
            track(1, 30_000, 33_000, none, x=0.6),
        ]
        assert sorted(map(sorted, group_by_person(tracks, 0.5))) == [[0, 1], [2], [3]]

    def test_nobody_is_nobody(self) -> None:
        assert group_by_person([], 0.5) == []

    def test_times_are_joined_over_short_gaps_and_bounded(self) -> None:
        assert appearances([(5_000, 6_000), (0, 1_000), (1_500, 2_000)], 1_500, 9) == [
            (0, 2_000),
            (5_000, 6_000),
        ]
        many = [(10_000 * n, 10_000 * n + 10) for n in range(30)]
        assert len(appearances(many, 0, 20)) == 20
        assert appearances(many, 0, 20)[-1][1] == 290_010
