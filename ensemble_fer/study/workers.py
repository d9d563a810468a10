"""Where the tasks of a study are done: here, one after the other, or in several processes at once.

A pool takes tasks and gives results as they are done. A task is a function at the top of a module with arguments that
can be sent to another process; it gives JSON values and does not raise for what a user can cause.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from ensemble_fer.children import STOPPED, begin_child, stop

Task = Callable[..., dict]
LOST = "lost"
"""Key of the result of a task whose process or node ended before it: why."""
TRIES = 2
"""Times that a task is begun whose process ends before it, for want of memory perhaps."""


class Pool(Protocol):
    """Takes tasks, and gives each one's key with its result when it is done; ``{"lost": why}`` where it never was."""

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


@dataclass
class Given:
    """A task that was handed over, and how often."""

    key: str
    task: Task
    given: tuple
    tries: int = 0


@dataclass
class Worker:
    """A process and what it is doing."""

    process: BaseProcess
    line: Connection
    doing: Given | None = None


class Processes:
    """In ``jobs`` processes, started afresh so that none inherits the threads of this one.

    One that dies is replaced, and what it did is begun once more; the others go on.
    """

    def __init__(self, jobs: int) -> None:
        self.room = jobs
        self._waiting: deque[Given] = deque()
        self._workers: list[Worker] = []
        self._context = multiprocessing.get_context("spawn")

    def submit(self, key: str, task: Task, *given: Any) -> None:
        self._waiting.append(Given(key, task, given))
        self._hand_out()

    def next_done(self) -> tuple[str, dict]:
        while True:
            busy = [worker for worker in self._workers if worker.doing is not None]
            ready = wait([worker.line for worker in busy])
            for worker in busy:
                if worker.line in ready and (done := self._heard(worker)) is not None:
                    self._hand_out()
                    return done
            self._hand_out()

    def stop(self) -> None:
        """Interrupt what runs, so that checkpoints are written, and end."""
        for worker in self._workers:
            worker.line.close()
        stop([worker.process for worker in self._workers])

    def _heard(self, worker: Worker) -> tuple[str, dict] | None:
        """The result of a worker; None where it has died and its task is begun again."""
        own = worker.doing
        assert own is not None
        try:
            result = worker.line.recv()
            worker.doing = None
            return own.key, result
        except (EOFError, ConnectionResetError):
            self._workers.remove(worker)
            worker.line.close()
            worker.process.join()
        if own.tries < TRIES:
            self._waiting.appendleft(own)
            return None
        code = worker.process.exitcode or 0
        how = f"signal {-code} (9 is a kill, often for want of memory)" if code < 0 else f"exit code {code}"
        return own.key, {LOST: f"its process was ended {TRIES} times, the last time by {how}"}

    def _hand_out(self) -> None:
        for worker in list(self._workers):
            if self._waiting and worker.doing is None:
                self._give(worker)
        while self._waiting and len(self._workers) < self.room:
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=_work, args=(theirs,))
            process.start()
            theirs.close()
            self._workers.append(Worker(process, ours))
            self._give(self._workers[-1])

    def _give(self, worker: Worker) -> None:
        own = self._waiting.popleft()
        own.tries += 1
        worker.doing = own
        with suppress(BrokenPipeError, ConnectionResetError):  # it has died meanwhile; its end of the line says so
            worker.line.send((own.task, own.given))


def _work(line: Connection) -> None:
    """What each process does: tasks, until there are no more."""
    begin_child()
    try:
        while True:
            try:
                task, given = line.recv()
            except (EOFError, ConnectionResetError):
                return
            line.send(task(*given))
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end is near anyway


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
    pool = Processes(jobs)
    try:
        yield pool
    finally:
        pool.stop()
