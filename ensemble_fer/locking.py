"""One process at a time: locks of files, which the kernel lets go of when their holder ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

# What file systems say that know no locks.
_UNKNOWN = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL)


@contextmanager
def locked(path: Path | None) -> Iterator[None]:
    """Hold the lock of a file, which stays; with None, hold nothing."""
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def alone(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of a file that is there for as long as somebody holds it or waits for it.

    Where the file system knows no locks nothing is held.

    Parameters
    ----------
    path : Path
    waiting : callable
        Is called once if another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    said = False

    def say() -> None:
        nonlocal said
        if not said:
            said = True
            waiting()

    while True:
        file = path.open("ab")
        try:
            _wait(file, say)
            if _lies_at(file, path):
                break
        except BaseException:
            file.close()
            raise
        file.close()  # who held it before has removed it, and others lock a new one
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def remove_left(folder: Path) -> list[Path]:
    """Remove the files of ``alone`` that killed processes have left; which these were."""
    gone = []
    for path in sorted(folder.glob("*")):
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue  # it is held, or locks are unknown here
            if _lies_at(file, path):
                path.unlink()
                gone.append(path)
    return gone


def _wait(file: IO[bytes], say: Callable[[], None]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say()
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise


def _lies_at(file: IO[bytes], path: Path) -> bool:
    """Whether an open file is the one of this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
