"""Fits of confidences and their reliability, on simulated outputs with known labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from abeyance.evaluation import attribute_fit as fit
from abeyance.evaluation.attribute_accuracy import AccuracyCard, measure_attributes, predictions
from abeyance.evaluation.attribute_outputs import AttributeOutputs, age_bounds
from abeyance.evaluation.datasets import LabelledPhoto, PhotoSet
from abeyance.evaluation.errors import DataInvalid, TooFew
from abeyance.evaluation.render import render_markdown
from abeyance.evaluation.report import build_report
from abeyance.vision.models.manifest import Confidence, Manifest, ModelRole

AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
ENTRIES = {
    e.role: e for e in Manifest.load().entries.values() if e.role in set(ModelRole) - {"detector", "embedder"}
}


def made(count: int = 6000, seed: int = 0) -> AttributeOutputs:
    """Faces whose gender has odds half of what the model says, and whose age is what it says, give or take 6 years."""
    rng = np.random.default_rng(seed)
    female = rng.normal(0, 6, count)
    truth = rng.random(count) < 1 / (1 + np.exp(-female / 2))
    years = rng.uniform(4, 66, count)
    ages = np.clip(years + rng.normal(0, 6, count), 0, 89)
    groups = np.digitize(ages, [3, 10, 20, 30, 40, 50, 60, 70])
    photos = tuple(
        LabelledPhoto(
            Path(f"{i}.jpg"),
            f"row {i}",
            {"gender": "Female" if truth[i] else "Male", "age": AGES[groups[i]], "race": "ab"[i % 2]},
        )
        for i in range(count)
    )
    return AttributeOutputs(
        photos=PhotoSet("made", photos, False),
        found=np.ones(count, bool),
        female=female,
        years=years,
        expression=np.log(rng.dirichlet(np.ones(7), count)),
        mouth=rng.uniform(0, 0.4, count),
        presence=np.ones(count),
        eyes=rng.uniform(0, 0.4, count),
        fitted=np.arange(count) % 2 == 0,
    )


def fitted(outputs: AttributeOutputs) -> dict[ModelRole, object]:
    """The manifest's entries with confidences fitted to made answers."""
    confidences = {
        ModelRole.GENDER: Confidence(provenance="made", floor=60, knots=fit.gender([outputs])),
        ModelRole.AGE: Confidence(provenance="made", ranges=fit.age([outputs])),
    }
    return {
        role: msgspec.structs.replace(entry, confidence=confidences.get(role, entry.confidence))
        for role, entry in ENTRIES.items()
    }


def test_an_isotonic_curve_rises_and_keeps_the_mean() -> None:
    rng = np.random.default_rng(3)
    said = rng.random(4000)
    true = rng.random(4000) < said**2
    knots = np.array(fit.isotonic(said, true))
    assert (np.diff(knots, axis=0) > 0).all()
    curve = np.interp(said, knots[:, 0], knots[:, 1])
    assert curve.mean() == pytest.approx(true.mean(), abs=0.01)
    assert np.abs(curve - said**2).mean() < 0.03
    with pytest.raises(TooFew):
        fit.isotonic(said[:50], true[:50])


def test_fitted_confidences_are_reliable_on_other_faces() -> None:
    outputs = made()
    found = measure_attributes([outputs], fitted(outputs))  # type: ignore[arg-type]
    gender, age, exact = found.measured
    assert gender.calibration is not None
    assert gender.calibration.photos == 3000
    assert gender.calibration.error < 0.03
    assert gender.calibration.at_least_90 is not None
    assert gender.calibration.at_least_90.low > 0.9
    assert gender.answered.value > gender.overall.value
    assert gender.withheld == 6000 - gender.answered.trials > 0
    assert age.calibration is not None
    assert age.calibration.error < 0.04
    assert age.more["share within the range"] == pytest.approx(0.8, abs=0.04)
    # 80 % of a normal distribution lie within 1.28 standard deviations.
    assert 12 < age.more["mean width of the range, years"] < 22
    assert age.overall.value > exact.overall.value > 0.5
    assert set(gender.by) == {"race", "gender", "age"}
    assert list(age.by["age"]) == [name for name in AGES if name in age.by["age"]]
    assert sum(rate.trials for rate in gender.by["race"].values()) == 6000


def test_overconfident_answers_have_a_calibration_error() -> None:
    outputs = made()
    overconfident = dict(fitted(outputs))
    entry = ENTRIES[ModelRole.GENDER]
    overconfident[ModelRole.GENDER] = msgspec.structs.replace(
        entry, confidence=Confidence(provenance="", knots=())
    )
    gender = measure_attributes([outputs], overconfident).measured[0]  # type: ignore[arg-type]
    assert gender.calibration is not None
    assert gender.calibration.error > 0.06


def test_vector_scaling_recovers_temperature_and_biases() -> None:
    rng = np.random.default_rng(5)
    said = np.log(rng.dirichlet(np.full(7, 0.5), 2500) + 1e-4)
    biases = np.array([1.0, 0.5, -1.0, 0, 0, 0, -0.5])
    z = np.exp(said / 2.5 + biases)
    shares = z / z.sum(axis=1, keepdims=True)
    truth = np.array([rng.choice(7, p=row) for row in shares])
    temperature, found = fit.vector_scaling(said, truth, np.ones(2500))
    assert temperature == pytest.approx(2.5, rel=0.15)
    # The ridge holds them back a little.
    assert np.abs(np.array(found) - (biases - biases.mean())).max() < 0.35


@pytest.mark.parametrize(
    ("label", "bounds"),
    [("3-9", (3, 10)), ("0-2", (0, 3)), ("more than 70", (70, 90)), ("70+", (70, 90)), ("unknown", None)],
)
def test_the_bounds_of_a_published_group(label: str, bounds: tuple[float, float] | None) -> None:
    assert age_bounds(label) == bounds


def test_attributes_without_a_column_are_not_measured_or_fitted() -> None:
    outputs = made(200)
    bare = tuple(LabelledPhoto(photo.path, photo.person) for photo in outputs.photos.photos)
    nothing = replace(outputs, photos=PhotoSet("bare", bare, False))
    assert measure_attributes([nothing], ENTRIES).measured == ()
    for one in (fit.gender, fit.age):
        with pytest.raises(DataInvalid, match="no column"):
            one([nothing])
    with pytest.raises(TooFew):
        fit.age([outputs])


def test_photos_without_a_face_are_counted_and_left_out_of_rates() -> None:
    outputs = made(1000)
    found = np.arange(1000) % 10 > 0
    lost = replace(
        outputs,
        found=found,
        female=np.where(found, outputs.female, np.nan),
        years=np.where(found, outputs.years, np.nan),
    )
    result = measure_attributes([lost], ENTRIES)
    assert result.data == {"made": (1000, 100)}
    assert result.measured[0].overall.trials == 900
    rows = predictions(lost, ENTRIES)
    assert rows[0][1:] == ("", "")
    assert rows[1][2] in AGES


def test_the_page_has_all_measurements() -> None:
    outputs = made(2000)
    found = measure_attributes([outputs], ENTRIES)
    page = render_markdown(build_report("attributes", found=found, diagram="card.svg"))
    for text in (
        "must not be used",
        "Article 5",
        "![Right answers by group](card-groups.svg)",
        "![Right answers over their confidence](card.svg)",
        "gender by race",
        "| b |",
    ):
        assert text in page
    assert "nan %" not in page
    assert msgspec.json.decode(msgspec.json.encode(found), type=AccuracyCard) == found
