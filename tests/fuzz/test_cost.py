"""Whatever the input, its cost grows no faster than its size.

A few seconds by default. ``--fuzz-minutes 10`` mutates and grows photos for that long, and fails on the first one that
takes detection more than two seconds of processor time, or the process more than 600 MB.
"""

from __future__ import annotations

import random
import resource
import struct
import time
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import pytest

from abeyance.deployment.parts import build_analyzer
from abeyance.deployment.settings import DetectSettings
from abeyance.ledger.checkpoint import parse_note
from abeyance.ledger.entry import read_opening
from abeyance.ledger.errors import LedgerError
from abeyance.ledger.policy import Policy
from abeyance.ledger.receipts import check_receipt
from abeyance.local.samples import fetch_samples
from abeyance.moratorium.document import parse
from abeyance.moratorium.errors import FlagsError
from abeyance.rekognition.errors import ApiError
from abeyance.rekognition.wire import model
from abeyance.vision.analysis import ATTRIBUTE_ROLES
from abeyance.vision.errors import ImageRejected, PackageUnavailable
from abeyance.vision.formats.header import MAX_SEGMENTS
from abeyance.vision.image import DEFAULT_LIMITS, open_photo
from abeyance.vision.models.manifest import Manifest
from abeyance.vision.models.store import fetch

from .cost import growth, memory_growth
from .inputs import FLAGS, LINES, PHOTOS, REQUESTS, SEEDS, Grow
from .worst import WORST

#: Four times the input, linear, and what a busy machine adds. Quadratic is 16.
_MAX_GROWTH = 10
_MAX_SECONDS = 2.0
_MAX_MB = 600


def _open(data: bytes) -> None:
    with suppress(ImageRejected):
        open_photo(data).pixels  # noqa: B018


def _read(operation: str) -> Callable[[bytes], None]:
    shapes = model()

    def read(body: bytes) -> None:
        with suppress(ApiError):
            shapes.read(shapes.operation(f"RekognitionService.{operation}"), body)

    return read


def _parse(data: bytes) -> None:
    with suppress(FlagsError):
        parse(data)


def _opening(data: bytes) -> None:
    with suppress(LedgerError):
        read_opening(data)


def _note(data: bytes) -> None:
    with suppress(LedgerError):
        parse_note(data)


def _receipt(data: bytes) -> None:
    check_receipt(data.decode("utf-8", "replace"), Policy())


def _photo_size(grow: Grow) -> int:
    """Return a number of parts of which four times as many are within the limits of segments and bytes."""
    part = max(1, len(grow(2)) - len(grow(1)))
    return max(1, min(MAX_SEGMENTS // 8 if part > 2 else 1_000_000, DEFAULT_LIMITS.max_bytes // 5 // part))


CASES: dict[str, tuple[Callable[[bytes], object], Grow, int]] = {
    **{f"photo: {name}": (_open, grow, _photo_size(grow)) for name, grow in PHOTOS.items()},
    **{f"request: {name}": (_read(operation), grow, 4000) for name, (operation, grow) in REQUESTS.items()},
    **{f"flags: {name}": (_parse, grow, 2000) for name, grow in FLAGS.items()},
    **{f"opening: {name}": (_opening, grow, 4000) for name, grow in LINES.items()},
    **{f"note: {name}": (_note, grow, 4000) for name, grow in LINES.items()},
    **{f"receipt: {name}": (_receipt, grow, 4000) for name, grow in LINES.items()},
}


@pytest.mark.parametrize("name", CASES)
def test_time_grows_no_faster_than_the_input(name: str) -> None:
    call, grow, size = CASES[name]
    assert growth(call, grow, size) < _MAX_GROWTH


@pytest.mark.parametrize("name", CASES)
def test_memory_grows_no_faster_than_the_input(name: str) -> None:
    call, grow, size = CASES[name]
    first, second = memory_growth(call, grow, size), memory_growth(call, grow, 4 * size)
    assert second < 2 * first + 4


def _with_size(data: bytes, width: int, height: int) -> bytes:
    """A photo whose header claims another size, with a good checksum."""
    if data.startswith(b"\x89PNG"):
        start = data[12:16] + struct.pack(">II", width, height) + data[24:29]
        return data[:12] + start + struct.pack(">I", zlib.crc32(start)) + data[33:]
    if data.startswith(b"RIFF"):
        if data[12:16] == b"VP8X":
            canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
            return data[:24] + canvas + data[30:]
        return data[:26] + struct.pack("<HH", width & 0x3FFF, height & 0x3FFF) + data[30:]
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    return data[: frame + 5] + struct.pack(">HH", height & 0xFFFF, width & 0xFFFF) + data[frame + 9 :]


def _mutated(data: bytes, choose: random.Random) -> bytes:
    """Change, repeat, remove or move some bytes, or claim another size."""
    for _ in range(choose.randint(1, 4)):
        first, last = sorted(choose.randrange(len(data) + 1) for _ in range(2))
        kind = choose.randrange(7)
        if kind == 0:
            data = data[:first] + bytes([choose.randrange(256)]) + data[first + 1 :]
        elif kind == 1:
            piece = data[first : min(last, first + choose.choice((2, 40, 4000)))] or b"\xff"
            most = (DEFAULT_LIMITS.max_bytes - len(data)) // len(piece)
            data = data[:first] + piece * max(1, min(most, 4 ** choose.randrange(12))) + data[first:]
        elif kind == 2:
            data = data[:first] + data[last:]
        elif kind == 3:
            data = data[:first] + bytes(last - first) + data[last:]
        elif kind == 4:
            sides = [choose.choice((80, 1000, 6300, 7900, 16000, 65500)) for _ in range(2)]
            data = _with_size(data, *sides) if len(data) > 60 else data
        elif kind == 5:
            data = (
                data[:first]
                + choose.choice((b"\xff", b"\xff\xd9", b"\xff\xda", b"\0", b"IDAT"))
                + data[last:]
            )
        else:
            data = data[:first] + choose.choice(list(SEEDS.values()))()[first:last] + data[first:]
        data = data[: DEFAULT_LIMITS.max_bytes] or b"\xff"
    return data


def _grown(choose: random.Random) -> bytes:
    """Return an input of one kind, as large as it may be or smaller."""
    grow = choose.choice(list(PHOTOS.values()))
    one = len(grow(2)) - len(grow(1))
    return grow(max(1, min(choose.choice((10, 1000, MAX_SEGMENTS, 10**8)), 14_000_000 // max(one, 1))))


@pytest.mark.timeout(0)
def test_photos_of_any_kind_stay_within_the_budget(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Mutations of every kind of photo, and of photos at the limits, through the whole of detection."""
    minutes = request.config.getoption("--fuzz-minutes")
    try:
        fetch(Manifest.load().entries.values())
        fetch_samples("astronaut")
    except PackageUnavailable as error:
        pytest.skip(str(error))
    analyzer = build_analyzer(DetectSettings.of())
    analyzer.open_models(ATTRIBUTE_ROLES)
    # Making photos at the limits takes more memory than analysing them, so another process does.
    worst = _in_another_process(WORST if minutes else ["1.6 megapixels"], tmp_path)
    choose, until = random.Random(1), time.monotonic() + 60 * minutes
    seeds, slowest, count = [make() for make in SEEDS.values()], (0.0, ""), 0

    def analyze(data: bytes, name: str) -> None:
        nonlocal slowest, count
        for roles in ((), ATTRIBUTE_ROLES):
            start = time.process_time()
            with suppress(ImageRejected):
                analyzer.analyze(data, attributes=roles)
            spent = (
                time.process_time() - start,
                f"{name}{', with attributes' if roles else ''}, {data[:40]!r}",
            )
            slowest = max(slowest, spent)
            if spent[0] > _MAX_SECONDS / 2 or name in worst:
                print(f"{spent[0]:.2f} s {spent[1]}")
        count += 1

    for name, path in worst.items():
        analyze(path.read_bytes(), name)
    while count < 60 or time.monotonic() < until:
        if count % 5 == 4:
            analyze(_grown(choose), "grown")
        elif count % 5 == 3:
            name = choose.choice(list(worst))
            analyze(_mutated(worst[name].read_bytes(), choose), f"mutated {name}")
        else:
            analyze(_mutated(choose.choice(seeds), choose), "mutated")
    # The peak of the whole process, tests before this one included.
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{count} photos; slowest {slowest[0]:.2f} s ({slowest[1]}); peak {peak_mb:.0f} MB")
    if minutes:
        assert slowest[0] < _MAX_SECONDS
        assert peak_mb < _MAX_MB


def _in_another_process(names: Iterable[str], folder: Path) -> dict[str, Path]:
    paths = {name: folder / str(number) for number, name in enumerate(names)}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        list(pool.map(_write_worst, paths, paths.values()))
    return paths


def _write_worst(name: str, path: Path) -> None:
    path.write_bytes(WORST[name]())
