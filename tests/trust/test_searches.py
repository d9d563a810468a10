"""A bit that flips in the database of a search for a recipe changes nothing that is shown, or is noticed."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from ensemble_fer.errors import EnsembleFerError
from ensemble_fer.store import Store
from ensemble_fer.tune.results import Row, rows_of
from ensemble_fer.tune.sealing import check_study_file
from ensemble_fer.tune.storage import sqlite_url
from ensemble_fer.tune.trouble import explained
from ensemble_fer.tune.tuning import search
from ensemble_fer.tune.worker import Job, open_study
from tests.trust.campaign import cases, whole
from tests.tune import toys

T = TypeVar("T")
DECIDES = ("number", "slot", "state", "value", "best_epoch", "epochs", "params", "changes", "scores", "seconds")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Job:
    store = Store(tmp_path_factory.mktemp("search"))
    folder = store.root / "tune" / "toy"
    folder.mkdir(parents=True)
    job = toys.job_of(folder, 8, pruner="median", url=sqlite_url(folder / "study.db"), store=store.root)
    search(job, {"toy": True}, objective=toys.toy, quiet=True)
    with sqlite3.connect(folder / "study.db") as connection:
        connection.execute("pragma wal_checkpoint(truncate)")  # all of it is in the file now
    return job


def rows_in(job: Job) -> list[Row]:
    with explained(job.url, job.way_out):
        _, slots = open_study(job)
        rows = rows_of(slots.trials())
        slots.storage.remove_session()
        slots.storage.engine.dispose()
    return [{key: row[key] for key in DECIDES} for row in rows]


def said_of(file: Path, work: Callable[[], T]) -> T | None:
    """What the work gives, or None where the file is refused by its name."""
    try:
        return work()
    except EnsembleFerError as error:
        said = str(error)
    assert str(file) in said
    return None


def test_no_flip_changes_what_a_search_has_found(searched: Job, tmp_path: Path) -> None:
    """1,000 flips. Much of the file is room that nobody reads; a trial that is lost at the end is searched again."""
    content = (searched.folder / "study.db").read_bytes()
    found = rows_in(searched)
    assert len(found) == 8
    noticed = 0
    for number, rng in cases("searches", 1000, quick=40):
        root = tmp_path / str(number)
        folder = root / "tune" / "toy"
        folder.mkdir(parents=True)
        at, bit = int(rng.integers(len(content))), int(rng.integers(8))
        file = folder / "study.db"
        file.write_bytes(content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :])
        job = replace(searched, url=sqlite_url(file), folder=folder, store=root)
        rows = said_of(file, partial(rows_in, job))
        noticed += rows is None
        assert rows is None or rows == found[: len(rows)], (number, at, bit)
        said_of(file, partial(check_study_file, file, "toy", root))
        shutil.rmtree(root)
    assert noticed or not whole("searches")
