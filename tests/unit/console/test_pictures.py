"""Pictures are what recognition saw, and are cut anew where they are no longer kept."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from abeyance.console.pictures import Pictures, png
from abeyance.embedding.npy import encode
from abeyance.gallery.model import CollectionRef, Face, SourceObject
from abeyance.pipeline.chips import ChipStore
from abeyance.pipeline.events import Upload
from abeyance.pipeline.leftovers import face_id
from abeyance.pipeline.ports import ObjectGone
from abeyance.vision.analysis import FaceAnalyzer
from abeyance.vision.attributes.estimator import AttributeEstimator
from abeyance.vision.detector import FaceDetection
from abeyance.vision.image import Photo

UPLOAD = Upload(
    bucket="uploads",
    key="acme/index/staff/a.png",
    version="v",
    sequencer="1",
    tenant="acme",
    collection="staff",
)
CHIPS_KEY = f"{UPLOAD.folder}{UPLOAD.identity}.npy"


class Memory:
    def __init__(self, photo: bytes = b"") -> None:
        self.kept: dict[str, bytes] = {}
        self.photo = photo

    def get(self, bucket: str, key: str) -> bytes:
        if key not in self.kept:
            raise ObjectGone
        return self.kept[key]

    def put(self, bucket: str, key: str, body: bytes, content_type: str) -> None:
        self.kept[key] = body

    def change(self, bucket: str, key: str, edit: Callable[[bytes], bytes], content_type: str) -> None:
        self.kept[key] = edit(self.get(bucket, key))

    def read(self, upload: Upload) -> bytes:
        if not self.photo:
            raise ObjectGone
        return self.photo


class OneFace:
    def certainty(self, confidence: float) -> float:
        return confidence

    def detect(self, photo: Photo, **_: object) -> list[FaceDetection]:
        points = np.array([[85, 90], [55, 90], [70, 110], [82, 125], [58, 125]], np.float32)
        return [FaceDetection(box=(40.0, 60.0, 60.0, 80.0), landmarks=points, confidence=0.9)]


def chips(number: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (number, 112, 112, 3), np.uint8)


def face(row: int = 0, box: tuple[float, float, float, float] = (0.2, 0.3, 0.3, 0.4)) -> Face:
    return Face(
        id=face_id(UPLOAD, row),
        collection=CollectionRef("acme", "staff"),
        source=SourceObject(UPLOAD.bucket, UPLOAD.key, UPLOAD.version, UPLOAD.sequencer),
        box=box,
        model="m",
        seq=1,
        created="",
    )


def no_attributes() -> AttributeEstimator:
    raise AssertionError("no attributes are asked for")


def pictures(memory: Memory) -> Pictures:
    return Pictures(memory, "chips", FaceAnalyzer(OneFace, no_attributes))  # type: ignore[arg-type]


def test_png_holds_exactly_the_pixels() -> None:
    chip = chips(1)[0]
    opened = Image.open(io.BytesIO(png(chip)))
    assert (opened.format, opened.info) == ("PNG", {})
    assert (np.asarray(opened) == chip).all()


def test_probe_and_candidate_come_from_the_chips() -> None:
    memory, made = Memory(), chips(3)
    memory.kept[CHIPS_KEY] = encode(made)
    assert (pictures(memory).probe(UPLOAD, 2) == made[2]).all()
    assert pictures(memory).probe(UPLOAD, 3) is None
    assert (pictures(memory).candidate(face(1)) == made[1]).all()


def test_a_candidate_whose_chips_are_gone_is_cut_anew_from_its_photo() -> None:
    noise = np.random.default_rng(2).integers(0, 255, (200, 200, 3), np.uint8)
    photo = io.BytesIO()
    Image.fromarray(noise).save(photo, "PNG")
    found = pictures(Memory(photo.getvalue())).candidate(face())
    assert found is not None
    assert found.shape == (112, 112, 3)
    elsewhere = face(box=(0.7, 0.7, 0.2, 0.2))
    assert pictures(Memory(photo.getvalue())).candidate(elsewhere) is None


def test_no_picture_is_no_error() -> None:
    assert pictures(Memory()).candidate(face()) is None
    assert pictures(Memory(b"no photo")).candidate(face()) is None
    memory = Memory()
    memory.kept[CHIPS_KEY] = b"no chips"
    assert pictures(memory).probe(UPLOAD, 0) is None


def test_blanking_takes_one_face_out_and_leaves_the_others() -> None:
    memory, made = Memory(), chips(2)
    memory.kept[CHIPS_KEY] = encode(made)
    ChipStore(memory, "chips").blank(CHIPS_KEY, [0])
    assert not pictures(memory).probe(UPLOAD, 0).any()  # type: ignore[union-attr]
    assert (pictures(memory).probe(UPLOAD, 1) == made[1]).all()
    assert ChipStore(memory, "chips").visible(CHIPS_KEY, [0, 1, 7]) == [1]
