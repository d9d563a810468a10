"""Databases that are damaged, full, or of a kind whose driver is missing: what is said, and what goes on after."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy.engine
from optuna.trial import TrialState

from ensemble_fer.errors import EnsembleFerError, MissingError, StoreError
from ensemble_fer.store import Store
from ensemble_fer.tune import storage
from ensemble_fer.tune.processes import work_together
from ensemble_fer.tune.storage import open_storage
from ensemble_fer.tune.trouble import driver_hint, unusable
from ensemble_fer.tune.tuning import search
from ensemble_fer.tune.worker import Candidate, Job, open_study
from ensemble_fer.upkeep import check_store
from tests.tune import toys

BOUND = {"toy": True}


def job_in(store: Path, trials: int = 3, **changes: Any) -> Job:
    """A job whose database lies where ``tune`` puts it."""
    folder = store / "tune" / "toy"
    folder.mkdir(parents=True, exist_ok=True)
    return replace(toys.job_of(folder, trials), store=store, folder=store / "unfinished", **changes)


def study_of(job: Job) -> Path:
    return job.store / "tune" / "toy" / "study.db"


@pytest.mark.parametrize(
    ("url", "package"),
    [
        ("postgresql+psycopg://me:secret@host/x", '"psycopg[binary]"'),
        ("postgresql+psycopg2://me:secret@host/x", "psycopg2-binary"),
        ("mysql+pymysql://me:secret@host/x", "pymysql"),
        ("mysql+mysqldb://me:secret@host/x", "mysqlclient"),
        ("postgresql+pg8000://me:secret@host/x", "pg8000"),
    ],
)
def test_the_hint_is_of_the_driver_that_is_asked_for(url: str, package: str) -> None:
    assert driver_hint(url) == f"Get it:  pip install {package}"


def test_the_hint_for_an_address_without_a_driver_is_of_sqlalchemys_own_choice() -> None:
    url = "postgresql://me:secret@host/x"
    chosen = sqlalchemy.engine.make_url(url).get_dialect().driver
    assert driver_hint(url) == driver_hint(f"postgresql+{chosen}://me:secret@host/x")
    with pytest.raises(MissingError, match=r"'nosuch' without a package") as found:
        open_storage("nosuch://me:secret@host/x", interval=5, grace=10, create=True)
    assert "secret" not in str(found.value)


def full_from_now_on(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """The database may not grow, as on a full disk."""
    with sqlite3.connect(file) as connection:
        pages = connection.execute("pragma page_count").fetchone()[0]
    usual = storage._set_up_sqlite

    def limited(connection: Any, record: object) -> None:
        usual(connection, record)
        connection.execute(f"pragma max_page_count = {pages}")

    monkeypatch.setattr(storage, "_set_up_sqlite", limited)


def test_a_full_database_ends_the_sitting_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(job_in(tmp_path, 1), BOUND, objective=toys.toy, quiet=True)
    job = job_in(tmp_path, 15)
    with monkeypatch.context() as patched:
        full_from_now_on(patched, study_of(job))
        with pytest.raises(EnsembleFerError, match="could not be written: database or disk is full") as found:
            search(job, BOUND, objective=toys.toy, quiet=True)
        assert str(study_of(job)) in str(found.value)
        assert "the same command goes on" in str(found.value)
        assert "runs remove" not in str(found.value), "nothing is damaged"
    after = open_study(job)[0].get_trials()
    assert TrialState.COMPLETE in {t.state for t in after}
    slots = search(job, BOUND, objective=toys.toy, quiet=True)
    assert slots.overview().done == 15
    assert not [t for t in slots.trials() if t.user_attrs.get("ended") == "error"]


def full_once(candidate: Candidate) -> float:
    """A checkpoint that finds no room."""
    note = candidate.job.folder / "full"
    if not note.exists():
        note.touch()
        number = int((candidate.job.store / "errno").read_text())
        raise OSError(number, os.strerror(number), "checkpoint.safetensors")
    return toys.score_of(candidate)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_without_room_for_a_checkpoint_is_not_the_recipes_fault(tmp_path: Path, number: int) -> None:
    job = job_in(tmp_path)
    (tmp_path / "errno").write_text(str(number))
    reason = re.escape(os.strerror(number))
    with pytest.raises(EnsembleFerError, match=rf"^checkpoint\.safetensors could not be written: .*{reason}"):
        search(job, BOUND, objective=full_once, quiet=True)
    slots = search(job, BOUND, objective=full_once, quiet=True)
    rows = sorted(slots.trials(), key=lambda t: t.number)
    assert [t.user_attrs.get("ended") for t in rows] == ["interrupted", None, None, None]
    assert rows[1].params == rows[0].params


def test_a_worker_that_cannot_write_why_it_failed_says_so(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    (tmp_path / "errno").write_text(str(errno.ENOSPC))
    toys.begun(job)
    job.folder.mkdir()
    (job.folder / "failures").touch()  # no folder can be made here
    with pytest.raises(EnsembleFerError, match=r"could not write why .* the disk may be full.*same command goes on"):
        work_together(job, full_once, 1, tick=lambda text: None)


def bad_json(file: Path) -> None:
    _sql(file, "update trial_user_attributes set value_json = '{bad'")


def bad_state(file: Path) -> None:
    _sql(file, "update trials set state = 'SLEEPING'")


def other_version(file: Path) -> None:
    _sql(file, "update alembic_version set version_num = 'v99.0.0.a'")


def garbage(file: Path) -> None:
    file.write_bytes(b"this is no database " * 1000)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:20_000])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def better(file: Path) -> None:
    _sql(file, "update trial_values set value = value + 0.1 where trial_value_id = 1")


def better_epoch(file: Path) -> None:
    _sql(file, "update trial_intermediate_values set intermediate_value = 0.99 where trial_intermediate_value_id = 1")


def other_parameter(file: Path) -> None:
    _sql(file, "update trial_params set param_value = param_value * 1.01 where param_name like 'learning_rate%'")


def other_recipe(file: Path) -> None:
    _sql(file, "update trial_user_attributes set value_json = '{}' where key = 'changes'")


def lost(file: Path) -> None:
    _sql(file, "delete from trials where number = 0")


def _sql(file: Path, statement: str) -> None:
    connection = sqlite3.connect(file)
    with connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [
        *(bad_json, bad_state, other_version, garbage, cut, emptied, folder),
        *(better, better_epoch, other_parameter, other_recipe, lost),
    ],
    ids=lambda f: f.__name__,
)
def test_a_damaged_database_is_named_with_the_way_out(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    job = job_in(tmp_path, 2)
    search(job, BOUND, objective=toys.toy, quiet=True)
    with sqlite3.connect(study_of(job)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")  # all of it is in the file now
    damage(study_of(job))
    with pytest.raises(StoreError) as found:
        search(job_in(tmp_path, 4), BOUND, objective=toys.toy, quiet=True)
    assert str(study_of(job)) in str(found.value)
    assert str(found.value).endswith("ensemble-fer runs remove toy")
    if damage is not folder:  # is none of a search's any more
        (problem,) = check_store(Store(job.store))["problems"]
        assert str(study_of(job)) in problem
        assert problem.endswith("ensemble-fer runs remove toy")


def test_elsewhere_the_way_out_is_another_file(tmp_path: Path) -> None:
    job = toys.job_of(tmp_path, 1, store=tmp_path / "store")
    garbage(tmp_path / "study.db")
    with pytest.raises(StoreError, match=r"Move .*study\.db away, or give another --storage"):
        search(job, BOUND, objective=toys.toy, quiet=True)


def test_an_empty_file_that_was_no_study_yet_is_filled(tmp_path: Path) -> None:
    """Made by hand, or left by a process that was killed before it had made the tables."""
    job = job_in(tmp_path, 1)
    study_of(job).touch()
    assert search(job, BOUND, objective=toys.toy, quiet=True).overview().done == 1


def test_what_a_sound_file_can_meet_is_not_called_damage(tmp_path: Path) -> None:
    url = storage.sqlite_url(tmp_path / "study.db")
    for said in ("unable to open database file", "database is locked", "attempt to write a readonly database"):
        error = unusable(sqlite3.OperationalError(said), url, "The way out.")
        assert said in str(error)
        assert "The way out." not in str(error)
    refused = unusable(sqlite3.OperationalError("connection refused"), "postgresql://me:secret@host/x", "The way out.")
    assert str(refused).startswith("the database postgresql://me:***@host/x cannot be used: connection refused.")
    assert "The way out." not in str(refused)
