"""Fitted rules and temperatures: against plain optimization, on drawn members whose truth is known, and honestly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from ensemble_fer.ensemble import (
    RULES,
    Combination,
    combination_from,
    combine,
    fit,
    greedy,
    logit_adjustment,
    plain,
    stacking,
    weights,
)
from ensemble_fer.ensemble.fitting import _folds
from ensemble_fer.errors import SplitMisuse, UsageError
from ensemble_fer.evaluate.temperature import calibration_scores, fit_temperature
from ensemble_fer.types import Predictions, Role, softmax
from tests.evaluate.examples import some_predictions

FITTED = sorted(rule for rule in RULES if RULES[rule].fit is not None)


def drawn(rows: int, skills: tuple[float, ...], seed: int = 0, sure: float = 1.0) -> list[Predictions]:
    """Members that know the label with noise: the larger the skill, the more often they are right."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(7, rows, p=[0.15, 0.05, 0.15, 0.25, 0.15, 0.1, 0.15])
    first = some_predictions(rows, 0, logits=np.zeros((rows, 7)))
    return [
        replace(
            first,
            logits=(sure * (skill * np.eye(7)[labels] + rng.normal(size=(rows, 7)))).astype(np.float32),
            labels=labels.astype(np.uint8),
            groups=np.arange(rows, dtype=np.int32),
            twin_in_train=np.zeros(rows, bool),
            role=Role.SELECT,
            source=f"m{i}",
            protocol=replace(first.protocol, role="select"),
        )
        for i, skill in enumerate(skills)
    ]


def logits_of(members: list[Predictions]) -> np.ndarray:
    return np.stack([p.logits for p in members]).astype(np.float64)


def test_weights_are_those_of_a_general_optimizer() -> None:
    members = drawn(600, (1.0, 0.8, 0.2))
    logits, labels = logits_of(members), members[0].labels
    found = weights.fit(logits, labels)["weights"]
    likelihood = softmax(logits)[:, np.arange(600), labels]

    def nll(w: np.ndarray) -> float:
        return float(-np.log(w @ likelihood).mean())

    ideal = minimize(
        nll, np.full(3, 1 / 3), bounds=[(0, 1)] * 3, constraints={"type": "eq", "fun": lambda w: w.sum() - 1}
    )
    assert nll(found) <= ideal.fun + 1e-5
    np.testing.assert_allclose(found, ideal.x, atol=0.01)
    assert found[0] > found[1] >= found[2]


def test_a_member_that_knows_nothing_gets_no_weight() -> None:
    members = drawn(800, (3.0, 3.0))
    guess = replace(
        members[0], logits=np.random.default_rng(9).normal(size=(800, 7)).astype(np.float32) * 8, source="g"
    )
    found = fit([*members, guess], "weights").combination
    assert found.weights[2] == 0
    assert found.weights.sum() == pytest.approx(1)


def test_logit_adjustment_undoes_a_prior_and_leaves_a_balanced_set_alone() -> None:
    # Calibrated members of a set with one rare class: the posterior of noise of unit variance.
    rng = np.random.default_rng(0)
    shares = np.array([0.18, 0.02, 0.16, 0.16, 0.16, 0.16, 0.16])
    labels = rng.choice(7, 20_000, p=shares).astype(np.uint8)
    logits = 1.5 * (1.5 * np.eye(7)[labels] + rng.normal(size=(20_000, 7)))[None] + np.log(shares)
    found = logit_adjustment.fit(logits, labels)["intercept"]
    rarity = -np.log(np.bincount(labels, minlength=7) / 20_000)
    strength = found / rarity
    np.testing.assert_allclose(strength, strength[0], rtol=1e-3)
    assert 0.2 <= strength[0] <= 1.0

    def macro(scores: np.ndarray) -> float:
        return float(f1_score(labels, scores.argmax(1), average="macro"))

    plain_score, adjusted = macro(logits[0]), macro(np.log(softmax(logits[0])) + found)
    assert adjusted > plain_score + 0.005
    tried = [macro(np.log(softmax(logits[0])) + s * rarity) for s in logit_adjustment.STRENGTHS]
    assert adjusted == pytest.approx(max(tried), abs=2e-4)
    # What prefers them by 1.2 already gets back to the same.
    back = logit_adjustment.fit(logits + 1.2 * rarity, labels)["intercept"] / rarity
    assert back[0] < 0
    assert back[0] == pytest.approx(strength[0] - 1.2, abs=0.01)
    # Of classes of equal number it takes the same from each, so nothing changes.
    even = np.tile(np.arange(7, dtype=np.uint8), 300)
    said = (np.eye(7)[even] + rng.normal(size=(2_100, 7)))[None]
    np.testing.assert_allclose(np.ptp(logit_adjustment.fit(said, even)["intercept"]), 0, atol=1e-12)
    # A class without rows is no error.
    assert np.isfinite(logit_adjustment.fit(said[:, even != 1], even[even != 1])["intercept"]).all()


def test_greedy_reaches_the_best_single_member_and_more() -> None:
    members = drawn(700, (1.6, 1.5, 1.4, 0.1))
    logits, labels = logits_of(members), members[0].labels
    found = greedy.fit(logits, labels)["weights"]
    pooled = np.tensordot(found, softmax(logits), 1).argmax(1)
    singles = [f1_score(labels, p.logits.argmax(1), average="macro") for p in members]
    assert f1_score(labels, pooled, average="macro") > max(singles)
    assert found[3] == found.min()
    assert greedy.fit(logits, labels, 0)["weights"].tolist() == found.tolist(), "the same seed, the same choice"


def test_one_bag_of_greedy_against_a_naive_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greedy, "BAGS", 1)
    monkeypatch.setattr(greedy, "ROUNDS", 6)
    members = drawn(300, (1.2, 1.1, 1.0), seed=3)
    rng = np.random.default_rng((0, 3))
    order, rows = rng.permutation(3), rng.integers(300, size=300)
    assert sorted(order) == [0, 1, 2]
    labels, p = members[0].labels[rows], softmax(logits_of(members))[:, rows]

    def score(chosen: list[int]) -> tuple[float, float]:
        pool = sum(p[j] for j in chosen) / len(chosen)
        f1 = f1_score(labels, pool.argmax(1), average="macro", labels=range(7), zero_division=0)
        return round(float(f1), 10), float(np.log(pool[np.arange(300), labels]).mean())

    chosen: list[int] = []
    tried = []
    for _ in range(6):
        chosen = max(([*chosen, j] for j in range(3)), key=score)
        tried.append(chosen)
    best = max(tried, key=score)
    found = greedy.fit(logits_of(members), members[0].labels)["weights"]
    np.testing.assert_allclose(found, np.bincount(best, minlength=3) / len(best))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("guessing", [1, 2])
def test_greedy_does_not_choose_who_guesses(seed: int, guessing: int) -> None:
    """However few members there are, and in whichever order."""
    skills = (3.0, *[0.0] * guessing)
    for members in (drawn(400, skills, seed=seed), drawn(400, skills[::-1], seed=seed)):
        found = greedy.fit(logits_of(members), members[0].labels, seed)["weights"]
        strong = int(np.argmax([(p.logits.argmax(1) == p.labels).mean() for p in members]))
        assert found[strong] > 0.7, found


def test_macro_f1_of_each_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels, said = rng.integers(0, 6, 50).astype(np.uint8), rng.integers(0, 7, (4, 50))
    wanted = [f1_score(labels, row, average="macro", labels=range(7), zero_division=0) for row in said]
    np.testing.assert_allclose(greedy.macro_f1_of_each(said, labels), wanted)


def test_stacking_is_scikit_learns_regression_and_needs_every_class() -> None:
    members = drawn(500, (1.5, 1.0))
    logits, labels = logits_of(members), members[0].labels
    model = LogisticRegression(C=stacking.STRENGTH, max_iter=2000).fit(stacking.features(logits), labels)
    by = replace(plain("mean", 2), rule="stacking", **stacking.fit(logits, labels))
    np.testing.assert_allclose(softmax(by(logits)), model.predict_proba(stacking.features(logits)), atol=1e-5)
    with pytest.raises(UsageError, match="there is no disgust"):
        stacking.fit(logits[:, labels != 1], labels[labels != 1])


def test_stacking_learns_that_a_member_calls_things_by_other_names() -> None:
    (member,) = drawn(2_000, (3.0,))
    swapped = replace(member, logits=member.logits[:, [1, 0, 2, 3, 4, 5, 6]])
    before = (swapped.logits.argmax(1) == member.labels).mean()
    done = fit([swapped], "stacking")
    assert (done.predictions.logits.argmax(1) == member.labels).mean() > before + 0.1


@pytest.mark.parametrize("true", [0.3, 1.0, 4.0])
def test_temperature_is_found_again(true: float) -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4_000, 7)) * 2
    labels = np.array([rng.choice(7, p=row) for row in softmax(z)], np.uint8)
    found = fit_temperature(z * true, labels)
    assert found == pytest.approx(true, rel=0.08)
    grid = [calibration_scores(z * true / t, labels)["nll"] for t in found * np.array([0.97, 1.0, 1.03])]
    assert grid[1] == min(grid)


def test_temperatures_make_members_and_ensemble_honest_about_how_sure_they_are() -> None:
    members = drawn(1_500, (2.0, 1.5, 1.0), sure=4.0)
    done = fit(members, calibrate="both")
    assert (done.combination.temperatures > 2).all()
    for name, found in {"ensemble": done.calibration["ensemble"], **done.calibration["members"]}.items():
        assert found["after"]["nll"] < found["before"]["nll"] + 1e-6, name
        assert found["after"]["ece"] < 3 * found["after"]["ece_null"], name
    plain_ece = fit(members).calibration["ensemble"]["before"]["ece"]
    assert done.calibration["ensemble"]["after"]["ece"] < plain_ece / 2
    assert "temperatures of members, temperature of the ensemble" in done.predictions.protocol.fitted


def test_the_ensembles_temperature_changes_no_label() -> None:
    members = drawn(400, (1.0, 0.8))
    one, other = fit(members), fit(members, calibrate="ensemble")
    np.testing.assert_array_equal(one.predictions.logits.argmax(1), other.predictions.logits.argmax(1))


@pytest.mark.parametrize("rule", FITTED)
def test_rows_with_a_twin_in_training_teach_nothing(rule: str) -> None:
    """Members that remember their training rows are perfect there; the fit is that of the other rows alone."""
    members = drawn(600, (1.5, 1.0), seed=2)
    known = np.zeros(600, bool)
    known[::3] = True
    remembered = np.where(known[:, None], 9 * np.eye(7)[members[1].labels], members[1].logits).astype(np.float32)
    told = [replace(p, twin_in_train=known) for p in (members[0], replace(members[1], logits=remembered))]
    alone = [
        replace(p, **{k: getattr(p, k)[~known] for k in ("logits", "labels", "rows", "groups", "twin_in_train")})
        for p in told
    ]
    one, other = fit(told, rule, calibrate="both"), fit(alone, rule, calibrate="both")
    assert one.rows == other.rows == 400
    for key, value in one.combination.to_dict().items():
        np.testing.assert_array_equal(value, other.combination.to_dict()[key]) if key != "rule" else None
    np.testing.assert_array_equal(one.predictions.logits[~known], other.predictions.logits)


@pytest.mark.parametrize("rule", FITTED)
def test_optimism_is_what_fitting_flatters_itself_by(rule: str) -> None:
    """Of members that know nothing, all that a fit gains on its own rows is gone on rows it has not seen."""
    members = drawn(300, (0.0,) * 6, seed=5)
    done = fit(members, rule)
    gained = done.optimism["macro_f1"]
    assert gained["optimism"] == pytest.approx(gained["fitted"] - gained["cross_fitted"])
    assert gained["optimism"] > 0.05 if rule == "stacking" else abs(gained["optimism"]) < 0.1, "many numbers, or a few"
    fresh = combine([replace(p, source=p.source) for p in drawn(20_000, (0.0,) * 6, seed=6)], done.combination)
    assert (fresh.logits.argmax(1) == fresh.labels).mean() < 0.3


@pytest.mark.parametrize("rule", FITTED)
def test_what_is_kept_of_a_row_comes_from_a_fit_without_it_and_its_twins(rule: str) -> None:
    groups = np.repeat(np.arange(200, dtype=np.int32), 2)
    members = [replace(p, groups=groups) for p in drawn(400, (1.0, 0.8, 0.5), seed=1)]
    done = fit(members, rule)
    seen = np.zeros(400, int)
    for others, held in _folds(members[0].labels, groups, 0):
        assert not np.intersect1d(groups[others], groups[held]).size
        keys = ("logits", "labels", "rows", "groups", "twin_in_train")
        without = fit([replace(p, **{k: getattr(p, k)[others] for k in keys}) for p in members], rule).combination
        np.testing.assert_array_equal(done.predictions.logits[held], without(logits_of(members)[:, held]))
        seen[held] += 1
    assert (seen == 1).all()
    assert not np.array_equal(done.combination(logits_of(members)), done.predictions.logits)


def test_nothing_is_fitted_on_the_test_part_or_on_few_rows() -> None:
    members = drawn(300, (1.0, 0.5))
    test = [replace(p, role=Role.TEST, protocol=replace(p.protocol, role="test")) for p in members]
    for rule in RULES:
        with pytest.raises(SplitMisuse, match="fitted on the select part; these are predictions of the test part"):
            fit(test, rule)
    few = drawn(99, (1.0, 0.5))
    with pytest.raises(UsageError, match="has 99 rows without a twin in training; expected 100"):
        fit(few, "weights")
    with pytest.raises(UsageError, match="expected 100"):
        fit(few, calibrate="members")
    assert fit(few).optimism == {}
    assert fit(few).rows == 0
    with pytest.raises(UsageError, match=r"unknown rule of fusion 'gredy'.*greedy"):
        fit(members, "gredy")
    with pytest.raises(UsageError, match="has to be fitted"):
        combine(members, "stacking")


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_combination_goes_through_json(rule: str) -> None:
    members = drawn(300, (1.0, 0.5))
    by = fit(members, rule, calibrate="both").combination
    again = combination_from(by.to_dict())
    np.testing.assert_array_equal(by(logits_of(members)), again(logits_of(members)))
    assert again.fitted == by.fitted


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"rule": "maen"},
        {"weights": [0.5, 0.6]},
        {"weights": [1.5, -0.5]},
        {"temperatures": [1.0]},
        {"temperatures": [1.0, 0.0]},
        {"temperature": float("nan")},
        {"rule": "stacking"},
        {"rule": "logit_adjustment"},
        {"intercept": [0.0] * 7},
        {"rule": "logit_adjustment", "intercept": [0.0] * 6},
        {"weights": "even"},
    ],
)
def test_what_is_no_combination_is_refused(wrong: dict) -> None:
    good = plain("mean", 2).to_dict()
    with pytest.raises(UsageError):
        combination_from({**good, **wrong} if wrong else {})
    assert isinstance(combination_from(good), Combination)
