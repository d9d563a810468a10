"""Where the tasks of a study are done: here, one after the other, or in several processes at once.

A pool takes tasks and gives results as they are done. A task is a function at the top of a module with arguments that
can be sent to another process; it gives JSON values and does not raise for what a user can cause.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Protocol

Task = Callable[..., dict]


class Pool(Protocol):
    """Takes tasks, and gives each one's key with its result when it is done."""

    room: int
    """Tasks that are worth having at once."""

    def submit(self, key: str, task: Task, *given: Any) -> None: ...

    def next_done(self) -> tuple[str, dict]: ...


class Here:
    """In this process, when the result is asked for."""

    room = 1

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, Task, tuple]] = deque()

    def submit(self, key: str, task: Task, *given: Any) -> None:
        self._waiting.append((key, task, given))

    def next_done(self) -> tuple[str, dict]:
        key, task, given = self._waiting.popleft()
        return key, task(*given)


class Processes:
    """In ``jobs`` processes, started afresh so that none inherits the threads of this one."""

    def __init__(self, executor: ProcessPoolExecutor, jobs: int) -> None:
        self.room, self._executor = jobs, executor
        self._running: dict[Future, str] = {}

    def submit(self, key: str, task: Task, *given: Any) -> None:
        self._running[self._executor.submit(task, *given)] = key

    def next_done(self) -> tuple[str, dict]:
        done = next(iter(wait(self._running, return_when=FIRST_COMPLETED).done))
        return self._running.pop(done), done.result()


@contextmanager
def pool_of(jobs: int | None, *, ray: str | None = None, cpus: float = 1, gpus: float = 0) -> Iterator[Pool]:
    """A pool of so many processes; of one, this process; with ``ray`` a cluster, see ``cluster_of``."""
    if ray is not None:
        from ensemble_fer.study.cluster import cluster_of

        with cluster_of(ray, room=jobs, cpus=cpus, gpus=gpus) as cluster:
            yield cluster
        return
    if jobs in (None, 1):
        yield Here()
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as executor:
        try:
            yield Processes(executor, jobs)
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
