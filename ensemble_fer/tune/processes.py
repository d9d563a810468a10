"""Several processes that work on one study, and their end: together on Ctrl-C, one by one when they are killed."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import time
import traceback
import uuid
import warnings
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from ensemble_fer.children import STOPPED, begin_child, stop
from ensemble_fer.errors import EnsembleFerError
from ensemble_fer.runtime import cpu_count
from ensemble_fer.tune.worker import Job, Objective, open_study, work

UNTOLD = 74
"""Exit code of a process that failed and could not write why."""
_LAST_WORDS = "failures"
_DEATHS = 10
"""Workers that may die without a trial being done meanwhile, beside one for each worker."""


def start_worker(job: Job, objective: Objective, words: Path | None = None) -> BaseProcess:
    """Start one process that works on the study; ``SIGTERM`` lets it put its trial back and end.

    Parameters
    ----------
    job : Job
    objective : callable
        A function at the top of a module, so that another process can import it.
    words : Path, optional
        Folder for what it has to say if it fails.
    """
    process = _context().Process(target=_run, args=(job, objective, words or job.folder / _LAST_WORDS))
    process.start()
    return process


def work_together(job: Job, objective: Objective, count: int, *, tick: Callable[[str], None]) -> None:
    """Let ``count`` processes work until the study is over; processes that die are replaced.

    The threads are divided among them, and the GPUs where there are several.

    Raises
    ------
    KeyboardInterrupt
        After all processes have put their trials back.
    EnsembleFerError
        A process could not work at all, or they die over and over.
    """
    jobs = [_share_of(job, index, count) for index in range(count)]
    _, slots = open_study(job)
    working: dict[int, BaseProcess] = {}
    deaths = done = 0
    # Of these processes alone: what was left by an earlier sitting says nothing about this one.
    words = job.folder / _LAST_WORDS / uuid.uuid4().hex
    try:
        for index in range(count):
            working[index] = start_worker(jobs[index], objective, words)
        while working:
            wait([process.sentinel for process in working.values()], timeout=0.5)
            tick("")
            for index, process in list(working.items()):
                if process.exitcode is None:
                    continue
                del working[index]
                _raise_last_words(words, untold=process.exitcode == UNTOLD)
                overview = slots.overview()
                if process.exitcode == 0 or overview.over:
                    continue
                if job.until is not None and time.time() >= job.until:
                    continue
                deaths = deaths + 1 if overview.done == done else 1
                done = overview.done
                if deaths > _DEATHS + count:
                    raise EnsembleFerError(
                        f"{deaths} processes of this study died in a row, the last with exit code {process.exitcode} "
                        "(-9 is a kill, often for want of memory). Take fewer --workers or a smaller batch_size; "
                        "the same command goes on."
                    )
                working[index] = start_worker(jobs[index], objective, words)
    finally:
        stop(list(working.values()))
        shutil.rmtree(words, ignore_errors=True)


def _run(job: Job, objective: Objective, words: Path) -> None:
    """What a process does."""
    begin_child()
    warnings.simplefilter("ignore")
    try:
        work(job, objective)
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except Exception as error:
        text = str(error) if isinstance(error, EnsembleFerError | OSError) else traceback.format_exc()
        try:
            words.mkdir(parents=True, exist_ok=True)
            (words / str(os.getpid())).write_text(text)
        except OSError:
            sys.exit(UNTOLD)
        sys.exit(1)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end is near anyway


def _raise_last_words(folder: Path, *, untold: bool) -> None:
    """Raise what a process has left that could not work."""
    for path in sorted(folder.glob("*")):
        text = path.read_text().strip()
        if text:
            raise EnsembleFerError(f"a process of this study failed: {text}")
        untold = True
    if untold:
        raise EnsembleFerError(
            f"a process of this study failed and could not write why into {folder}: the disk may be full. "
            "When there is room again the same command goes on."
        )


def _share_of(job: Job, index: int, count: int) -> Job:
    """The job of one of several processes: its part of the processor's threads, and its GPU."""
    job = replace(job, threads=max(1, (job.threads or cpu_count()) // count))
    if job.device not in ("auto", "cuda"):
        return job
    import torch

    gpus = torch.cuda.device_count()
    return replace(job, device=f"cuda:{index % gpus}") if gpus > 1 else job


def _context() -> ForkServerContext | SpawnContext:
    """Processes begin without what this one has in memory, torch's threads above all, which do not survive a fork."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # Loaded once for all. Torch is not: not all that it sets up when it is loaded survives a fork.
    context.set_forkserver_preload(
        ["ensemble_fer.tune.worker", "sqlalchemy.orm", "sqlalchemy.dialects.sqlite", "alembic.command"]
    )
    return context
