"""Tasks of a study on a Ray cluster: each run a task with its share of processors and GPUs, the store a shared folder.

What a lost node was doing is done again elsewhere; a training goes on from its last checkpoint in the store.
"""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ensemble_fer.errors import MissingError
from ensemble_fer.study.workers import LOST, Task

LOCAL = "local"
RETRIES = 20
"""Times that a task is begun again after its node or process was lost."""
EVERYTHING = 1_000_000


class Cluster:
    """Tasks of a cluster that this process is connected to.

    Parameters
    ----------
    ray : module
    room : int
        Tasks that are handed over at once; the cluster does as many of them as it has processors for.
    cpus, gpus : float
        Share of each task.
    """

    def __init__(self, ray: Any, room: int, cpus: float, gpus: float) -> None:
        self.room, self._ray = room, ray
        self._options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": RETRIES}
        self._running: dict[Any, str] = {}

    def submit(self, key: str, task: Task, *given: Any) -> None:
        self._running[self._ray.remote(task).options(name=key, **self._options).remote(*given)] = key

    def next_done(self) -> tuple[str, dict]:
        (done,), _ = self._ray.wait(list(self._running), num_returns=1)
        key = self._running.pop(done)
        try:
            return key, self._ray.get(done)
        except self._ray.exceptions.RayTaskError as error:  # what the task itself has raised
            return key, {LOST: str(error.cause)}
        except self._ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines()
            why = lines[0] if lines else type(error).__name__
            return key, {LOST: f"it was lost on the cluster, up to {RETRIES + 1} times: {why}"}

    def cancel(self) -> None:
        """Interrupt what runs, as Ctrl-C does, so that checkpoints are written."""
        for task in self._running:
            with suppress(Exception):
                self._ray.cancel(task)


@contextmanager
def cluster_of(address: str, *, room: int | None = None, cpus: float = 1, gpus: float = 0) -> Iterator[Cluster]:
    """Connect to a Ray cluster for as long as the block lasts.

    Parameters
    ----------
    address : str
        ``local`` starts one on this machine, reachable from this machine alone, and ends it afterwards; else
        ``HOST:PORT`` of one that runs, or ``auto``.
    room : int, optional
        Tasks handed over at once; all by default.
    cpus, gpus : float
        Share of each task; a part of a GPU lets several runs use it.

    Raises
    ------
    MissingError
        Ray is not installed, there is no such cluster, or this machine has not the share of one task.

    Warns
    -----
    NoRoom
        No node of the cluster has the share of one task now: it waits for one that has.
    """
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
        import ray
    except ModuleNotFoundError as error:
        raise MissingError("a cluster needs Ray. Get it:  pip install 'ensemble-fer[cluster]'") from error
    host, _, port = address.rpartition(":")
    here: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if address == LOCAL else {}
    if host.startswith("127."):  # Ray would look for it at the address by which others see this machine
        here = {"_node_ip_address": host}
    try:
        if port.isdecimal() and host:  # Ray itself waits for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        at = None if address == LOCAL else address
        ray.init(address=at, log_to_driver=False, logging_level=logging.ERROR, **here)
    except (OSError, ValueError, OverflowError, RuntimeError, TimeoutError) as error:
        raise MissingError(
            f"there is no Ray cluster at {address}: {str(error).strip().splitlines()[0]}. "
            "Start one (ray start --head), or take --ray local."
        ) from error
    try:
        _check_room(ray, cpus, gpus, local=address == LOCAL)
        found = Cluster(ray, room or EVERYTHING, cpus, gpus)
        try:
            yield found
        except BaseException:
            found.cancel()
            raise
    finally:
        ray.shutdown()


class NoRoom(UserWarning):
    """No node of a cluster can do a task."""


def _check_room(ray: Any, cpus: float, gpus: float, *, local: bool) -> None:
    """Ray waits without a word for a node that has what a task asks for."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        return
    there = "; ".join(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
    says = f"no node has {cpus:g} processors and {gpus:g} GPUs, which one run asks for; there are: {there}."
    if local:
        raise MissingError(f"{says} Ask for fewer --threads or --gpus.")
    warnings.warn(f"{says} It waits until one joins.", NoRoom, stacklevel=2)
