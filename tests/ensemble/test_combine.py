"""Fusion of stored predictions against counting by hand, and members that do not belong together."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ensemble_fer.ensemble import combine, diversity
from ensemble_fer.errors import SplitMisuse, UsageError
from ensemble_fer.evaluate.metrics import score
from ensemble_fer.types import Predictions, Protocol, Role
from tests.evaluate.examples import some_predictions


def _three() -> list[Predictions]:
    return [some_predictions(200, seed, skill=1.5) for seed in (1, 2, 3)]


def test_mean_is_the_mean_of_softmaxes() -> None:
    members = _three()
    made = combine(members, source="abc")
    for row in range(200):
        each = [np.exp(p.logits[row].astype(float)) / np.exp(p.logits[row].astype(float)).sum() for p in members]
        np.testing.assert_allclose(made.probabilities()[row], sum(each) / 3, rtol=1e-5)
        np.testing.assert_allclose(made.logits[row], np.log(sum(each) / 3), rtol=1e-5, atol=1e-6)
    assert made.logits.dtype == np.float32
    assert made.source == "abc"
    assert combine(members).source == "mean(member1, member2, member3)"
    for key in ("labels", "rows", "groups", "twin_in_train"):
        np.testing.assert_array_equal(getattr(made, key), getattr(members[0], key))
    assert score(made, n_boot=2).accuracy > max(score(p, n_boot=2).accuracy for p in members)


def test_mean_logits_is_the_mean_of_logits() -> None:
    members = _three()
    expected = sum(p.logits.astype(float) for p in members) / 3
    np.testing.assert_allclose(combine(members, "mean_logits").logits, expected, rtol=1e-6, atol=1e-7)


def test_most_votes_win_and_ties_go_by_mean_probability() -> None:
    members = [*_three(), some_predictions(200, 4)]
    made = combine(members, "vote").logits.argmax(1)
    mean = np.mean([p.probabilities() for p in members], axis=0)
    ties = 0
    for row in range(200):
        votes = Counter(int(p.logits[row].argmax()) for p in members)
        most = [c for c, n in votes.items() if n == max(votes.values())]
        ties += len(most) > 1
        assert made[row] == max(most, key=lambda c: mean[row, c])
    assert ties > 20, "the test must have seen ties"


def test_a_sure_minority_does_not_outvote() -> None:
    sure, unsure = np.eye(7)[2] * 50, np.eye(7)[5] * 0.01
    logits = [np.tile(z, (3, 1)) for z in (sure, unsure, unsure)]
    members = [some_predictions(3, i, logits=z) for i, z in enumerate(logits)]
    assert (combine(members, "vote").logits.argmax(1) == 5).all()
    assert (combine(members, "mean").logits.argmax(1) == 2).all()


def test_the_stamp_names_all_that_went_in() -> None:
    base = Protocol("fer2013", "official", "test", "ros", seed=0, looks=2, rows_left_out=0)
    stamps = [
        base,
        replace(base, resampling="smote", seed=1, looks=5, leaks=("before the split",)),
        replace(base, resampling="none", pretraining="faces", rows_left_out=3, leaks=("before the split", "test")),
    ]
    members = [replace(p, protocol=s) for p, s in zip(_three(), stamps, strict=True)]
    made = combine(members).protocol
    assert made.resampling == "ros + smote + none"
    assert made.seed is None
    assert made.looks == 5
    assert made.rows_left_out == 3
    assert made.pretraining == "none + faces"
    assert made.leaks == ("before the split", "test")
    assert made.resampled_where == base.resampled_where
    assert combine(_three()).protocol.seed == 0


def _stamped(p: Predictions, **changes) -> Predictions:
    return replace(p, protocol=replace(p.protocol, **changes))


WRONG = {
    "data": (lambda p: _stamped(p, data="synthetic"), SplitMisuse, "data: 'fer2013' and 'synthetic'"),
    "split": (lambda p: _stamped(p, split="official-clean"), SplitMisuse, "split: 'official' and 'official-clean'"),
    "role": (lambda p: replace(p, role=Role.SELECT), SplitMisuse, "role: 'test' and 'select'"),
    "rows": (lambda p: replace(p, rows=p.rows + 1), SplitMisuse, "differ in rows"),
    "order": (lambda p: replace(p, rows=p.rows[::-1]), SplitMisuse, "differ in rows"),
    "fewer": (lambda p: some_predictions(199, 2), SplitMisuse, r"rows \(200 and 199 rows\)"),
    "labels": (lambda p: replace(p, labels=(p.labels + 1) % 7), SplitMisuse, "differ in labels"),
    "twins": (lambda p: replace(p, groups=p.rows), SplitMisuse, "differ in groups"),
    "tta": (lambda p: _stamped(p, tta="flip"), UsageError, "augmentation: 'none' and 'flip'"),
    "same": (lambda p: replace(p, source="member1"), UsageError, "member1 given more than once"),
}


@pytest.mark.parametrize("case", WRONG)
def test_members_that_do_not_belong_together_are_refused_by_name(case: str) -> None:
    change, error, message = WRONG[case]
    first, second, _ = _three()
    for together in (combine, diversity):
        with pytest.raises(error, match=message) as caught:
            together([first, change(second)])
        assert "member1" in str(caught.value)


def test_no_member_and_an_unknown_rule_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one"):
        combine([])
    with pytest.raises(UsageError, match="Did you mean 'mean"):
        combine(_three(), "means")


def test_diversity_is_counted() -> None:
    members = _three()
    found = diversity(members)
    said = [p.logits.argmax(1) for p in members]
    truth = members[0].labels
    assert [(pair["a"], pair["b"]) for pair in found["pairs"]] == [
        ("member1", "member2"),
        ("member1", "member3"),
        ("member2", "member3"),
    ]
    for pair, (i, j) in zip(found["pairs"], [(0, 1), (0, 2), (1, 2)], strict=True):
        both = [a != t and b != t for a, b, t in zip(said[i], said[j], truth, strict=True)]
        assert pair["disagreement"] == pytest.approx(sum(a != b for a, b in zip(said[i], said[j], strict=True)) / 200)
        assert pair["double_fault"] == pytest.approx(sum(both) / 200)
    assert found["disagreement"] == pytest.approx(np.mean([pair["disagreement"] for pair in found["pairs"]]))
    right = [any(s[row] == truth[row] for s in said) for row in range(200)]
    assert found["oracle"] == pytest.approx(sum(right) / 200)
    alone = diversity(members[:1])
    assert alone["pairs"] == []
    assert alone["disagreement"] is None
    assert alone["oracle"] == pytest.approx((said[0] == truth).mean())
