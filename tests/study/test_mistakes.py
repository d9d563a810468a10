"""What each mistake adds is the difference of what the rows say, and nothing that lacks a row is made up."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from ensemble_fer.errors import MissingError, StoreError, UsageError
from ensemble_fer.files import load_arrays, save_arrays
from ensemble_fer.store import Store
from ensemble_fer.study import drawing
from ensemble_fer.study.finding import study_file
from ensemble_fer.study.gathering import Gathered, gather, load_gathered
from ensemble_fer.study.mistakes import METRICS, Mistake, _Pool, by_group, lacking, mistakes, over_seeds
from ensemble_fer.study.reading import read_study
from ensemble_fer.study.reporting import write_report
from ensemble_fer.study.running import run_study
from ensemble_fer.types import Role
from tests.evaluate.examples import some_predictions


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


def test_values_of_what_needs_no_leaky_set(made) -> None:
    study, rows, gathered = made
    table = {row["of"]: row for row in rows}
    twins, chosen, faceless, _ = mistakes(study, gathered)[-4:]
    for metric in METRICS:
        assert twins.honest[metric] == [table["clean"]["test"][metric]]
        assert twins.leaky[metric] == [table["twins"]["test"][metric]]
        official, swapped = (
            [row for of, row in table.items() if of.startswith(f"{stage}/")] for stage in ("official", "swapped")
        )
        best = max(official, key=lambda row: row["select"]["accuracy"])
        assert chosen.honest[metric] == pytest.approx([best["test"][metric]])
        # Of the swapped split the select part is PrivateTest, which there chose each epoch.
        best = max(swapped, key=lambda row: row["select"]["accuracy"])
        assert chosen.leaky[metric] == pytest.approx([best["select"][metric]], abs=0.02)
    (row,) = [row for row in gathered.rows if row["of"] == "twins"]
    said = gathered.said(row, Role.TEST)
    right = said.logits.argmax(1) == said.labels
    kept = gathered.found[said.rows]
    assert 0 < kept.sum() < len(kept)
    assert faceless.honest["accuracy"] == [right.mean()]
    assert faceless.leaky["accuracy"] == [right[kept].mean()]


def test_a_balanced_test_part_is_told_from_memory(made) -> None:
    study, _, gathered = made
    first = mistakes(study, gathered)[0]
    (row,) = [row for row in gathered.rows if row["of"] == "honest/ros"]
    said = gathered.said(row, Role.TEST)
    shares = 1 / np.bincount(said.labels, minlength=7)[said.labels]
    answers = said.logits.argmax(1)
    assert first.alike["accuracy"][0] == pytest.approx(recall_score(said.labels, answers, average="macro"))
    expected = f1_score(said.labels, answers, average="macro", sample_weight=shares, labels=np.unique(said.labels))
    assert first.alike["macro_f1"][0] == pytest.approx(expected)
    assert [one.alike is None for one in mistakes(study, gathered)] == [False] * 12 + [True] * 4


def test_members_are_searched_among_all_sets_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    study = read_study(study_file("leakage"), "small")
    pool = _Pool(study, Gathered([], {}))
    assert len(pool.arms) == 6
    said = {
        (of, role): replace(some_predictions(300, seed=10 * n + len(role)), role=role)
        for n, of in enumerate(pool.arms)
        for role in (Role.SELECT, Role.TEST)
    }
    monkeypatch.setattr(pool, "said", lambda of, seed, role: said[of, role])
    honest, leaky = pool.searched(0)

    def accuracy(three: tuple[str, ...], role: Role) -> float:
        mean = sum(said[of, role].probabilities() for of in three)
        return float((mean.argmax(1) == said[three[0], role].labels).mean())

    sets = list(itertools.combinations(pool.arms, 3))
    assert leaky["accuracy"] == pytest.approx(max(accuracy(three, Role.TEST) for three in sets))
    best = max(sets, key=lambda three: accuracy(three, Role.SELECT))
    assert honest["accuracy"] == pytest.approx(accuracy(best, Role.TEST))
    assert honest["accuracy"] < leaky["accuracy"]


def test_the_report_marks_every_leaky_score(made, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    study, rows, gathered = made
    drawn, curves = [], drawing.curves_figure
    monkeypatch.setattr(drawing, "curves_figure", lambda lines, ranked: drawn.extend(lines) or curves(lines, ranked))
    text = write_report(study, gathered, tmp_path)[0].read_text()
    leaky = [row["of"] for row in rows if row["leaky"]]
    assert len(leaky) == 13
    assert not set(leaky) & set(drawn)
    assert "honest/ros" in drawn
    for part in re.split(r"^#+ ", text, flags=re.MULTILINE)[1:]:
        heading = part.partition("\n")[0]
        for of in leaky:
            # What it remembers and what it cost are no scores.
            assert heading in ("What they remember", "Cost") or f"\n| {of} |" not in part, (heading, of)
            assert (f"| LEAKY {of} |" in part) == (heading == "LEAKY scores"), (heading, of)
    shown = mistakes(study, gathered)
    assert text.count(" LEAKY |") == 2 * len(shown)
    tables = text.partition("### Macro-F1")
    for one in shown:
        for metric, part in zip(METRICS, (tables[0], tables[2]), strict=True):
            start = rf"^\| {re.escape(one.group)} \| {re.escape(one.what)} \| "
            said = re.search(rf"{start}([\d.]+) \| ([\d.]*) \| ([\d.]+) LEAKY \| (.*)\|$", part, re.MULTILINE)
            assert said, (one.what, metric)
            assert float(said[1]) == pytest.approx(100 * one.honest[metric][0], abs=0.06)
            assert float(said[3]) == pytest.approx(100 * one.leaky[metric][0], abs=0.06)
            assert (one.alike is None) == (said[2] == "")


def test_a_study_with_leaks_alone_has_a_report(made, tmp_path) -> None:
    """Anybody's, which lacks the stages of this one."""
    _, _, gathered = made
    some = [row for row in gathered.rows if row["of"].startswith(("own/", "honest/"))]
    (tmp_path / "mine.toml").write_text(
        """
title = "Mine"
asks = "How much?"
[[stage]]
name = "honest"
recipe = { split = "stratified:0.8,0.1,0.1" }
resample = [{ method = "ros" }]
[[stage]]
name = "own"
leak = "own"
resample = [{ method = "ros" }]
[scale.smoke]
data = "drawn:500"
seeds = [0]
"""
    )
    study = read_study(tmp_path / "mine.toml")
    text = write_report(study, Gathered(some, gathered.arrays), tmp_path)[0].read_text()
    assert "| each resampled set divided on its own | ROS |" in text
    assert "checkpoint and recipe chosen on the test" in text.partition("Left out, for want of a run:")[2]


def test_what_lacks_a_row_is_left_out(made) -> None:
    study, _, gathered = made
    some = [row for row in gathered.rows if not row["of"].startswith(("swapped", "onward", "clean"))]
    found = mistakes(study, Gathered(some, gathered.arrays))
    assert [len(group) for _, group in by_group(found)] == [4, 4, 1, 1]
    assert mistakes(study, Gathered([], {})) == []
    assert lacking(study, gathered) == []
    assert len(lacking(study, Gathered(some, gathered.arrays))) == 6


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
    load_gathered(tmp_path, study)
    with pytest.raises(UsageError, match=r"does not keep study leakage at scale small"):
        load_gathered(tmp_path, read_study(study_file("leakage"), "small"))
    kept = (tmp_path / "study.json").read_text()
    for damaged in ("{}", "[1, 2]", '[{"name": "x"}]', "[[]]"):
        (tmp_path / "study.json").write_text(damaged)
        with pytest.raises(StoreError, match="damaged"):
            load_gathered(tmp_path)
    (tmp_path / "study.json").write_text(kept)
    arrays = load_arrays(tmp_path / "said.npz")
    lost = next(key for key in arrays if key.endswith(".logits"))
    save_arrays(tmp_path / "said.npz", **{key: value for key, value in arrays.items() if key != lost})
    with pytest.raises(StoreError, match=f"lacks .*{lost[:20]}"):
        load_gathered(tmp_path)
    with pytest.raises(MissingError, match=r"said\.npz"):
        load_gathered(tmp_path / "none")
