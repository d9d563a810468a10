"""A study makes what its file asks for, once, and goes on where it was; a failure is written down, the rest is made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import psutil
import pytest

from ensemble_fer.config import Recipe
from ensemble_fer.errors import MissingError, StoreError, UsageError
from ensemble_fer.store import NameMoved, Store
from ensemble_fer.study.costing import forecast
from ensemble_fer.study.done import done_cells
from ensemble_fer.study.making import score_cell
from ensemble_fer.study.plan import Study
from ensemble_fer.study.reading import read_study
from ensemble_fer.study.running import last_rows, run_study
from ensemble_fer.study.workers import LOST, pool_of
from ensemble_fer.train import train

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


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Study, dict, list[dict]]:
    """The study made by one process: its store, what came of it, and the rows as they were told."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "little.toml").write_text(FILE)
    store, study = Store(folder / "store"), read_study(folder / "little.toml")
    told: list[dict] = []
    return store, study, run_study(store, study, threads=1, quiet=True, report=told.append), told


def test_all_of_it_once(alone: tuple[Store, Study, dict, list[dict]], monkeypatch: pytest.MonkeyPatch) -> None:
    store, study, found, told = alone
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


def test_several_processes_make_the_same(alone: tuple[Store, Study, dict, list[dict]], tmp_path: Path) -> None:
    _, study, one, _ = alone
    together = run_study(Store(tmp_path / "b"), study, jobs=2, threads=1, quiet=True)

    def said(found: dict) -> list:
        return [
            (row["name"], row["id"], row["select"], row["test"]["accuracy"], row["test"]["protocol"]["looks"])
            for row in found["rows"]
        ]

    assert said(together) == said(one)
    with pytest.raises(UsageError, match="jobs 0"):
        run_study(Store(tmp_path / "a"), study, jobs=0)


def test_what_nobody_foresaw_ends_one_run_and_not_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(store: Store, recipe: Recipe, **more: object) -> object:
        if recipe.resampling != "none":
            raise RuntimeError("a defect")
        return train(store, recipe, **more)  # pyright: ignore[reportArgumentType]

    def unread(root: Path, kind: str, identity: str, quiet: bool) -> dict:
        if kind == "run" and Store(root).name_of(Store(root).by_id(kind, identity)).endswith("constant-s0"):
            raise StoreError("damaged")
        return score_cell(root, kind, identity, quiet)

    monkeypatch.setattr("ensemble_fer.study.making.train", broken)
    monkeypatch.setattr("ensemble_fer.study.running.score_cell", unread)
    (tmp_path / "little.toml").write_text(FILE)
    store, study = Store(tmp_path / "store"), read_study(tmp_path / "little.toml")
    found = run_study(store, study, threads=1, quiet=True)
    problems = {row["of"]: row["problem"] for row in found["rows"] if "problem" in row}
    assert problems["balanced/ros"].startswith("RuntimeError: a defect (test_running.py, line ")
    assert problems["schedules/constant"] == "its test part could not be scored: damaged"
    assert set(problems) == {"balanced/ros", "schedules/constant", "pair"}
    assert [row["of"] for row in found["rows"] if row.get("test")] == ["balanced/none", "schedules/cosine", "on"]
    assert last_rows(store, study) == found["rows"]


def sleepy(folder: str, number: int) -> dict:
    """A task that says who does it, and takes a while the first time."""
    place = Path(folder) / str(number)
    first = not place.exists()
    place.write_text(str(os.getpid()))
    if first and number == 1:
        time.sleep(60)
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"number": number}


def test_a_process_that_dies_is_replaced(tmp_path: Path) -> None:
    done = {}
    with pool_of(2) as pool:
        for number in range(4):
            pool.submit(f"task {number}", sleepy, str(tmp_path), number)
        deadline = time.monotonic() + 60
        while not (tmp_path / "1").exists() or not (tmp_path / "1").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(int((tmp_path / "1").read_text()), signal.SIGKILL)
        for _ in range(4):
            key, result = pool.next_done()
            done[key] = result
    assert done.pop("task 3") == {
        LOST: "its process was ended 2 times, the last time by signal 9 (9 is a kill, often for want of memory)"
    }
    assert done == {f"task {number}": {"number": number} for number in range(3)}


def warning(number: int) -> dict:
    """A task that warns, as ours do and as libraries do."""
    warnings.warn("ours \x1b[2J", NameMoved, stacklevel=1)
    warnings.warn("of a library", UserWarning, stacklevel=1)
    return {"number": number}


def test_what_processes_warn_of_are_lines_too(capfd: pytest.CaptureFixture[str]) -> None:
    with pool_of(2) as pool:
        pool.submit("task", warning, 1)
        assert pool.next_done() == ("task", {"number": 1})
    assert capfd.readouterr().err == "warning: ours \\x1b[2J\n"


RUN = """
import signal, sys
from pathlib import Path
from ensemble_fer.store import Store
from ensemble_fer.study.reading import read_study
from ensemble_fer.study.running import run_study

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored in what a shell has begun with &
    run_study(Store(sys.argv[1]), read_study(sys.argv[2]), jobs=2, threads=1, quiet=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_trains_on_when_the_first_has_ended(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "run.py").write_text(RUN)
    (tmp_path / "little.toml").write_text(FILE.replace("epochs = 1", "epochs = 500"))
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "store"), str(tmp_path / "little.toml")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 90
        while len(list(tmp_path.glob("store/unfinished/*/checkpoint.safetensors"))) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        process.send_signal(how)
        try:
            assert process.wait(timeout=60) != 0
        finally:
            process.kill()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]
    assert len(list(tmp_path.glob("store/unfinished/*/checkpoint.safetensors"))) == 2, "what was begun goes on"


def test_hours_are_not_less_than_the_processors_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "little.toml").write_text(FILE)
    study, store = read_study(tmp_path / "little.toml"), Store(tmp_path / "store")
    monkeypatch.setattr("ensemble_fer.study.costing.cpu_count", lambda: 4)
    one = forecast(store, study, threads=2)["hours"]
    for jobs, times in ((2, 2), (64, 2)):
        assert forecast(store, study, jobs=jobs, threads=2)["hours"] == pytest.approx(one / times)
    with pytest.raises(UsageError, match="expected at most 256"):
        forecast(store, study, threads=5000)
    for wrong in ({"threads": 5000}, {"gpus": 1.0}):
        with pytest.raises(UsageError):
            run_study(store, study, quiet=True, **wrong)  # pyright: ignore[reportArgumentType]
    assert not store.root.exists()


def test_what_was_made_for_another_file_is_not_taken_for_this_one(tmp_path: Path) -> None:
    path, store = tmp_path / "little.toml", Store(tmp_path / "store")
    one = FILE[: FILE.index("[[stage]]")] + '[[stage]]\nname = "only"\n' + FILE[FILE.index("[scale.smoke]") :]
    path.write_text(one.replace("look = true", ""))
    found = run_study(store, read_study(path), threads=1, quiet=True)
    assert last_rows(store, read_study(path)) == found["rows"]
    assert forecast(store, read_study(path))["done"] == 1
    for old, new in (("epochs = 1", "epochs = 2"), ("drawn:400", "drawn:300")):
        path.write_text(one.replace("look = true", "").replace(old, new))
        assert forecast(store, read_study(path))["done"] == 0, new
        assert done_cells(store, read_study(path)) == (0, 1), new
        with pytest.raises(MissingError, match="asks for other runs"):
            last_rows(store, read_study(path))


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


def test_spaces_combinations_leaks_and_ensembles_over_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    monkeypatch.setattr("ensemble_fer.study.making.memory", lambda *_: pytest.fail("measured again"))
    again = run_study(store, study, threads=1, quiet=True)
    assert [row.get("memory") for row in again["rows"]] == [row.get("memory") for row in found["rows"]]
    four = store.by_id("ensemble", rows["four", 0]["id"])
    assert four.inputs[:4] == [rows[of, seed]["id"] for seed in (0, 1) for of in ("data/none", "data/ros")]
    assert ("four", 1) not in rows
