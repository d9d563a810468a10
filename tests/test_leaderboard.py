"""The leaderboard ranks by the select part, split by split, and keeps leaky scores out."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from ensemble_fer.ensemble import combine
from ensemble_fer.errors import MissingError
from ensemble_fer.evaluate.metrics import score, summary
from ensemble_fer.evaluate.predictions import load_predictions, save_predictions
from ensemble_fer.leaderboard import leaderboard
from ensemble_fer.store import Artifact, Store
from ensemble_fer.types import Predictions, Role
from tests.evaluate.examples import some_predictions


def _data(store: Store, name: str = "fer2013", split: str = "official") -> tuple[str, str]:
    data = store.put("data", {"fingerprint": name}, [], lambda folder: None, name=name)
    return data.id, store.put("split", {"name": split}, [data.id], lambda folder: None).id


def _select(seed: int, skill: float) -> Predictions:
    p = some_predictions(200, seed, skill=skill, role=Role.SELECT)
    return replace(p, protocol=replace(p.protocol, role="select", seed=seed))


def _run(store: Store, inputs: tuple[str, str], seed: int, skill: float, name: str, bare: bool = False) -> Artifact:
    p = _select(seed, skill)

    def write(folder: Path) -> dict:
        save_predictions(folder / "select.npz", p)
        scores = {"select": summary(p.labels, p.logits), "latency": {"ms": 3.5, "engine": "torch", "batch": 1}}
        return {"parameters": 1000 + seed} | ({} if bare else scores)

    recipe = {"model": "compact", "resampling": "0123456789ab", "seed": seed, "split": "official"}
    return store.put("run", {"recipe": recipe, "for": name}, inputs, write, name=name)


def _scored(store: Store, source: Artifact, seed: int, skill: float, tta="none", role=Role.TEST, **stamp) -> dict:
    p = some_predictions(300, seed, skill=skill, role=role, source=source.id)
    p = replace(p, protocol=replace(p.protocol, role=str(role), tta=tta, **stamp))
    report = score(p, n_boot=20).to_dict()
    store.put("predictions", {"source": source.id, "role": str(role), "tta": tta}, [source.id], lambda folder: report)
    return report


def test_select_ranks_and_test_stands_beside(store: Store) -> None:
    inputs = _data(store)
    weak = _run(store, inputs, 1, 0.5, "weak")
    _run(store, inputs, 2, 3.0, "strong", bare=True)
    _run(store, inputs, 3, 1.5, "middle")
    tested = _scored(store, weak, 9, 4.0, looks=3)  # by far the best on the test part
    board = leaderboard(store)
    rows = board["rows"]
    assert [(row["rank"], row["name"]) for row in rows] == [(1, "strong"), (2, "middle"), (3, "weak")]
    assert board["data"] == "fer2013"
    assert board["leaky"] == []
    assert rows[0]["test"] is None
    assert rows[0]["disgust_f1"] is None
    last = rows[2]
    assert last["select"]["macro_f1"] == pytest.approx(score(_select(1, 0.5), n_boot=2).macro_f1)
    assert last["test"]["accuracy"] == tested["accuracy"]
    assert last["test"]["ci95"] == tested["ci95"]
    assert last["test"]["looks"] == 3
    assert last["disgust_f1"] == tested["per_class"]["disgust"]["f1"]
    assert (last["top2"], last["twin_free"]) == (tested["top2"], tested["twin_free"])
    assert (last["model"], last["resampling"], last["kind"], last["tta"]) == ("compact", "smote", "run", "none")
    assert (last["parameters"], last["latency_ms"], last["latency"]["engine"]) == (1001, 3.5, "torch")
    assert "look 3" in last["stamp"]
    assert last["protocol"]["role"] == "test"
    assert rows[0]["protocol"]["role"] == "select"
    assert rows[0]["select"]["macro_f1"] == pytest.approx(score(_select(2, 3.0), n_boot=2).macro_f1)


def test_an_ensemble_is_ranked_with_its_members(store: Store) -> None:
    inputs = _data(store)
    runs = [_run(store, inputs, seed, 1.5, f"m{seed}") for seed in (1, 2, 3)]
    fused = combine([replace(load_predictions(r.file("select.npz")), source=r.id) for r in runs])

    def write(folder: Path) -> dict:
        save_predictions(folder / "select.npz", fused)
        return {"select": summary(fused.labels, fused.logits)}

    store.put("ensemble", {"rule": "mean"}, [r.id for r in runs], write, name="trio")
    row = leaderboard(store)["rows"][0]
    assert (row["rank"], row["name"], row["kind"], row["members"]) == (1, "trio", "ensemble", ["m1", "m2", "m3"])
    assert row["parameters"] == 1001 + 1002 + 1003
    assert (row["model"], row["resampling"], row["split"]) == ("compact", "smote + smote + smote", "official")
    assert row["protocol"]["seed"] is None


def test_leaky_scores_are_apart_and_have_no_rank(store: Store) -> None:
    inputs = _data(store)
    honest, cheat = _run(store, inputs, 1, 0.5, "honest"), _run(store, inputs, 2, 5.0, "cheat")
    _scored(store, cheat, 3, 5.0, leaks=("resampled before the split",))
    board = leaderboard(store)
    assert [(row["rank"], row["id"]) for row in board["rows"]] == [(1, honest.id)]
    assert [(row["rank"], row["id"], row["leaks"]) for row in board["leaky"]] == [
        (None, cheat.id, ["resampled before the split"])
    ]
    assert board["leaky"][0]["stamp"].startswith("LEAKY")


def test_splits_and_data_sets_are_not_ranked_together(store: Store) -> None:
    official, clean = _data(store), _data(store, split="official-clean")
    other = _data(store, "synthetic")
    for inputs, names in ((clean, ("c1", "c2")), (official, ("o1",)), (other, ("s1",))):
        for name in names:
            _run(store, inputs, int(name[1]), 3 - int(name[1]), name)
    ranked = [(row["split"], row["rank"], row["name"]) for row in leaderboard(store)["rows"]]
    assert ranked == [("official", 1, "o1"), ("official-clean", 1, "c1"), ("official-clean", 2, "c2")]
    assert [row["name"] for row in leaderboard(store, split="official-clean")["rows"]] == ["c1", "c2"]
    assert [row["name"] for row in leaderboard(store, data="synthetic")["rows"]] == ["s1"]


def test_each_test_time_augmentation_is_a_row_and_the_test_part_never_ranks(store: Store) -> None:
    run = _run(store, _data(store), 1, 1.0, "run")
    _scored(store, run, 2, 2.0, tta="flip")
    _scored(store, run, 3, 2.5, tta="flip", role=Role.SELECT)
    ten = _scored(store, run, 4, 9.0, tta="ten_crop")
    rows = leaderboard(store)["rows"]
    assert [(row["rank"], row["tta"]) for row in rows] == [(1, "flip"), (2, "none"), (None, "ten_crop")]
    assert rows[2]["select"] is None
    assert rows[2]["test"]["accuracy"] == ten["accuracy"]
    assert rows[1]["test"] is None
    assert rows[0]["test"] is not None


def test_a_store_without_data_says_what_to_do(store: Store) -> None:
    with pytest.raises(MissingError, match="data import"):
        leaderboard(store)
    _data(store)
    assert leaderboard(store) == {"data": "fer2013", "rows": [], "leaky": []}


def test_fifty_rows_take_less_than_a_second(store: Store) -> None:
    inputs = _data(store)
    for seed in range(50):
        _scored(store, _run(store, inputs, seed, 2.0, f"run{seed}"), seed, 2.0)
    took = []
    for _ in range(3):
        started = time.perf_counter()
        assert len(leaderboard(store)["rows"]) == 50
        took.append(time.perf_counter() - started)
    assert min(took) < 1.0
