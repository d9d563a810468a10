"""Objectives that cost nothing, at the top of a module so that other processes can import them."""

from __future__ import annotations

import math
import os
import signal
import time
from pathlib import Path
from typing import Any

from ensemble_fer.config import resolve_recipe
from ensemble_fer.tune.binding import bind
from ensemble_fer.tune.slots import Slots
from ensemble_fer.tune.spaces import Space
from ensemble_fer.tune.storage import sqlite_url
from ensemble_fer.tune.worker import Candidate, Job, TrialDiverged, open_study


def score_of(candidate: Candidate) -> float:
    """Best, 0.9, at a learning rate of 0.02 whatever the rest."""
    return 0.9 - 0.3 * abs(math.log10(candidate.recipe.learning_rate / 0.02))


def toy(candidate: Candidate) -> float:
    score = score_of(candidate)
    for epoch in range(1, candidate.recipe.epochs + 1):
        candidate.report(epoch, score * epoch / candidate.recipe.epochs)
    return score


def slow(candidate: Candidate) -> float:
    """Slow while there is a file ``slow`` in the job's folder."""
    for epoch in range(1, 4):
        time.sleep(0.5 if (candidate.job.folder / "slow").exists() else 0.0)
        candidate.report(epoch, epoch / 10)
        candidate.tick(f"epoch {epoch}")
    return score_of(candidate)


def very_slow(candidate: Candidate) -> float:
    candidate.report(1, 0.1)
    (candidate.job.folder / f"began-{candidate.recipe.learning_rate}").touch()
    time.sleep(60)
    return 0.0


def broken(candidate: Candidate) -> float:
    raise ValueError("the toy is broken")


def half_broken(candidate: Candidate) -> float:
    if candidate.recipe.learning_rate > 0.02:
        raise MemoryError("too large a rate")
    return score_of(candidate)


def diverging(candidate: Candidate) -> float:
    candidate.report(1, 0.2)
    raise TrialDiverged("the loss became nan at step 7")


def resuming(candidate: Candidate) -> float:
    """Interrupted in its first sitting, after it has left something in its folder."""
    note = candidate.folder / "checkpoint"
    if not note.exists():
        note.write_text("half done")
        raise KeyboardInterrupt
    return score_of(candidate)


def job_of(folder: Path, trials: int, **changes: Any) -> Job:
    """A job over the optimizer space in a new SQLite file."""
    space = Space(("optimizer",), resolve_recipe(None, epochs=2))
    given: dict[str, Any] = {
        "url": sqlite_url(folder / "study.db"),
        "study": "toy",
        "folder": folder,
        "space": space,
        "trials": trials,
        "sampler": "random",
        "store": folder,
        "device": "cpu",
        **changes,
    }
    return Job(**given)


def begun(job: Job) -> Slots:
    """The slots of a job whose study is made now."""
    study, slots = open_study(job, create=True)
    bind(study, {"toy": True})
    return slots


def threads(candidate: Candidate) -> float:
    """How many threads the process may use."""
    time.sleep(0.2)
    return float(candidate.job.threads or 0)


def dies_once(candidate: Candidate) -> float:
    """Kills its process the first time."""
    note = candidate.job.folder / "died"
    if not note.exists():
        note.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return score_of(candidate)


def sleepy(candidate: Candidate) -> float:
    time.sleep(0.6)
    return score_of(candidate)
