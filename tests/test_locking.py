"""Locks: one at a time, let go of by whoever dies, and no file left."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ensemble_fer.locking import alone, remove_left

HOLD = (
    "import sys, time; from pathlib import Path; from ensemble_fer.locking import alone\n"
    "with alone(Path(sys.argv[1])):\n"
    "    print('held', flush=True); time.sleep(60)\n"
)


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen]:
    """A process that holds a lock, and is killed at the end if it was not before."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_no_two_at_once_and_no_file_left(tmp_path: Path) -> None:
    inside, most, seen = 0, 0, []

    def enter() -> None:
        nonlocal inside, most
        for _ in range(20):
            with alone(tmp_path / "locks/one", lambda: seen.append(1)):
                inside += 1
                most = max(most, inside)
                time.sleep(0.001)
                inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert seen, "some had to wait"
    assert not list((tmp_path / "locks").iterdir())


def test_a_killed_holder_keeps_nobody_out(tmp_path: Path) -> None:
    path = tmp_path / "one"
    waited: list[float] = []
    with holder(path) as process:
        threading.Timer(0.3, process.kill).start()
        with alone(path, lambda: waited.append(time.monotonic())):
            assert waited
            assert process.wait(timeout=10) == -9
    assert not path.exists()


def test_what_is_left_is_removed_and_what_is_held_is_not(tmp_path: Path) -> None:
    with holder(tmp_path / "left"):
        pass
    with alone(tmp_path / "held"):
        assert remove_left(tmp_path) == [tmp_path / "left"]
        assert (tmp_path / "held").exists()
    assert remove_left(tmp_path / "nothing") == []


def test_an_error_inside_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), alone(tmp_path / "one"):
        raise ZeroDivisionError
    with alone(tmp_path / "one", lambda: pytest.fail("nobody holds it")):
        pass


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with alone(tmp_path / "one", lambda: pytest.fail("nobody holds it")):
        pass
    assert not (tmp_path / "one").exists()

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="broken"), alone(tmp_path / "one"):
        pass
