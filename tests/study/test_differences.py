"""Arms against one of them: over folds and seeds, and only what chance among so many cannot do is called better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ensemble_fer.evaluate.pairs import difference_p, holm
from ensemble_fer.store import Store
from ensemble_fer.study import differences as module
from ensemble_fer.study.differences import differences, pooled, predictions_of_arm
from ensemble_fer.study.gathering import Gathered, gather
from ensemble_fer.study.reading import read_study
from ensemble_fer.study.running import run_study
from ensemble_fer.types import Predictions, Protocol, Role

FILE = """
title = "Folds"
asks = "Which?"
against = "data/none"
[recipe]
model = "compact"
epochs = 1
epoch_rows = 128
[[stage]]
name = "data"
resample = [{ method = "none" }, { method = "ros" }]
[scale.smoke]
data = "drawn:400"
seeds = [0]
folds = 3
look = true
"""


def test_all_rows_once_over_the_folds(tmp_path: Path) -> None:
    (tmp_path / "folds.toml").write_text(FILE)
    store, study = Store(tmp_path / "store"), read_study(tmp_path / "folds.toml")
    rows = run_study(store, study, threads=1, quiet=True)["rows"]
    gathered = gather(store, study, rows)
    (said,) = predictions_of_arm(study, gathered, "data/ros")
    np.testing.assert_array_equal(said.rows, np.arange(400))
    assert said.protocol.split == "kfold:3, all folds"
    lines = differences(study, gathered, n_boot=200)
    assert [line["of"] for line in lines] == ["data/none", "data/ros"]
    assert "differences" not in lines[0]
    for metric, one in lines[1]["differences"].items():
        values = [line["scores"][metric]["value"] for line in lines]
        assert one["value"] == pytest.approx(values[1] - values[0])
        assert one["p_holm"] == one["p"]  # of one arm
    gathered.rows[0].pop("said")  # a fold that failed
    assert predictions_of_arm(study, gathered, rows[0]["of"]) == []


def said(seed: int, right: float, source: str, rng: np.random.Generator) -> Predictions:
    labels = np.arange(2100) % 7
    answers = np.where(rng.random(2100) < right, labels, (labels + 1) % 7)
    protocol = Protocol("faces", "official", Role.TEST, seed=seed)
    own = np.arange(2100)
    return Predictions(np.eye(7)[answers] * 3, labels, own, own, own < 0, Role.TEST, source, protocol)


def test_only_what_chance_cannot_do_is_better(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "folds.toml").write_text(FILE.replace("folds = 3", "").replace("[0]", "[0, 1]"))
    study = read_study(tmp_path / "folds.toml")
    rng = np.random.default_rng(0)
    shares = {"data/none": 0.6, "better": 0.68, "same": 0.6, "worse": 0.5}
    arms = {of: [said(seed, share, of, rng) for seed in (0, 1)] for of, share in shares.items()}
    monkeypatch.setattr(module, "predictions_of_arm", lambda study, gathered, of: arms[of])
    lines = differences(study, Gathered([{"of": of} for of in arms], {}), n_boot=1000)
    verdicts = {line["of"]: line["differences"]["accuracy"]["verdict"] for line in lines if "differences" in line}
    assert verdicts == {"better": "better", "same": "undecided", "worse": "worse"}
    for line in lines[1:]:
        one = line["differences"]["accuracy"]
        assert one["p_holm"] >= one["p"]
        low, high = one["ci95"]
        assert low < one["value"] < high
        assert (low > 0 or high < 0) == (one["p"] < 0.05)


def test_pairs_are_the_same_differences_from_another_arm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "folds.toml").write_text(FILE.replace("folds = 3", ""))
    study = read_study(tmp_path / "folds.toml")
    rng = np.random.default_rng(0)
    arms = {of: [said(0, share, of, rng)] for of, share in {"data/none": 0.6, "a": 0.68, "b": 0.5}.items()}
    monkeypatch.setattr(module, "predictions_of_arm", lambda study, gathered, of: arms[of])
    gathered = Gathered([{"of": of} for of in arms], {})
    lines = differences(replace(study, pairs=(("a", "b"), ("a", "gone"))), gathered, n_boot=300)
    (line,) = [line for line in lines if "beside" in line]
    assert line["of"] == "a"
    against = {each["of"]: each for each in differences(replace(study, against="b"), gathered, n_boot=300)}
    for metric, one in line["beside"]["b"].items():
        same = against["a"]["differences"][metric]
        assert (one["value"], one["ci95"], one["p"]) == (same["value"], same["ci95"], same["p"])
        assert one["p_holm"] == one["p"], "of one pair"
    assert line["beside"]["b"]["accuracy"]["verdict"] == "better"


def test_folds_are_put_in_the_order_of_the_rows() -> None:
    whole = said(0, 0.6, "a", np.random.default_rng(1))
    order = np.random.default_rng(2).permutation(2100)
    own = ("logits", "labels", "rows", "groups", "twin_in_train")
    parts = [
        Predictions(**{key: getattr(whole, key)[rows] for key in own}, role=whole.role, source="a",
                    protocol=Protocol("faces", f"kfold:3:{fold}", Role.TEST))
        for fold, rows in enumerate(np.split(order, 3))
    ]  # fmt: skip
    joined = pooled(parts)
    for key in own:
        np.testing.assert_array_equal(getattr(joined, key), getattr(whole, key))


def test_holm() -> None:
    # 0.01 x 4, 0.02 x 3, 0.03 x 2 raised to what came before, 0.5 x 1.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.9]) == [1.0, 1.0]


def test_the_p_of_draws() -> None:
    draws = np.random.default_rng(0).normal(0.03, 0.01, 4000)
    assert difference_p(0.03, draws) == pytest.approx(0.0027, rel=0.2)  # three standard deviations
    assert difference_p(-0.03, draws) == difference_p(0.03, draws)
    assert difference_p(0.0, draws) == 1.0
    assert difference_p(0.0, np.zeros(9)) == 1.0
    assert difference_p(0.1, np.full(9, 0.1)) == 0.0


def test_the_p_is_as_often_below_a_level_as_it_says() -> None:
    """Of two networks that are as good: 400 pairs, at 0.05 about 20."""
    rng = np.random.default_rng(5)
    ps = []
    for _ in range(400):
        apart = rng.choice([-1, 0, 1], size=300, p=[0.1, 0.8, 0.1])
        draws = apart[rng.integers(300, size=(300, 300))].mean(axis=1)
        ps.append(difference_p(float(apart.mean()), draws))
    assert 8 <= sum(p < 0.05 for p in ps) <= 34
    assert 160 <= sum(p < 0.5 for p in ps) <= 240


def test_arms_on_other_faces_are_not_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "folds.toml").write_text(FILE.replace("folds = 3", ""))
    study = read_study(tmp_path / "folds.toml")
    rng = np.random.default_rng(0)
    base, same, other = (said(0, 0.6, of, rng) for of in ("data/none", "same", "other"))
    other = replace(other, rows=other.rows + 5)
    arms = {"other": [other], "data/none": [base], "same": [same]}
    monkeypatch.setattr(module, "predictions_of_arm", lambda study, gathered, of: arms[of])
    lines = differences(study, Gathered([{"of": of} for of in arms], {}), n_boot=50)
    assert [line["of"] for line in lines if "differences" in line] == ["same"]
