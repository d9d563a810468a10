"""What each mistake adds is the difference of what the rows say, and nothing that lacks a row is made up."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble_fer.errors import MissingError, StoreError
from ensemble_fer.store import Store
from ensemble_fer.study.finding import study_file
from ensemble_fer.study.gathering import Gathered, gather, load_gathered
from ensemble_fer.study.mistakes import METRICS, Mistake, by_group, mistakes, over_seeds
from ensemble_fer.study.reading import read_study
from ensemble_fer.study.running import run_study
from ensemble_fer.types import Role


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    store, study = Store(tmp_path_factory.mktemp("leakage")), read_study(study_file("leakage"), "smoke")
    rows = run_study(store, study, threads=1, quiet=True)["rows"]
    return study, rows, gather(store, study, rows)


def test_the_study_at_smoke(made) -> None:
    study, rows, gathered = made
    assert [row["problem"] for row in rows if "problem" in row] == []
    table = {row["of"]: row for row in rows}
    found = mistakes(study, gathered)
    groups = dict(by_group(found))
    assert len(groups) == 7
    assert [len(group) for group in groups.values()] == [4, 4, 4, 1, 1, 1, 1]
    first = found[0]
    assert first.what == "ROS"
    assert first.published == 0.8597
    for metric in METRICS:
        honest, leaky = table["honest/ros"]["test"][metric], table["one/ros"]["test"][metric]
        assert first.honest[metric] == [honest]
        assert first.added[metric] == {"mean": pytest.approx(leaky - honest), "ci95": None}
    fused = groups["each resampled set divided on its own"][-1]
    assert (fused.what, fused.published) == ("the mean of the three", 0.9718)
    assert fused.leaky["accuracy"] == [table["own-three"]["test"]["accuracy"]]
    onward = groups["each divided on its own, on from a network tuned before"][0]
    assert onward.honest["accuracy"] == [table["continued/ros"]["test"]["accuracy"]], "which trained as long"
    searched = found[-1]
    assert searched.what == "1 of 2"
    both = [table[of]["test"]["accuracy"] for of in table if of.startswith("official/")]
    assert searched.leaky["accuracy"] == [max(both)]
    assert searched.honest["accuracy"][0] in both
    assert all(one.to_dict()["mark"] == "LEAKY" for one in found)


def test_what_lacks_a_row_is_left_out(made) -> None:
    study, _, gathered = made
    some = [row for row in gathered.rows if not row["of"].startswith(("swapped", "onward", "clean"))]
    found = mistakes(study, Gathered(some, gathered.arrays))
    assert [len(group) for _, group in by_group(found)] == [4, 4, 1, 1]
    assert mistakes(study, Gathered([], {})) == []


def test_intervals_over_seeds() -> None:
    # Student's t with two degrees of freedom: 4.3027.
    found = over_seeds(np.array([0.1, 0.2, 0.3]))
    assert found["mean"] == pytest.approx(0.2)
    assert found["ci95"] == pytest.approx([0.2 - 4.3027 * 0.1 / 3**0.5, 0.2 + 4.3027 * 0.1 / 3**0.5], abs=1e-4)
    one = Mistake("g", "w", {key: [0.6, 0.62] for key in METRICS}, {key: [0.9, 0.9] for key in METRICS})
    low, high = one.added["accuracy"]["ci95"]
    assert low < 0.29 < high


def test_what_was_gathered_is_the_same_after_it_was_kept(made, tmp_path) -> None:
    study, rows, gathered = made
    gathered.save(tmp_path)
    again = load_gathered(tmp_path)
    assert again.rows == gathered.rows
    assert mistakes(study, again) == mistakes(study, gathered)
    for row, before in zip(again.rows, rows, strict=True):
        assert set(row["said"]) == {part for part in ("select", "test") if before.get(part)}
        if before["kind"] == "run":
            assert len(row["history"]) == row["epochs"]
            assert len(row["history"][0]["recall"]) == 7
        said = again.said(row, Role.TEST)
        assert said is not None
        assert said.protocol.leaky == bool(before["test"]["protocol"]["leaks"])
        right = (said.logits.argmax(1) == said.labels).mean()
        assert right == pytest.approx(before["test"]["accuracy"], abs=2 / len(said)), "half precision makes ties"
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(StoreError, match="damaged"):
        load_gathered(tmp_path)
    with pytest.raises(MissingError, match=r"said\.npz"):
        load_gathered(tmp_path / "none")
