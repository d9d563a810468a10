"""Two rows of the leaderboard beside each other: against plain formulas, and without a look at the test part."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import f1_score, log_loss

from ensemble_fer.comparing import compare
from ensemble_fer.data.importing import store_faces
from ensemble_fer.errors import MissingError, SplitMisuse, UsageError
from ensemble_fer.evaluate.pairs import compare_predictions, mcnemar
from ensemble_fer.models import MODELS
from ensemble_fer.report import evaluate
from ensemble_fer.store import Store
from ensemble_fer.types import Role
from tests.cli.running import run
from tests.evaluate.examples import some_predictions
from tests.export import making
from tests.export.making import untrained_run


@pytest.fixture
def pair(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setitem(MODELS, "tiny", making.tiny)
    for seed, name in enumerate(("first", "second")):
        untrained_run(store, name, seed)
    return store


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 0), (3, 9), (40, 40), (10, 2)])
def test_mcnemar_is_the_sum_of_binomial_probabilities(a: int, b: int) -> None:
    total = a + b
    # Twice the smaller tail, at most 1: the distribution is symmetric.
    tail = sum(binom.pmf(k, total, 0.5) for k in range(min(a, b) + 1)) if total else 1.0
    assert mcnemar(a, b) == {"a_only": a, "b_only": b, "p": pytest.approx(min(1.0, 2 * tail))}


def test_differences_are_of_the_scores_and_their_intervals_hold_them() -> None:
    a, b = some_predictions(900, 0, skill=2.5), some_predictions(900, 1, skill=1.5)
    found = compare_predictions(a, b, n_boot=400)
    assert found["rows"] == 900
    for scores, rows in ((found["scores"], np.ones(900, bool)), (found["twin_free"], ~a.twin_in_train)):
        wanted = {
            "accuracy": [(p.logits.argmax(1) == p.labels)[rows].mean() for p in (a, b)],
            "macro_f1": [f1_score(p.labels[rows], p.logits.argmax(1)[rows], average="macro") for p in (a, b)],
            "nll": [log_loss(p.labels[rows], p.probabilities()[rows], labels=range(7)) for p in (a, b)],
        }
        for metric, (one, other) in wanted.items():
            assert scores[metric]["a"] == pytest.approx(one)
            assert scores[metric]["b"] == pytest.approx(other)
            assert scores[metric]["difference"] == pytest.approx(one - other)
            low, high = scores[metric]["ci95"]
            assert low < one - other < high
            assert (low > 0) == (metric != "nll"), "with such a difference chance cannot do it"
    assert found["twin_free"]["rows"] == (~a.twin_in_train).sum()
    right = [p.logits.argmax(1) == p.labels for p in (a, b)]
    assert found["mcnemar"] == mcnemar(int((right[0] > right[1]).sum()), int((right[1] > right[0]).sum()))
    assert found["mcnemar"]["p"] < 1e-6


def test_one_that_differs_by_nothing_is_undecided() -> None:
    a = some_predictions(600, 0)
    found = compare_predictions(a, replace(a, source="same"), n_boot=200)
    assert found["scores"]["macro_f1"] == {**found["scores"]["macro_f1"], "difference": 0.0, "ci95": [0.0, 0.0]}
    assert found["mcnemar"]["p"] == 1.0


def test_other_rows_or_parts_do_not_compare() -> None:
    a, b = some_predictions(300, 0), some_predictions(300, 1)
    with pytest.raises(SplitMisuse, match="same rows on both sides"):
        compare_predictions(a, replace(b, rows=b.rows + 1))
    select = replace(b, role=Role.SELECT, protocol=replace(b.protocol, role="select"))
    with pytest.raises(SplitMisuse, match="member0 was scored on the test part and member1 on the select part"):
        compare_predictions(a, select)


def test_a_comparison_never_looks_at_the_test_part(pair: Store) -> None:
    assert compare(pair, "first", "second")["part"] == "select"
    with pytest.raises(MissingError, match=r"not evaluated on the test part.*: first and second;.*evaluate second"):
        compare(pair, "first", "second", part="test")
    evaluate(pair, "first", quiet=True)
    assert compare(pair, "first", "second")["part"] == "select"
    with pytest.raises(MissingError, match=r"augmentation: second;"):
        compare(pair, "first", "second", part="test")
    evaluate(pair, "second", quiet=True)
    looks = (pair.root / "looks.jsonl").read_bytes()
    found = compare(pair, "first", "second")
    assert (found["part"], found["rows"]) == ("test", 15)
    assert compare(pair, "first", "second", part="select")["part"] == "select"
    assert (pair.root / "looks.jsonl").read_bytes() == looks
    with pytest.raises(MissingError, match="this augmentation"):
        compare(pair, "first", "second", part="test", tta="flip")
    with pytest.raises(UsageError, match=r"unknown part 'train'"):
        compare(pair, "first", "second", part="train")
    with pytest.raises(UsageError, match=r"unknown part 'tset'.*test"):
        compare(pair, "first", "second", part="tset")


def test_one_network_with_two_augmentations(pair: Store) -> None:
    found = compare(pair, "first", "first", part="select", tta=("flip", "none"))
    assert (found["a"]["tta"], found["b"]["tta"]) == ("flip", "none")
    other = compare(pair, "first", "first", part="select", tta=("none", "flip"))
    assert found["scores"]["nll"]["difference"] == -other["scores"]["nll"]["difference"] != 0
    done = run("compare", "first", "first", "--tta", "flip", "--tta", "none", "--store", pair.root)
    assert done.exit_code == 0, done.output
    assert "first (flip) minus first (none), points" in done.stdout
    done = run("compare", "first", "first", *["--tta", "flip"] * 3, "--store", pair.root)
    assert done.exit_code == 2
    assert "3 augmentations for two sides" in done.stderr


def test_runs_of_other_splits_do_not_compare(pair: Store) -> None:
    untrained_run(pair, "swapped", 7, split="official-swapped")
    store_faces(pair, making.face_set(), {})
    with pytest.raises(SplitMisuse, match="same rows"):
        compare(pair, "first", "swapped")


def test_the_command_says_points_and_stamps(pair: Store) -> None:
    done = run("compare", "first", "second", "--store", pair.root)
    assert done.exit_code == 0, done.output
    assert "first minus second, points" in done.stdout
    assert re.search(r"p = \S+ by McNemar's exact test", done.stdout)
    assert done.stdout.count("· select part ·") == 2
    found = json.loads(run("compare", "first", "second", "--json", "--store", pair.root).stdout)
    assert found["a"]["name"] == "first"
    assert found["scores"]["accuracy"]["difference"] == pytest.approx(
        found["scores"]["accuracy"]["a"] - found["scores"]["accuracy"]["b"]
    )
    assert run("compare", "first", "secnd", "--store", pair.root).exit_code == 2
    assert run("compare", "first", "second", "--part", "test", "--store", pair.root).exit_code == 3
