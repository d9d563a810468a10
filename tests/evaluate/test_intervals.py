"""Bootstrap by twin group: the same as drawing rows naively, and it covers what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

from ensemble_fer.errors import SplitMisuse, UsageError
from ensemble_fer.evaluate import intervals as iv
from ensemble_fer.evaluate.counts import CELLS, METRICS, WIDTH, macro_f1_of, row_statistics
from ensemble_fer.evaluate.metrics import score
from tests.evaluate.coverage import population
from tests.evaluate.examples import some_predictions


def test_a_draw_is_what_drawing_groups_of_rows_one_by_one_gives() -> None:
    p = some_predictions(120)
    names = np.unique(p.groups)
    sums = iv.bootstrap(row_statistics(p.labels, p.logits), p.groups, n_boot=15, seed=3)
    weights = np.concatenate(list(iv.draw_weights(len(names), 15, 3)))
    assert (weights.sum(axis=1) == len(names)).all()
    said = p.logits.argmax(1)
    for draw, counts in zip(sums, weights, strict=True):
        drawn = [[*np.flatnonzero(p.groups == g)] * int(times) for g, times in zip(names, counts, strict=True)]
        rows = np.concatenate(drawn).astype(int)
        labels, answers = p.labels[rows], said[rows]
        expected = sk.f1_score(labels, answers, labels=np.unique(labels), average="macro", zero_division=0)
        assert METRICS["macro_f1"](draw) == pytest.approx(expected)
        assert METRICS["accuracy"](draw) == pytest.approx((labels == answers).mean())
        disgust = sk.f1_score(labels == 1, answers == 1, zero_division=0)
        assert np.nan_to_num(METRICS["disgust_f1"](draw)) == pytest.approx(disgust)
        losses = -np.log(p.probabilities()[rows, labels])
        assert METRICS["nll"](draw) == pytest.approx(losses.mean())


def test_draws_do_not_depend_on_how_many_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(iv.draw_weights(37, 100, 5)))
    monkeypatch.setattr(iv, "_AT_ONCE", 37 * 7)
    np.testing.assert_array_equal(np.concatenate(list(iv.draw_weights(37, 100, 5))), whole)
    assert not np.array_equal(np.concatenate(list(iv.draw_weights(37, 100, 6))), whole)


def test_showing_every_face_twice_does_not_narrow_the_interval() -> None:
    p = some_predictions(400, groups=np.arange(400))
    twice = {key: np.repeat(getattr(p, key), 2, axis=0) for key in ("logits", "labels", "groups", "twin_in_train")}
    doubled = replace(p, **twice, rows=np.arange(800))
    assert score(doubled).ci95["accuracy"] == pytest.approx(score(p).ci95["accuracy"])
    alone = score(replace(doubled, groups=np.arange(800))).ci95["accuracy"]
    assert np.diff(alone) < 0.8 * np.diff(score(p).ci95["accuracy"]), "rows drawn alone would claim more than is known"


def test_intervals_cover_the_truth_about_95_times_in_100() -> None:
    """200 test parts of 700 rows from a known population; the truth is the score of the population itself."""
    rng = np.random.default_rng(0)
    cells = population()
    truth = {"accuracy": np.trace(cells), "macro_f1": macro_f1_of(cells)}
    parts, held = 200, {"accuracy": 0, "macro_f1": 0}
    for part in range(parts):
        statistics = np.zeros((700, WIDTH))
        statistics[np.arange(700), rng.choice(CELLS, 700, p=cells.ravel())] = 1
        found = iv.intervals(statistics, np.arange(700), n_boot=300, seed=part)
        for metric in held:
            low, high = found[metric]
            held[metric] += low <= truth[metric] <= high
    for metric, times in held.items():
        assert 0.90 <= times / parts <= 0.985, metric


def test_a_paired_difference_is_that_of_the_scores_and_narrower_than_two_intervals() -> None:
    a, b = some_predictions(900, 1, skill=2.2), some_predictions(900, 2, skill=2.0)
    b = replace(b, logits=0.3 * b.logits + a.logits)  # they err on much the same rows
    one, other = score(a), score(b)
    for metric in ("accuracy", "macro_f1", "nll"):
        difference, low, high = iv.paired_difference(a, b, metric)
        assert difference == pytest.approx(getattr(one, metric) - getattr(other, metric))
        assert low < difference < high
        assert high - low < np.diff(one.ci95[metric])[0]
        back = iv.paired_difference(b, a, metric)
        assert back == pytest.approx((-difference, -high, -low))
    assert iv.paired_difference(a, a) == (0, 0, 0)


def test_a_paired_difference_draws_both_from_the_same_rows() -> None:
    a, b = some_predictions(150, 1), some_predictions(150, 2)
    _, low, high = iv.paired_difference(a, b, "accuracy", n_boot=500, seed=8)
    gain = (a.logits.argmax(1) == a.labels).astype(float) - (b.logits.argmax(1) == b.labels)
    names = np.unique(a.groups)
    sizes = np.array([(a.groups == g).sum() for g in names])
    gains = np.array([gain[a.groups == g].sum() for g in names])
    weights = np.concatenate(list(iv.draw_weights(len(names), 500, 8)))
    assert [low, high] == pytest.approx(np.quantile(weights @ gains / (weights @ sizes), [0.025, 0.975]))


def test_recipes_are_compared_over_draws_of_groups_and_of_seeds() -> None:
    """Against drawing rows and seeds one by one with scikit-learn's macro-F1."""
    a = [some_predictions(150, k, skill=2.3) for k in (1, 2, 3)]
    b = [some_predictions(150, k, skill=1.8) for k in (4, 5, 6)]
    a, b = ([replace(p, labels=a[0].labels, groups=a[0].groups) for p in side] for side in (a, b))
    a, b = ([replace(p, protocol=replace(p.protocol, seed=k)) for k, p in enumerate(side)] for side in (a, b))
    found = iv.paired_difference(a, b, n_boot=200, seed=4)

    def f1(p, rows) -> float:
        labels, said = p.labels[rows], p.logits.argmax(1)[rows]
        return sk.f1_score(labels, said, labels=np.unique(labels), average="macro", zero_division=0)

    names = np.unique(a[0].groups)
    weights = np.concatenate(list(iv.draw_weights(len(names), 200, 4)))
    seeds = np.random.default_rng((4, 1)).integers(3, size=(200, 3))
    draws = []
    for counts, chosen in zip(weights, seeds, strict=True):
        rows = np.concatenate(
            [[*np.flatnonzero(a[0].groups == g)] * int(times) for g, times in zip(names, counts, strict=True)]
        ).astype(int)
        draws.append(np.mean([f1(a[k], rows) for k in chosen]) - np.mean([f1(b[k], rows) for k in chosen]))
    whole = np.arange(150)
    mean = np.mean([f1(p, whole) for p in a]) - np.mean([f1(p, whole) for p in b])
    assert found == pytest.approx((mean, *np.quantile(draws, [0.025, 0.975])))


def test_seeds_that_differ_widen_the_interval_and_one_seed_is_two_networks() -> None:
    base = some_predictions(400, 1)
    better = replace(base, logits=base.logits + 1.5 * np.eye(7)[base.labels] * (np.arange(400) % 4 == 0)[:, None])
    same, a = [replace(base, protocol=replace(base.protocol, seed=k)) for k in range(3)], []
    for k, p in enumerate((base, better, better)):
        a.append(replace(p, protocol=replace(p.protocol, seed=k)))
    low, high = iv.paired_difference(a, same, "accuracy")[1:]
    alike = [replace(better, protocol=replace(p.protocol)) for p in same]
    inner = iv.paired_difference(alike, same, "accuracy")[1:]
    assert low == 0 < inner[0], "a draw may hold the seed without a gain three times"
    assert high - low > inner[1] - inner[0]
    assert iv.paired_difference([better], [base]) == iv.paired_difference(better, base)


def test_recipes_need_the_same_seeds_on_both_sides() -> None:
    a = [replace(p, protocol=replace(p.protocol, seed=k)) for k, p in enumerate([some_predictions(90)] * 2)]
    with pytest.raises(UsageError, match="found 2 and 1"):
        iv.paired_difference(a, a[:1])
    with pytest.raises(UsageError, match="found 0 and 0"):
        iv.paired_difference([], [])
    with pytest.raises(SplitMisuse, match=r"seeds \[0, 1\] and the other \[1, 0\]"):
        iv.paired_difference(a, a[::-1])
    with pytest.raises(SplitMisuse, match="same rows"):
        iv.paired_difference(a, [a[0], replace(some_predictions(80, 2), protocol=a[1].protocol)])


def test_a_paired_difference_of_other_rows_or_an_unknown_metric_is_refused() -> None:
    a = some_predictions(100, 1)
    with pytest.raises(SplitMisuse, match=r"same rows.*member1 \(100 rows\) and member2 \(90 rows\)"):
        iv.paired_difference(a, some_predictions(90, 2))
    with pytest.raises(SplitMisuse, match="same labels"):
        iv.paired_difference(a, replace(a, labels=np.zeros(100)))
    with pytest.raises(UsageError, match="Did you mean 'macro_f1'"):
        iv.paired_difference(a, a, "macro-f1")


def test_draws_of_counts_are_those_of_the_bootstrap() -> None:
    p = some_predictions(400, 3)
    whole = iv.bootstrap(row_statistics(p.labels, p.logits), p.groups, n_boot=50, seed=4)
    counts = iv.count_draws(p, n_boot=50, seed=4)
    np.testing.assert_array_equal(counts[:, :CELLS], whole[:, :CELLS])
    assert not counts[:, CELLS:].any()
    for metric in ("accuracy", "macro_f1", "disgust_f1"):
        np.testing.assert_array_equal(METRICS[metric](counts), METRICS[metric](whole))
