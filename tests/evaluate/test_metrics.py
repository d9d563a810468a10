"""Every score against scikit-learn or a naive count, with classes missing and with ties."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

from ensemble_fer.errors import UsageError
from ensemble_fer.evaluate import counts
from ensemble_fer.evaluate.metrics import accuracy, macro_f1, score, summary
from ensemble_fer.types import CLASSES, Predictions
from tests.evaluate.examples import some_predictions


def _case(seed: int) -> Predictions:
    """Random predictions; some lack classes, some have many ties (logits are small integers)."""
    rng = np.random.default_rng(seed)
    p = some_predictions(int(rng.integers(5, 400)), seed, skill=float(rng.uniform(0, 3)))
    labels, logits = p.labels.copy(), p.logits.copy()
    if seed % 3:
        labels[labels == seed % 7] = (seed + 1) % 7
        labels[labels == 1] = 4
    if seed % 2:
        logits = np.round(logits)
    if seed % 5 == 0:
        logits[:, 6] = -30  # a class that is there but never said
    return replace(p, labels=labels, logits=logits)


@pytest.mark.parametrize("seed", range(24))
def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    p = _case(seed)
    report = score(p, n_boot=2)
    said, probabilities = p.logits.argmax(1), p.probabilities()
    codes, present = list(range(7)), np.unique(p.labels)
    precision, recall, f1, support = sk.precision_recall_fscore_support(p.labels, said, labels=codes, zero_division=0)
    np.testing.assert_array_equal(report.confusion, sk.confusion_matrix(p.labels, said, labels=codes))
    for code, name in enumerate(CLASSES):
        found = report.per_class[name]
        expected = [precision[code], recall[code], f1[code], support[code]]
        np.testing.assert_allclose(list(found.values()), expected, atol=1e-12)
    expected_f1 = sk.f1_score(p.labels, said, labels=present, average="macro", zero_division=0)
    np.testing.assert_allclose(report.accuracy, sk.accuracy_score(p.labels, said))
    np.testing.assert_allclose(report.macro_f1, expected_f1)
    np.testing.assert_allclose(report.balanced_accuracy, np.mean([recall[c] for c in present]))
    np.testing.assert_allclose(report.nll, sk.log_loss(p.labels, probabilities, labels=codes))
    np.testing.assert_allclose(
        report.brier, sk.brier_score_loss(p.labels, probabilities, labels=codes, scale_by_half=False)
    )
    # scikit-learn ranks the higher of two equal classes first; with the classes reversed it is the lower one.
    for k, found in ((2, report.top2), (3, report.top3)):
        expected = sk.top_k_accuracy_score(6 - p.labels, p.logits[:, ::-1], k=k, labels=codes)
        np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose([accuracy(p.labels, p.logits), macro_f1(p.labels, p.logits)], [*_two(report)])
    quick = summary(p.labels, p.logits)
    assert quick["disgust_f1"] == (report.per_class["disgust"]["f1"] if support[1] else None)
    assert all(quick[key] == getattr(report, key) for key in quick if key != "disgust_f1")


def _two(report) -> tuple[float, float]:
    return report.accuracy, report.macro_f1


def test_ties_go_to_the_lower_class() -> None:
    logits = np.array([[0, 5, 5, 5, 0, 0, 0]] * 4, np.float32)
    np.testing.assert_array_equal(counts.true_rank(np.array([1, 2, 3, 0]), logits), [0, 1, 2, 3])
    naive = [sorted(range(7), key=lambda c, row=row: (-row[c], c)) for row in np.round(some_predictions(200).logits)]
    labels = some_predictions(200).labels
    expected = [order.index(label) for order, label in zip(naive, labels, strict=True)]
    np.testing.assert_array_equal(counts.true_rank(labels, np.round(some_predictions(200).logits)), expected)


def test_twin_free_scores_are_those_of_the_rows_without_a_twin_in_training() -> None:
    p = some_predictions(900)
    free = ~p.twin_in_train
    alone = replace(
        p, **{key: getattr(p, key)[free] for key in ("logits", "labels", "rows", "groups", "twin_in_train")}
    )
    found, expected = score(p, n_boot=200).twin_free, score(alone, n_boot=200)
    assert found["rows"] == free.sum()
    assert (found["accuracy"], found["macro_f1"]) == (expected.accuracy, expected.macro_f1)
    assert found["ci95"] == {key: expected.ci95[key] for key in ("accuracy", "macro_f1")}
    none = score(replace(p, twin_in_train=np.ones(900, bool)), n_boot=2).twin_free
    assert none["rows"] == 0
    assert none["accuracy"] is None


def test_the_report_is_the_json_that_was_promised() -> None:
    report = score(some_predictions(800), n_boot=300)
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    promised = "accuracy top2 top3 macro_f1 balanced_accuracy nll brier ece per_class confusion ci95 twin_free protocol"
    assert set(promised.split()) <= set(told)
    assert {"accuracy", "macro_f1", "balanced_accuracy", "disgust_f1", "top2", "top3"} <= set(told["ci95"])
    for key in ("accuracy", "macro_f1", "balanced_accuracy", "top2", "top3", "nll", "brier"):
        low, high = told["ci95"][key]
        assert low < told[key] < high
    assert told["protocol"]["resampling"] == "smote"
    assert told["protocol"]["leaky"] is False
    assert score(some_predictions(800), n_boot=300) == report, "the same predictions give the same report"
    assert report.ci_reliable
    assert not score(some_predictions(699), n_boot=2).ci_reliable


def test_a_class_without_rows_has_no_interval_and_no_share_in_the_mean() -> None:
    p = some_predictions(400)
    labels = np.where(p.labels == 1, 0, p.labels)
    report = score(replace(p, labels=labels), n_boot=50)
    assert "disgust_f1" not in report.ci95
    assert report.per_class["disgust"]["support"] == 0
    f1 = [c["f1"] for name, c in report.per_class.items() if name != "disgust"]
    assert report.macro_f1 == pytest.approx(np.mean(f1))
    json.dumps(report.to_dict(), allow_nan=False)


def test_no_rows_is_an_error_that_says_so() -> None:
    with pytest.raises(UsageError, match="no rows"):
        score(some_predictions(0))


def test_the_training_loop_pays_less_than_two_milliseconds() -> None:
    p = some_predictions(3589)
    for quick in (accuracy, macro_f1):
        took = []
        for _ in range(20):
            started = time.perf_counter()
            quick(p.labels, p.logits)
            took.append(time.perf_counter() - started)
        assert min(took) < 2e-3
