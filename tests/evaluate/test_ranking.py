"""Average precision is scikit-learn's, and its draws are those of the other intervals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import average_precision_score

from ensemble_fer.evaluate.intervals import draw_weights
from ensemble_fer.evaluate.ranking import average_precision, average_precision_draws
from ensemble_fer.types import Predictions
from tests.evaluate.examples import some_predictions


def coarse(rows: int, seed: int) -> Predictions:
    """Predictions with many equal probabilities."""
    said = some_predictions(rows, seed=seed)
    return replace(said, logits=np.round(said.logits))


def scores_of(said: Predictions, code: int) -> np.ndarray:
    return np.round(log_softmax(said.logits.astype(np.float64), axis=1)[:, code], 9)


@pytest.mark.parametrize("seed", range(6))
def test_as_scikit_learn_has_it(seed: int) -> None:
    said = coarse(300, seed)
    for code in range(7):
        wanted, scores = said.labels == code, scores_of(said, code)
        assert len(np.unique(scores)) < 250, "no two rows are equal"
        assert average_precision(said, code) == pytest.approx(average_precision_score(wanted, scores), abs=1e-9)


def test_draws_weigh_rows_as_often_as_their_group_was_drawn() -> None:
    said = replace(coarse(200, 1), groups=np.arange(200) // 3)
    draws = average_precision_draws(said, 3, n_boot=40, seed=7)
    weights = np.concatenate(list(draw_weights(67, 40, 7)))[:, said.groups]
    scores = scores_of(said, 3)
    expected = [average_precision_score(said.labels == 3, scores, sample_weight=one) for one in weights]
    assert draws == pytest.approx(np.array(expected), abs=1e-9)
    assert draws.std() > 0


def test_no_threshold_changes_it() -> None:
    said = some_predictions(300, seed=2)
    # A constant for the class makes it said more often; of two classes the order of rows stays.
    two = said.logits[:, :2]
    plain = replace(said, logits=np.concatenate([two, np.full((300, 5), -50.0)], 1).astype(np.float32))
    raised = replace(plain, logits=plain.logits + np.array([0, 3, 0, 0, 0, 0, 0], np.float32))
    assert (raised.logits.argmax(1) == 1).sum() > (plain.logits.argmax(1) == 1).sum()
    assert average_precision(raised, 1) == pytest.approx(average_precision(plain, 1), abs=1e-6)


def test_without_a_row_of_the_class_it_is_not_defined() -> None:
    said = some_predictions(50, seed=0)
    none = replace(said, labels=np.where(said.labels == 1, 0, said.labels))
    assert np.isnan(average_precision(none, 1))
    assert np.isnan(average_precision_draws(none, 1, n_boot=5)).all()
