"""Metrics beside scikit-learn on random cases, McNemar beside the binomial test, and intervals beside the truth."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as theirs
from sklearn.calibration import calibration_curve

from ensemble_fer.evaluate.calibration import ece
from ensemble_fer.evaluate.counts import METRICS, confusion, f1_of, precision_of, recall_of
from ensemble_fer.evaluate.intervals import intervals
from ensemble_fer.evaluate.metrics import summary
from ensemble_fer.evaluate.pairs import mcnemar
from ensemble_fer.types import N_CLASSES
from tests.evaluate.coverage import RECALL, as_sums
from tests.evaluate.examples import SHARES
from tests.trust.campaign import ALL, cases


def case(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels and logits of some rows."""
    rows = int(rng.choice([1, 2, 7, 40, 300]))
    there = rng.permutation(N_CLASSES)[: int(rng.integers(1, N_CLASSES + 1))]
    labels = rng.choice(there, rows).astype(np.uint8)
    logits = rng.normal(0, float(rng.choice([0.1, 2, 60])), (rows, N_CLASSES))
    logits[np.arange(rows), labels] += float(rng.choice([0, 1, 5]))
    if rng.random() < 0.4:  # ties
        logits = np.round(logits)
    if rng.random() < 0.3:  # a class that is never said
        logits[:, int(rng.integers(N_CLASSES))] -= 500
    return labels, logits.astype(np.float32)


def test_metrics_are_those_of_scikit_learn() -> None:
    """1,000 cases."""
    for number, rng in cases("metrics", 1000, quick=150):
        labels, logits = case(rng)
        ours = summary(labels, logits)
        said = logits.argmax(1)
        exact = logits.astype(np.float64)
        p = np.exp(exact - exact.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        there = np.unique(labels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = {
                "accuracy": theirs.accuracy_score(labels, said),
                "macro_f1": theirs.f1_score(labels, said, labels=there, average="macro", zero_division=0),
                "balanced_accuracy": theirs.balanced_accuracy_score(labels, said),
                "brier": ((p - np.eye(N_CLASSES)[labels]) ** 2).sum(1).mean(),
            }
            if (p[np.arange(len(labels)), labels] > 1e-12).all():  # beyond, scikit-learn cuts off
                expected["nll"] = theirs.log_loss(labels, p, labels=range(N_CLASSES))
            if 1 in there:
                expected["disgust_f1"] = theirs.f1_score(labels == 1, said == 1, zero_division=0)
            else:
                assert ours["disgust_f1"] is None, number
            # Of ties scikit-learn's top-k counts the higher class first; ours the lower, as the argmax does.
            if len(labels) > 1:
                backward = N_CLASSES - 1 - labels.astype(int), logits[:, ::-1]
                for k in (2, 3):
                    expected[f"top{k}"] = theirs.top_k_accuracy_score(*backward, k=k, labels=range(N_CLASSES))
        for name, value in expected.items():
            assert ours[name] == pytest.approx(value, abs=1e-6), (number, name)
        matrix = theirs.confusion_matrix(labels, said, labels=range(N_CLASSES))
        assert (confusion(labels, logits) == matrix).all(), number
        classes = theirs.precision_recall_fscore_support(labels, said, labels=range(N_CLASSES), zero_division=0)
        for formula, per_class in zip((precision_of, recall_of, f1_of), classes[:3], strict=True):
            assert formula(matrix) == pytest.approx(per_class, abs=1e-9), (number, formula.__name__)


def test_calibration_errors_are_those_of_bins_of_scikit_learn() -> None:
    """1,000 cases; both take an edge of a bin for the upper end of the lower one."""
    for number, rng in cases("calibration", 1000, quick=150):
        rows, bins = int(rng.choice([1, 2, 15, 300, 3000])), int(rng.choice([1, 10, 15]))
        sure = rng.uniform(1 / N_CLASSES, 1, rows)
        if rng.random() < 0.3:  # certain, or just on an edge
            sure = np.maximum(1, np.ceil(sure * 8)) / 8
        right = rng.random(rows) < sure ** float(rng.choice([0.2, 1, 4]))
        # Where no answer is right, or all are, scikit-learn asks which class is the right one.
        share, confidence = calibration_curve(right, sure, n_bins=bins, pos_label=True)
        counts = np.bincount(np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], sure), minlength=bins)
        expected = (np.abs(share - confidence) * counts[counts > 0]).sum() / rows
        assert ece(sure, right, bins) == pytest.approx(expected, abs=1e-9), number


def test_mcnemar_is_the_exact_binomial_test() -> None:
    for number, rng in cases("mcnemar", 300, quick=60):
        a, b = (int(value) for value in rng.integers(0, int(rng.choice([2, 10, 200])), 2))
        expected = binomtest(a, a + b).pvalue if a + b else 1.0
        assert mcnemar(a, b)["p"] == pytest.approx(expected, abs=1e-9), (number, a, b)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """95 % intervals of 1,000 parts of 700 faces or more, of which many are there twice or three times."""
    parts, n_boot = (1000, 1000) if ALL else (120, 300)
    low, high = (0.93, 0.97) if ALL else (0.88, 1.0)
    for number, rng in cases("coverage", 12, quick=1):
        photographs = int(rng.integers(700, 3600))
        shares, recall = rng.dirichlet(30 * SHARES), np.clip(RECALL + rng.normal(0, 0.08, N_CLASSES), 0.2, 0.95)
        # A class of fewer than ten faces has intervals of its own kind, as docs/metrics.md says.
        shares = np.maximum(shares, 12 / photographs) / np.maximum(shares, 12 / photographs).sum()
        cells = shares[:, None] * (np.eye(7) * recall[:, None] + (1 - np.eye(7)) * (1 - recall[:, None]) / 6)
        truth = {name: float(METRICS[name](as_sums(cells.ravel()))) for name in ("accuracy", "macro_f1")}
        held = dict.fromkeys(truth, 0)
        for _ in range(parts):
            cell = rng.choice(49, photographs, p=cells.ravel() / cells.sum())
            copies = rng.choice([1, 2, 3], photographs, p=[0.85, 0.1, 0.05])
            groups = np.repeat(np.arange(photographs), copies)
            found = intervals(as_sums(np.eye(49)[cell[groups]]), groups, n_boot=n_boot)
            for name, value in truth.items():
                held[name] += found[name][0] <= value <= found[name][1]
        for name, times in held.items():
            assert low <= times / parts <= high, (number, photographs, name, times / parts)
