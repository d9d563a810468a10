"""What every rule of fusion keeps to, whichever it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble_fer.ensemble import RULES, Combination, combine
from ensemble_fer.types import Predictions
from tests.evaluate.examples import some_predictions

every_rule = pytest.mark.parametrize("rule", sorted(RULES))


def even(rule: str, members: int) -> Combination:
    """A combination by this rule that treats members and classes alike, fitted or not."""
    weights, more = np.full(members, 1 / members), {}
    if rule == "stacking":
        more = {"coefficients": np.tile(np.eye(7) / members, members), "intercept": np.zeros(7)}
    elif rule == "logit_adjustment":
        more = {"intercept": np.zeros(7)}
    return Combination(rule, weights, np.ones(members), **more)


def combined(members: list[Predictions], rule: str) -> Predictions:
    return combine(members, even(rule, len(members)))


def _members(seed: int, members: int, rows: int, scale: float = 2.0) -> list[Predictions]:
    rng = np.random.default_rng(seed)
    return [
        some_predictions(rows, i, logits=rng.normal(size=(rows, 7)) * scale, source=f"m{i}") for i in range(members)
    ]


@every_rule
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), members=st.integers(1, 6), rows=st.integers(1, 40), scale=st.floats(0.01, 1e4))
def test_the_outcome_is_predictions_whatever_goes_in(rule: str, seed: int, members: int, rows: int, scale: float):
    made = combined(_members(seed, members, rows, scale), rule)
    assert made.logits.dtype == np.float32
    assert made.logits.shape == (rows, 7)
    assert np.isfinite(made.logits).all()
    np.testing.assert_allclose(made.probabilities().sum(axis=1), 1, rtol=1e-6)


@every_rule
def test_one_member_alone_keeps_its_labels(rule: str) -> None:
    (p,) = _members(0, 1, 300)
    np.testing.assert_array_equal(combined([p], rule).logits.argmax(1), p.logits.argmax(1))


@every_rule
def test_what_all_members_say_the_ensemble_says(rule: str) -> None:
    members = _members(1, 3, 500, scale=1.0)
    said = np.stack([p.logits.argmax(1) for p in members])
    # Agreement of the argmax does not bind a mean of probabilities in general; full agreement of order does.
    same = [some_predictions(500, i, logits=(i + 1) * members[0].logits, source=f"s{i}") for i in range(3)]
    np.testing.assert_array_equal(combined(same, rule).logits.argmax(1), said[0])
    if rule == "vote":
        agreed = (said == said[0]).all(axis=0)
        np.testing.assert_array_equal(combined(members, rule).logits.argmax(1)[agreed], said[0][agreed])


@every_rule
def test_the_order_of_members_does_not_matter(rule: str) -> None:
    members = _members(2, 5, 200)
    one, other = combined(members, rule), combined(members[::-1], rule)
    np.testing.assert_allclose(one.probabilities(), other.probabilities(), rtol=1e-5)


@every_rule
def test_the_order_of_classes_does_not_matter(rule: str) -> None:
    members = _members(3, 4, 200)
    turned = [some_predictions(200, i, logits=p.logits[:, ::-1], source=p.source) for i, p in enumerate(members)]
    np.testing.assert_allclose(combined(turned, rule).logits[:, ::-1], combined(members, rule).logits, rtol=1e-5)


@every_rule
def test_a_constant_added_to_the_logits_of_a_row_changes_nothing(rule: str) -> None:
    members = _members(4, 3, 200)
    moved = [some_predictions(200, i, logits=p.logits + 8 * i, source=p.source) for i, p in enumerate(members)]
    np.testing.assert_allclose(
        combined(moved, rule).probabilities(), combined(members, rule).probabilities(), rtol=1e-4, atol=1e-7
    )


@every_rule
def test_rows_do_not_influence_each_other(rule: str) -> None:
    members = _members(5, 3, 100)
    first = [some_predictions(1, i, logits=p.logits[:1], source=p.source) for i, p in enumerate(members)]
    np.testing.assert_allclose(combined(first, rule).logits[0], combined(members, rule).logits[0], rtol=1e-6)


@every_rule
def test_the_same_again_is_the_same_and_members_stay_as_they_were(rule: str) -> None:
    members = _members(6, 3, 100)
    before = [p.logits.copy() for p in members]
    np.testing.assert_array_equal(combined(members, rule).logits, combined(members, rule).logits)
    for p, logits in zip(members, before, strict=True):
        np.testing.assert_array_equal(p.logits, logits)
