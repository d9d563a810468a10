"""Processes that share a study are killed at any moment: no trial is lost, none is done twice."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from ensemble_fer.config import resolve_recipe
from ensemble_fer.tune.processes import start_worker, stop
from ensemble_fer.tune.slots import DONE, KILLED, Slots
from ensemble_fer.tune.spaces import Space
from ensemble_fer.tune.worker import Job
from tests.tune.toys import begun, job_of, slow

WORKERS, TRIALS = 20, 36


def rounds_of_killing(job: Job, slots: Slots, rounds: int, dice: random.Random) -> int:
    """Start 20 processes, kill each at a random moment, so many times; then let three finish. How many were killed."""
    killed = 0
    (job.folder / "slow").touch()
    for _ in range(rounds):
        processes = [start_worker(job, slow) for _ in range(WORKERS)]
        order = dice.sample(processes, WORKERS)
        while slots.overview().running < 8 and any(p.exitcode is None for p in processes):
            time.sleep(0.1)
        for process in order:
            time.sleep(dice.uniform(0, 0.04))
            if process.exitcode is None and process.pid is not None:
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
        for process in processes:
            process.join()
    (job.folder / "slow").unlink()
    last = [start_worker(job, slow) for _ in range(3)]
    try:
        for process in last:
            process.join(60)
            assert process.exitcode == 0
    finally:
        stop(last)
    return killed


def asked(trial: FrozenTrial) -> dict:
    """What a trial was to be run with, as far as that was known when it ended."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def test_twenty_workers_are_killed_at_random_and_exactly_n_trials_are_done(tmp_path: Path) -> None:
    # Half of the slots are points of a grid, the parameters of the others are drawn.
    space = Space(("optimizer",), resolve_recipe(None))
    points = tuple(space.points(3))[: TRIALS // 2]
    job = job_of(tmp_path, TRIALS, space=space, fixed=points, sampler="random", most_kills=1000)
    slots = begun(job)
    killed = rounds_of_killing(job, slots, 2, random.Random(7))
    assert killed >= WORKERS, "the study was over before anybody was killed; the test shows nothing"

    found = slots.study.get_trials()
    states = Counter(t.state for t in found)
    assert states[TrialState.RUNNING] == states[TrialState.WAITING] == 0
    assert sum(states[s] for s in DONE) == TRIALS
    assert [t.number for t in found] == list(range(len(found)))
    finished = {t.user_attrs["slot"]: t for t in found if t.state in DONE}
    assert sorted(finished) == list(range(TRIALS))
    assert [finished[slot].params for slot in range(len(points))] == list(points)
    lost = [t for t in found if t.state == TrialState.FAIL]
    assert lost, "nobody was killed while a trial ran"
    assert {t.user_attrs["ended"] for t in lost} == {KILLED}
    for trial in lost:
        again = [t for t in found if t.user_attrs.get("retry_of") == trial.number]
        assert len(again) == 1
        assert asked(again[0]).items() >= asked(trial).items(), "what was drawn is not drawn again"
