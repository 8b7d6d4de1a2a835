"""Search metrics, worked by hand and against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from abeyance.evaluation import identification as module
from abeyance.evaluation.errors import DataInvalid
from abeyance.evaluation.identification import identify


def on_circle(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_ranks_and_open_set_by_hand() -> None:
    gallery, people = on_circle(0, 90, 180), ["a", "b", "c"]
    # a is found first, b second (a stands nearer), an unknown lies 10 degrees from c, another 45 from all.
    found = identify(
        gallery,
        people,
        on_circle(5, 40, 190, 135),
        ["a", "b", "x", "y"],
        np.ones(4, bool),
        thresholds=[0.9],
        fpirs=[0.5, 0.01],
    )
    assert (found.mated_probes, found.non_mated_probes, found.gallery_people) == (2, 2, 3)
    assert found.ranks[0].rank == 1
    assert found.ranks[0].rate.value == 0.5
    # One of the two unknown probes may be found: the threshold lies above cos 45.
    assert found.open_set[0].threshold == pytest.approx(np.cos(np.pi / 4), abs=1e-6)
    assert found.open_set[0].fnir.value == 0.5
    assert found.open_set[0].false_positives == 1
    assert (found.fixed[0].fnir.value, found.fixed[0].fpir.value) == (0.5, 0.5)
    assert found.unmeasurable == (0.01,)
    (curve,) = found.by_size
    assert curve.sizes == (1, 2, 3)
    assert curve.measured[-1].value == found.fixed[0].fpir.value
    # One of six pairs reaches the threshold.
    assert curve.modelled[-1] == pytest.approx(1 - (5 / 6) ** 3)
    assert [rate.count for rate in curve.measured] == sorted(rate.count for rate in curve.measured)


def test_a_probe_without_a_face_is_missed_or_harmless() -> None:
    found = identify(
        on_circle(0, 90), ["a", "b"], on_circle(0, 0), ["a", "x"], np.array([False, False]), thresholds=[0.5]
    )
    assert found.fixed[0].fnir.value == 1
    assert found.fixed[0].fpir.value == 0
    assert found.ranks[0].rate.value == 0


@pytest.mark.parametrize("block", [3, 1 << 21])
def test_against_a_plain_loop(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(module, "_BLOCK_SCORES", block)
    generator = np.random.default_rng(2)
    gallery = generator.standard_normal((40, 8)).astype(np.float32)
    probes = generator.standard_normal((60, 8)).astype(np.float32)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    owners = [f"p{i % 15}" for i in range(40)]
    wanted = [f"p{i % 25}" for i in range(60)]
    found = identify(gallery, owners, probes, wanted, np.ones(60, bool), thresholds=[0.5])
    first = miss = false = 0
    for probe, person in zip(probes, wanted, strict=True):
        best: dict[str, float] = {}
        for vector, owner in zip(gallery, owners, strict=True):
            best[owner] = max(best.get(owner, -1), float(vector @ probe))
        top = max(best, key=lambda o: best[o])
        if person in best:
            first += top == person
            miss += not (top == person and best[person] >= 0.5)
        else:
            false += best[top] >= 0.5
    assert found.ranks[0].rate.count == first
    assert found.fixed[0].fnir.count == miss
    assert found.fixed[0].fpir.count == false


def test_nobody_enrolled() -> None:
    with pytest.raises(DataInvalid):
        identify(np.empty((0, 2), np.float32), [], on_circle(0), ["a"], np.ones(1, bool))
