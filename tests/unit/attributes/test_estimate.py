"""Calibration of attribute scores."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from abeyance.rekognition.facedetail import attribute_members
from abeyance.vision.analysis import ATTRIBUTE_ROLES
from abeyance.vision.attributes.estimate import (
    AttributeScores,
    age_range,
    estimate,
    expression_shares,
    female_share,
)
from abeyance.vision.models.manifest import Confidence, Manifest, ModelEntry, ModelRole

ENTRIES = {
    entry.role: entry for entry in Manifest.load().entries.values() if entry.role is not ModelRole.EMBEDDER
}
AT = {role: ENTRIES[role] for role in sorted(ATTRIBUTE_ROLES)}


def how(role: ModelRole) -> Confidence:
    confidence = AT[role].confidence
    assert confidence is not None
    return confidence


def changed(role: ModelRole, **changes: object) -> dict[ModelRole, ModelEntry]:
    confidence = msgspec.structs.replace(how(role), **changes)
    return {**AT, role: msgspec.structs.replace(AT[role], confidence=confidence)}


def test_every_attribute_model_says_where_its_confidence_comes_from() -> None:
    for role in AT:
        assert len(how(role).provenance) > 80
        for table in (how(role).knots, how(role).ranges):
            rows = np.array(table)
            assert (np.diff(rows, axis=0) >= 0).all()
            assert (np.diff(rows[:, 0]) > 0).all() if len(rows) else True


def test_gender_is_symmetric_and_rises() -> None:
    odds = np.linspace(-12, 12, 49)
    share = np.array([female_share(float(x), how(ModelRole.GENDER)) for x in odds])
    assert (np.diff(share) >= 0).all()
    assert np.allclose(share + share[::-1], 1, atol=0.03)
    assert 0 <= share[0] < 0.02


def test_an_unsure_gender_is_withheld_unless_it_is_measured() -> None:
    assert estimate(AttributeScores(female=0.3), AT).gender is None
    unsure = estimate(AttributeScores(female=0.3), AT, withhold=False).gender
    assert unsure is not None
    assert 0.5 <= unsure.confidence < 0.6
    sure = estimate(AttributeScores(female=-9.0), AT).gender
    assert sure is not None
    assert (sure.value, sure.confidence > 0.9) == ("Male", True)


def test_age_ranges_rise_and_hold_what_the_model_says_for_adults() -> None:
    ranges = np.array([age_range(float(years), how(ModelRole.AGE)) for years in range(81)])
    assert (np.diff(ranges, axis=0) >= 0).all()
    assert (ranges[:, 0] < ranges[:, 1]).all()
    adults = np.arange(18, 65)
    assert (ranges[18:65, 0] < adults).all()
    assert (ranges[18:65, 1] > adults).all()


def test_expressions_are_shares_and_none_is_invented() -> None:
    shares = expression_shares(np.log([0.5, 0.3, 0.1, 0.05, 0.02, 0.02, 0.01]), how(ModelRole.EXPRESSION))
    assert shares.sum() == pytest.approx(1)
    said = estimate(AttributeScores(expression=np.log(np.eye(7)[1] + 1e-8)), AT)
    assert said.expression is not None
    assert set(said.expression) == {"CALM", "HAPPY", "SAD", "ANGRY", "FEAR", "DISGUSTED", "SURPRISED"}
    assert max(said.expression, key=lambda name: said.expression[name]) == "HAPPY"  # type: ignore[index]
    assert said.smile is not None
    assert said.smile.value == "true"


def test_expressions_that_nothing_speaks_for_are_withheld() -> None:
    even = AttributeScores(expression=np.log(np.full(7, 1 / 7)))
    entries = changed(ModelRole.EXPRESSION, biases=(), floor=40.0)
    assert estimate(even, entries).expression is None
    assert estimate(even, entries, withhold=False).expression is not None


def test_a_mesh_beside_the_face_has_no_pose_and_an_unsure_mouth() -> None:
    points = np.random.default_rng(0).normal(0, 50, (468, 3)).astype(np.float32)
    lost = estimate(AttributeScores(mesh=points, mesh_presence=0.2), AT)
    assert (lost.pose, lost.landmarks) == (None, None)
    assert lost.mouth_open is not None
    assert 0.5 <= lost.mouth_open.confidence <= 0.6
    assert lost.eyes_open is None
    shut = estimate(AttributeScores(mesh=points, mesh_presence=0.9, eyes=0.02), AT).eyes_open
    wide = estimate(AttributeScores(mesh=points, mesh_presence=0.9, eyes=0.3), AT).eyes_open
    unsure = estimate(AttributeScores(mesh=points, mesh_presence=0.1, eyes=0.3), AT).eyes_open
    assert (shut and shut.value, wide and wide.value) == ("false", "true")
    assert unsure is not None
    assert unsure.confidence < 0.6
    there = estimate(AttributeScores(mesh=points, mesh_presence=0.9), AT)
    assert there.pose is not None
    assert len(there.landmarks or {}) == 30


def test_nothing_is_said_of_what_nobody_asked() -> None:
    assert estimate(AttributeScores(), AT) == estimate(AttributeScores(), {})
    assert attribute_members(estimate(AttributeScores(), AT), frozenset({"ALL"}), (10, 10)) == {}


def test_only_what_was_asked_is_in_the_answer() -> None:
    said = estimate(AttributeScores(female=9.0, years=30.0, expression=np.log(np.eye(7)[1] + 1e-8)), AT)
    assert set(attribute_members(said, frozenset({"SMILE"}), (9, 9))) == {"Gender", "Smile"}
    assert set(attribute_members(said, frozenset({"EMOTIONS", "AGE_RANGE"}), (9, 9))) == {
        *("AgeRange", "Gender", "Emotions")
    }
    emotions = attribute_members(said, frozenset({"ALL"}), (9, 9))["Emotions"]
    confidences = [one["Confidence"] for one in emotions]
    assert confidences == sorted(confidences, reverse=True)
    assert sum(confidences) == pytest.approx(100)
