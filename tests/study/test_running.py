"""A study makes what its file asks for, once, and goes on where it was; a failure is written down, the rest is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensemble_fer.errors import UsageError
from ensemble_fer.store import Store
from ensemble_fer.study.plan import read_study
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
