"""Several processes: they share the work, and end together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from optuna.trial import TrialState

from ensemble_fer.errors import EnsembleFerError
from ensemble_fer.tune.processes import start_worker, work_together
from ensemble_fer.tune.slots import INTERRUPTED
from tests.tune import toys

ROOT = Path(__file__).parents[2]
# A program with two processes in the middle of trials that take a minute.
SCRIPT = """
import sys
from pathlib import Path
from ensemble_fer.tune.processes import work_together
from tests.tune import toys
if __name__ == "__main__":
    job = toys.job_of(Path(sys.argv[1]), 4)
    toys.begun(job)
    work_together(job, toys.very_slow, 2, tick=lambda text: None)
"""


def test_two_processes_share_threads_and_work(tmp_path: Path) -> None:
    job = toys.job_of(tmp_path, 6, threads=5)
    slots = toys.begun(job)
    ticks = []
    work_together(job, toys.threads, 2, tick=ticks.append)
    trials = slots.study.get_trials()
    assert [t.value for t in trials] == [2.0] * 6
    assert len({t.user_attrs["worker"] for t in trials}) == 2
    assert ticks


def test_what_keeps_a_process_from_working_is_said(tmp_path: Path) -> None:
    job = toys.job_of(tmp_path, 2)
    toys.begun(job)
    (tmp_path / "study.db.workers").touch()  # where a folder has to be
    with pytest.raises(EnsembleFerError, match=r"a process of this study failed: .*File exists"):
        work_together(job, toys.toy, 1, tick=lambda text: None)


def test_a_process_that_is_killed_is_replaced(tmp_path: Path) -> None:
    job = toys.job_of(tmp_path, 3)
    slots = toys.begun(job)
    work_together(job, toys.dies_once, 1, tick=lambda text: None)
    rows = [(t.user_attrs["slot"], t.state) for t in slots.study.get_trials()]
    assert rows[0] == (0, TrialState.FAIL)
    assert [slot for slot, state in rows if state == TrialState.COMPLETE] == [0, 1, 2]


def test_sigterm_puts_the_trial_back(tmp_path: Path) -> None:
    job = toys.job_of(tmp_path, 1)
    slots = toys.begun(job)
    process = start_worker(job, toys.very_slow)
    until(lambda: list(tmp_path.glob("began-*")))
    process.terminate()
    process.join(20)
    assert process.exitcode == 130
    (trial,) = slots.study.get_trials()
    assert trial.user_attrs["ended"] == INTERRUPTED


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_all_end_with_the_first_process_and_the_study_goes_on(tmp_path: Path, how: signal.Signals) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True
    )
    until(lambda: len(list(tmp_path.glob("began-*"))) == 2)
    os.kill(first.pid, how)
    first.communicate(timeout=30)
    assert first.returncode != 0
    job = toys.job_of(tmp_path, 4)
    slots = toys.begun(job)
    until(lambda: not slots.study.get_trials(states=(TrialState.RUNNING,)))
    until(lambda: not alive_with(str(tmp_path)))
    ended = [t.user_attrs["ended"] for t in slots.study.get_trials()]
    assert ended == [INTERRUPTED] * 2
    from ensemble_fer.tune.worker import work

    work(job, toys.toy)
    assert slots.overview().done == 4


def until(happened, seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it has not happened"
        time.sleep(0.1)


def alive_with(folder: str) -> list[str]:
    """Processes that hold a file in a folder."""
    from ensemble_fer.tune.storage import is_alive

    workers = Path(folder) / "study.db.workers"
    return [p.name for p in workers.iterdir() if is_alive(workers, p.name)] if workers.is_dir() else []
