"""Metrics beside scikit-learn on random cases, with classes that are missing, ties, and very sure answers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as theirs

from ensemble_fer.evaluate.metrics import summary
from ensemble_fer.evaluate.pairs import mcnemar
from ensemble_fer.types import N_CLASSES
from tests.trust.campaign import cases


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
            plain = np.array([len(set(row)) for row in logits]) == N_CLASSES
            if plain.all() and len(labels) > 1:
                for k in (2, 3):
                    expected[f"top{k}"] = theirs.top_k_accuracy_score(labels, logits, k=k, labels=range(N_CLASSES))
        for name, value in expected.items():
            assert ours[name] == pytest.approx(value, abs=1e-6), (number, name)


def test_mcnemar_is_the_exact_binomial_test() -> None:
    for number, rng in cases("mcnemar", 300, quick=60):
        a, b = (int(value) for value in rng.integers(0, int(rng.choice([2, 10, 200])), 2))
        expected = binomtest(a, a + b).pvalue if a + b else 1.0
        assert mcnemar(a, b)["p"] == pytest.approx(expected, abs=1e-9), (number, a, b)
