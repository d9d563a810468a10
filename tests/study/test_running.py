"""A study makes what its file asks for, once, and goes on where it was; a failure is written down, the rest is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensemble_fer.errors import UsageError
from ensemble_fer.store import Store
from ensemble_fer.study.reading import read_study
from ensemble_fer.study.running import run_study

FILE = """
title = "Small"
asks = "Does it run?"
[recipe]
model = "compact"
epochs = 1
epoch_rows = 128
[[stage]]
name = "balanced"
resample = [{ method = "none" }, { method = "ros" }]
[[stage]]
name = "schedules"
grid = { schedule = ["cosine", "constant"] }
[[stage]]
name = "on"
start = "best of schedules"
[[ensemble]]
name = "pair"
of = ["balanced/none", "balanced/ros"]
[scale.smoke]
data = "drawn:400"
seeds = [0]
look = true
"""


def test_all_of_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "little.toml").write_text(FILE)
    store, study = Store(tmp_path / "store"), read_study(tmp_path / "little.toml")
    told: list[dict] = []
    found = run_study(store, study, threads=1, quiet=True, report=told.append)
    assert [row["of"] for row in found["rows"]] == [
        "balanced/none", "balanced/ros", "schedules/cosine", "schedules/constant", "on", "pair"
    ]  # fmt: skip
    assert [row["name"] for row in told] == [row["name"] for row in found["rows"]]
    assert not [row for row in found["rows"] if "problem" in row]
    assert all(0 <= row["select"]["macro_f1"] <= 1 and row["test"]["rows"] > 0 for row in found["rows"])
    runs = {row["of"]: store.by_id("run", row["id"]) for row in found["rows"] if row["kind"] == "run"}
    best = max(("schedules/cosine", "schedules/constant"), key=lambda of: runs[of].metrics["select"]["macro_f1"])
    assert runs[best].id in runs["on"].inputs
    assert runs["balanced/none"].spec["recipe"]["resampling"] == "none"
    assert runs["balanced/ros"].spec["recipe"]["resampling"] == "ros"

    monkeypatch.setattr("ensemble_fer.train.running.learn", lambda *_, **__: pytest.fail("trained again"))
    again = run_study(store, study, threads=1, quiet=True)
    assert [row["id"] for row in again["rows"]] == [row["id"] for row in found["rows"]]
    assert [row["test"]["protocol"]["looks"] for row in again["rows"]] == [
        row["test"]["protocol"]["looks"] for row in found["rows"]
    ], "nothing is looked at twice"


def test_a_failure_is_written_down_and_the_rest_is_made(tmp_path: Path) -> None:
    bad = FILE.replace('grid = { schedule = ["cosine", "constant"] }', "grid = { batch_size = [64, 99999] }")
    bad = bad.replace('"balanced/ros"]', '"schedules/batch_size=99999"]')
    (tmp_path / "little.toml").write_text(bad)
    found = run_study(Store(tmp_path / "store"), read_study(tmp_path / "little.toml"), threads=1, quiet=True)
    problems = {row["of"]: row["problem"] for row in found["rows"] if "problem" in row}
    assert set(problems) == {"schedules/batch_size=99999", "pair"}
    assert "training rows" in problems["schedules/batch_size=99999"]
    assert "which failed" in problems["pair"]
    assert [row["of"] for row in found["rows"] if "id" in row] == [
        "balanced/none", "balanced/ros", "schedules/batch_size=64", "on"
    ]  # fmt: skip


def test_several_processes_make_the_same(tmp_path: Path) -> None:
    (tmp_path / "little.toml").write_text(FILE)
    study = read_study(tmp_path / "little.toml")
    alone = run_study(Store(tmp_path / "a"), study, threads=1, quiet=True)
    together = run_study(Store(tmp_path / "b"), study, jobs=2, threads=1, quiet=True)

    def said(found: dict) -> list:
        return [(row["name"], row["id"], row["select"], row["test"]["accuracy"]) for row in found["rows"]]

    assert said(together) == said(alone)
    with pytest.raises(UsageError, match="jobs 0"):
        run_study(Store(tmp_path / "a"), study, jobs=0)


KINDS = """
title = "Kinds of arms"
asks = "Do they run?"
memory = true
[recipe]
model = "compact"
epochs = 1
epoch_rows = 128
[[stage]]
name = "data"
resample = [{ method = "none" }, { method = "ros" }]
[[stage]]
name = "loss"
grid = { loss = ["focal", "weighted"] }
[[stage]]
name = "near"
resample = [{ method = "smote", space = "run:data/none" }]
[[stage]]
name = "both"
combine = ["data", "loss"]
[[stage]]
name = "wrong"
leak = "own"
resample = [{ method = "ros" }, { method = "smote" }]
[[ensemble]]
name = "wrong-pair"
of = ["wrong/ros", "wrong/smote"]
[[ensemble]]
name = "four"
of = ["data/none", "data/ros"]
across_seeds = true
[scale.smoke]
data = "drawn:400"
seeds = [0, 1]
look = true
"""


def test_spaces_combinations_leaks_and_ensembles_over_seeds(tmp_path: Path) -> None:
    (tmp_path / "kinds.toml").write_text(KINDS)
    store, study = Store(tmp_path / "store"), read_study(tmp_path / "kinds.toml")
    found = run_study(store, study, threads=1, quiet=True)
    assert [row["problem"] for row in found["rows"] if "problem" in row] == []
    rows = {(row["of"], row["seed"]): row for row in found["rows"]}

    def run(of: str, seed: int = 0):
        return store.by_id("run", rows[of, seed]["id"])

    def recipe(of: str) -> dict:
        return run(of).spec["recipe"]

    space = store.by_id("resampling", run("near/smote-embedding").inputs[3])
    assert rows["data/none", 0]["id"] in space.inputs
    best = {
        stage: max(
            (rows[arm.name, 0] for arm in study.arms if arm.stage == stage), key=lambda row: row["select"]["macro_f1"]
        )["of"]
        for stage in ("data", "loss")
    }
    assert recipe("both")["loss"] == recipe(best["loss"])["loss"] in ("focal", "weighted")
    assert recipe("both")["resampling"] == recipe(best["data"])["resampling"]
    for (of, _), row in rows.items():
        assert row["test"]["protocol"]["leaky"] == of.startswith("wrong") == row["leaky"], of
        assert ("memory" in row) == (row["kind"] == "run")
    assert rows["wrong-pair", 1]["kind"] == "predictions"
    four = store.by_id("ensemble", rows["four", 0]["id"])
    assert four.inputs[:4] == [rows[of, seed]["id"] for seed in (0, 1) for of in ("data/none", "data/ros")]
    assert ("four", 1) not in rows
