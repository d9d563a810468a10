"""Processes that this one starts: how they hear that they should end, and that nobody needs them any more."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Sequence
from multiprocessing.process import BaseProcess

from ensemble_fer.errors import say_warning

STOPPED = 130
"""Exit code of a process that was asked to end."""
_SECONDS_TO_STOP = 120.0


def begin_child() -> None:
    """What a started process does first: ``SIGTERM`` raises KeyboardInterrupt, Ctrl-C on the terminal does not.

    Ctrl-C reaches the first process alone, which then stops the others once: a second signal would cut short what the
    first one began. It also ends, as on ``SIGTERM``, when the process that started it is gone, killed perhaps.
    Warnings are said as the command line says them.
    """
    warnings.showwarning = say_warning
    if hasattr(os, "setsid"):
        os.setsid()
    signal.signal(signal.SIGTERM, _interrupt)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def stop(processes: Sequence[BaseProcess]) -> None:
    """Ask processes to put away what they have and end; kill those that do not within two minutes."""
    for process in processes:
        if process.exitcode is None:
            process.terminate()
    deadline = time.monotonic() + _SECONDS_TO_STOP
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.exitcode is None:
            process.kill()
            process.join()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
