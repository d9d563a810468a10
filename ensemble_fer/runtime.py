"""What this machine is and how long work takes: threads, peak memory, progress on the terminal."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ensemble_fer.errors import UsageError

MOST_THREADS = 256

T = TypeVar("T")


def cpu_count() -> int:
    """Processors this process may use: those it is allowed on, or fewer if OMP_NUM_THREADS says so."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(allowed, int(asked)) if asked.isdigit() and int(asked) else allowed


def peak_mb() -> float:
    """Largest resident memory of this process so far, in MB (10^6 bytes)."""
    try:
        # Of this program alone: getrusage keeps what the process was before it began it.
        status = Path("/proc/self/status").read_text()
        return round(int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6, 1)
    except (OSError, IndexError, ValueError):
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)


def machine() -> dict:
    """Processor, cores and Python of this machine, for manifests and result pages."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123 - a kernel file, not a path of ours
            model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass
    return {"processor": model, "cores": cpu_count(), "python": platform.python_version(), "system": sys.platform}


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let no Ctrl-C and no SIGTERM in while files are finished; they would be lost by it. In the main thread."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_threads(threads: int | None) -> None:
    """Raise UsageError for more threads than any machine uses well, and many times more than this one has."""
    most = max(MOST_THREADS, 4 * cpu_count())
    if threads is not None and threads > most:
        raise UsageError(f"threads {threads:,}: this machine has {cpu_count()} processors; expected at most {most}.")


@contextmanager
def progress(total: int, what: str, *, quiet: bool = False) -> Iterator:
    """A progress bar with time left on stderr.

    Yields ``advance(n=1, note="")``. Nothing is drawn when ``quiet`` or stderr is not a terminal.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda n=1, note="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, note="")

        def advance(n: int = 1, note: str = "") -> None:
            bar.update(task, advance=n, note=note)

        yield advance


def tracked(items: Iterable[T], total: int, what: str, *, quiet: bool = False) -> Iterator[T]:
    """Iterate with a progress bar."""
    with progress(total, what, quiet=quiet) as advance:
        for item in items:
            yield item
            advance()
