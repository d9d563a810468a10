"""ECE against its definition, and its null value against simulation."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble_fer.evaluate.calibration import confidence_bins, ece, ece_null, reliability
from ensemble_fer.evaluate.metrics import score
from tests.evaluate.examples import some_predictions


def _naive_ece(confidence: np.ndarray, correct: np.ndarray, bins: int) -> float:
    total = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize("bins", [1, 2, 15])
def test_ece_is_its_definition(bins: int) -> None:
    rng = np.random.default_rng(bins)
    for rows in (1, 10, 1000):
        confidence, correct = rng.uniform(1 / 7, 1, rows), rng.random(rows) < 0.6
        assert ece(confidence, correct, bins) == pytest.approx(_naive_ece(confidence, correct, bins))


def test_edges_belong_to_the_bin_below() -> None:
    np.testing.assert_array_equal(confidence_bins(np.array([0.0, 0.2, 0.21, 0.4, 1.0]), 5), [0, 0, 1, 1, 4])


def test_reliability_bins_add_up_to_the_ece() -> None:
    p = some_predictions(700)
    confidence, correct = p.probabilities().max(1), p.logits.argmax(1) == p.labels
    bins = reliability(confidence, correct)
    assert sum(b["rows"] for b in bins) == 700
    assert bins[0] == {"from": 0, "to": 1 / 15, "rows": 0, "confidence": None, "accuracy": None}
    parts = [b["rows"] * abs(b["accuracy"] - b["confidence"]) for b in bins if b["rows"]]
    assert sum(parts) / 700 == pytest.approx(ece(confidence, correct))


def test_the_null_value_is_the_mean_ece_of_perfectly_calibrated_models() -> None:
    rng = np.random.default_rng(5)
    confidence = rng.uniform(0.2, 1, 600)
    simulated = [_naive_ece(confidence, rng.random(600) < confidence, 15) for _ in range(1000)]
    error = np.std(simulated) / np.sqrt(500) * 5
    assert ece_null(confidence) == pytest.approx(np.mean(simulated), abs=error)
    assert ece_null(confidence) == ece_null(confidence), "seeded"
    assert ece_null(confidence, seed=1) != ece_null(confidence)
    assert ece_null(np.ones(50)) == 0


def test_a_calibrated_model_scores_near_its_null_and_an_overconfident_one_far_above() -> None:
    rng = np.random.default_rng(0)
    p = some_predictions(3589)
    right = p.probabilities().cumsum(axis=1)
    labels = np.minimum((rng.random((3589, 1)) > right).sum(axis=1), 6)
    calibrated = score(some_predictions(3589, labels=labels), n_boot=2)
    assert 0.012 < calibrated.ece_null < 0.025
    assert calibrated.ece < 1.6 * calibrated.ece_null
    loud = score(some_predictions(3589, labels=labels, logits=3 * p.logits), n_boot=2)
    assert loud.ece > 5 * loud.ece_null
