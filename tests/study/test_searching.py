"""A stage that searches: its trials are shared by several tasks, and others are trained with what it has chosen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ensemble_fer.errors import UsageError
from ensemble_fer.store import Store
from ensemble_fer.study.cells import cells_of
from ensemble_fer.study.costing import forecast
from ensemble_fer.study.gathering import gather
from ensemble_fer.study.reading import read_study
from ensemble_fer.study.reporting import write_report
from ensemble_fer.study.running import last_rows, run_study
from ensemble_fer.study.summary import summary

FILE = """
title = "Searched"
asks = "Does it find?"
[recipe]
model = "compact"
epochs = 1
epoch_rows = 64
optimizer = "adagrad"
[[stage]]
name = "search"
search = { space = ["optimizer", "schedule"], trials = 40, workers = 3 }
[[stage]]
name = "searched"
tuned = "search"
[scale.smoke]
data = "drawn:300"
seeds = [5, 6]
trials = 4
"""


def study_of(folder: Path, text: str = FILE):
    (folder / "found.toml").write_text(text)
    return read_study(folder / "found.toml")


@pytest.mark.parametrize("jobs", [1, 2])
def test_trials_are_shared_and_the_choice_is_taken(tmp_path: Path, jobs: int) -> None:
    store, study = Store(tmp_path / "store"), study_of(tmp_path)
    told: list[dict] = []
    found = run_study(store, study, jobs=jobs, threads=1, quiet=True, report=told.append)
    assert [row["name"] for row in found["rows"]] == [
        "found.smoke.search-s5", "found.smoke.searched-s5", "found.smoke.searched-s6"
    ]  # fmt: skip
    assert len(told) == len(cells_of(study)) == 5, "the tasks of a search report too, and give one row"
    assert not [row for row in found["rows"] if "problem" in row]
    searched, *runs = found["rows"]
    tuning = store.by_id("tuning", searched["id"])
    assert tuning.metrics["trials"] == searched["trials"] == 4
    assert {row["state"] for row in json.loads(tuning.file("trials.json").read_text())} <= {"complete", "pruned"}
    for row in runs:
        recipe = store.by_id("run", row["id"]).spec["recipe"]
        assert recipe["seed"] == row["seed"]
        for key, value in searched["chosen"].items():
            assert recipe[key] == value, key
        assert recipe["optimizer"] in tuning.file("best.toml").read_text()
    assert [line["of"] for line in summary(found["rows"])] == ["searched"]
    assert last_rows(store, study) == found["rows"]
    if jobs == 1:
        pages = write_report(study, gather(store, study, found["rows"]), tmp_path / "pages")
        assert "What was searched" in pages[0].read_text()
        assert searched["chosen"]["optimizer"] in pages[0].read_text()
        left = forecast(store, study)
        assert (left["runs"], left["done"], left["ensembles"]) == (3, 3, 0)


def test_a_search_that_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UsageError("no trial came to its end")

    monkeypatch.setattr("ensemble_fer.study.searching.tune", fail)
    found = run_study(Store(tmp_path / "store"), study_of(tmp_path), threads=1, quiet=True)
    assert [row["problem"] for row in found["rows"]] == [
        "no trial came to its end",
        *["searched is trained as search has chosen, which failed."] * 2,
    ]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"optimizer", "schedule"', '"optimiser"', "Did you mean .optimizer"),
        ("trials = 40", "trials = 0", "expected 1 worker and 1 trial or more"),
        ("trials = 40", "tries = 40", "tries"),
        ('tuned = "search"', 'tuned = "found"', "tuned of"),
        ("workers = 3 }", "workers = 3 }\ngrid = { batch_size = [8, 16] }", "searches, and has grid too"),
    ],
)
def test_what_cannot_be_searched_is_refused(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert old in FILE
    with pytest.raises(UsageError, match=problem):
        study_of(tmp_path, FILE.replace(old, new))
