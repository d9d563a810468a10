"""Several processes of this machine bring one training to its end: each with its share of every batch, or its own GPU.

They work on the checkpoint in the folder of the unfinished training, which the first of them writes. What they leave
there is what one process would have left, to rounding and what batch norm takes for a batch.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch

from ensemble_fer.children import STOPPED, begin_child, stop
from ensemble_fer.config import Recipe
from ensemble_fer.devices import choose_device
from ensemble_fer.errors import EnsembleFerError, MissingError, UsageError
from ensemble_fer.store import Store, artifact_id
from ensemble_fer.train.preparing import Prepared, learn, prepare
from ensemble_fer.train.team import Shared

LEAST = 2
"""Faces of each process in a batch: batch norm needs two."""


@dataclass(frozen=True)
class Share:
    """What one of the processes is to do; of values that can be sent to it."""

    root: Path
    recipe: Recipe
    data: str
    run: str
    folder: Path
    devices: tuple[str, ...]
    threads: int
    rank: int
    port: int


def check_team(recipe: Recipe, processes: int, device: str) -> tuple[str, ...]:
    """The device of each process.

    Raises
    ------
    UsageError
        Fewer than one process, a batch too small for so many, or one device for several.
    MissingError
        Not so many GPUs here, or accelerate is not installed.
    """
    if processes < 1:
        raise UsageError(f"processes {processes}: expected 1 or more.")
    if processes == 1:
        return (device,)
    if recipe.batch_size < LEAST * processes:
        raise UsageError(
            f"a batch of {recipe.batch_size} is too small for {processes} processes: each needs {LEAST} faces of it. "
            "Take fewer processes or a larger batch_size."
        )
    if importlib.util.find_spec("accelerate") is None:
        raise MissingError(
            "several processes for one training need accelerate. Get it:  pip install 'ensemble-fer[parallel]'"
        )
    kind = str(choose_device(device))
    if kind not in ("cpu", "cuda"):
        raise UsageError(f"device {device} is one, for {processes} processes. Give cpu, or cuda for a GPU each.")
    if kind == "cpu":
        return ("cpu",) * processes
    if torch.cuda.device_count() < processes:
        raise MissingError(f"{processes} processes need a GPU each; here are {torch.cuda.device_count()}.")
    return tuple(f"cuda:{index}" for index in range(processes))


def learn_together(
    store: Store,
    prepared: Prepared,
    folder: Path,
    devices: tuple[str, ...],
    *,
    threads: int,
    report: Callable[[int, dict], None] = lambda step, values: None,
) -> None:
    """Bring the training in ``folder`` to its end with a process for each device.

    Parameters
    ----------
    store : Store
    prepared : Prepared
    folder : Path
        Of the unfinished training; its checkpoint is at the last step afterwards.
    devices : tuple of str
        See ``check_team``.
    threads : int
        Of all together.
    report : callable
        See ``fit``.

    Raises
    ------
    KeyboardInterrupt
        All have ended after the same step, and the checkpoint is written.
    EnsembleFerError
        What one of them raised, or that one was killed.
    """
    run = artifact_id("run", prepared.spec, prepared.inputs)
    port, each = _free_port(), max(1, threads // len(devices))
    context = multiprocessing.get_context("spawn")
    lines: list[Connection] = []
    processes = []
    said: list[tuple[str, str]] = []

    def hear(line: Connection) -> None:
        """Take what a process says; its line is gone when it has ended."""
        try:
            word = line.recv()
        except EOFError:
            lines.remove(line)
            return
        if word[0] == "step":
            report(word[1], word[2])
        else:
            said.append(word)

    try:
        for rank in range(len(devices)):
            ours, theirs = context.Pipe(duplex=False)
            share = Share(
                store.root.resolve(),
                prepared.recipe,
                prepared.data.id,
                run,
                folder.resolve(),
                devices,
                each,
                rank,
                port,
            )
            process = context.Process(target=_work, args=(share, theirs))
            process.start()
            theirs.close()
            lines.append(ours)
            processes.append(process)
        while lines and not any(process.exitcode for process in processes):
            for line in wait(lines, timeout=0.5):
                assert isinstance(line, Connection)
                hear(line)
        if not lines:  # all have nothing more to say, and are ending
            for process in processes:
                process.join()
    finally:
        stop(processes)
    while lines:
        hear(lines[0])
    _raise_what_happened(said, [process.exitcode or 0 for process in processes])


def _raise_what_happened(said: list[tuple[str, str]], codes: list[int]) -> None:
    """Raise for processes that did not come to the end; first what one of them knows about itself."""
    problems = [text for kind, text in said if kind == "problem"]
    if problems:
        raise EnsembleFerError(problems[0])
    killed = [rank for rank, code in enumerate(codes) if code < 0]
    if killed:
        raise EnsembleFerError(
            f"process {killed[0]} of {len(codes)} of this training was ended by signal {-codes[killed[0]]} (9 is a "
            "kill, often for want of memory). The same command goes on from the last checkpoint."
        )
    if any(code == STOPPED for code in codes):
        raise KeyboardInterrupt
    if any(codes):
        broken = [text for kind, text in said if kind == "broken"]
        raise EnsembleFerError(f"a process of this training failed: {broken[0] if broken else codes}")


def _work(share: Share, line: Connection) -> None:
    """What each of the processes does."""
    begin_child()
    try:
        _learn_share(share, line)
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except EnsembleFerError as error:
        line.send(("problem", str(error)))
        sys.exit(1)
    except Exception:
        line.send(("broken", traceback.format_exc()))
        sys.exit(1)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end is near anyway


def _learn_share(share: Share, line: Connection) -> None:
    size, device = len(share.devices), torch.device(share.devices[share.rank])
    os.environ |= {
        "RANK": str(share.rank),
        "LOCAL_RANK": str(share.rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(share.port),
        "OMP_NUM_THREADS": str(share.threads),
    }
    if Path("/sys/class/net/lo").exists():
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # else it listens where others can reach it
    from accelerate import PartialState

    state = PartialState(cpu=True, backend="gloo") if device.type == "cpu" else PartialState()
    try:
        torch.set_num_threads(share.threads)
        store = Store(share.root)
        prepared = prepare(store, share.recipe, data=share.data, processes=size, quiet=True)
        if artifact_id("run", prepared.spec, prepared.inputs) != share.run:
            raise UsageError("what this training is made from was changed meanwhile. Give the command again.")
        first = share.rank == 0
        learn(
            prepared,
            share.folder,
            device=str(device),
            team=Shared(size, share.rank, device),
            report=(lambda step, values: line.send(("step", step, values))) if first else lambda step, values: None,
        )
    finally:
        state.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
