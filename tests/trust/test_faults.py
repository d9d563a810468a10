"""A disk that fails at any one write: a message, the former state intact, and the same result the next time.

What fails is the opening of a file for writing, a write to it, its end, ``fsync``, ``rename``, ``replace``, ``link`` or
``mkdir``: the N-th of all that a command does.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ensemble_fer.store import KINDS, Store
from ensemble_fer.upkeep import check_store
from tests.cli.running import run
from tests.trust.campaign import cases, whole
from tests.trust.walk import COMMANDS, content_of, walked

FAULTS = (errno.ENOSPC, errno.EIO, errno.EROFS)


class Disk:
    """Counts writes, and fails one of them."""

    def __init__(self, root: Path, fails: int | None, number: int = errno.ENOSPC) -> None:
        self.root, self.fails, self.number, self.count = str(root), fails, number, 0

    def write(self, place: object) -> None:
        if isinstance(place, str | os.PathLike) and os.fspath(place).startswith(self.root):
            self._count(str(place))

    def written(self) -> None:
        """A write to a file that is open already: the error says no name."""
        self._count()

    def _count(self, *place: str) -> None:
        self.count += 1
        if self.count - 1 == self.fails:
            raise OSError(self.number, os.strerror(self.number), *place)


class Written:
    """An open file of which a write, or the end, may fail."""

    def __init__(self, file: Any, disk: Disk) -> None:
        self._file, self._disk, self._holds = file, disk, False

    def write(self, content: Any) -> int:
        self._holds = True
        self._disk.written()
        return self._file.write(content)

    def writelines(self, lines: Any) -> None:
        self._holds = True
        self._disk.written()
        self._file.writelines(lines)

    def flush(self) -> None:
        self._disk.written()
        self._file.flush()

    def close(self) -> None:
        if not self._file.closed:
            self._file.close()  # before: what is closed in vain is closed
            if self._holds:  # that of a lock holds nothing, and its end cannot fail
                self._disk.written()

    def __enter__(self) -> Written:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def failing(disk: Disk) -> Iterator[None]:
    """Let writes under the disk's root pass it."""
    kept = {name: getattr(os, name) for name in ("fsync", "rename", "replace", "mkdir", "link")}
    opened = io.open

    def guarded(name: str) -> Any:
        def call(place: Any, *more: Any, **named: Any) -> Any:
            if name != "fsync":
                disk.write(place)
            elif os.path.realpath(f"/proc/self/fd/{place}").startswith(disk.root):
                disk.written()
            return kept[name](place, *more, **named)

        return call

    def opens(file: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
        if not set(mode) & set("wxa+"):
            return opened(file, mode, *more, **named)
        disk.write(file)
        found = opened(file, mode, *more, **named)
        return Written(found, disk) if str(file).startswith(disk.root) else found

    patch = pytest.MonkeyPatch()
    try:
        for name in kept:
            patch.setattr(os, name, guarded(name))
        patch.setattr(io, "open", opens)
        patch.setattr(builtins, "open", opens)
        yield
    finally:
        patch.undo()


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, int, dict]]:
    """For each command the store before it, its number of writes, and what is in the store after it."""

    def writes(name: str, root: Path) -> int:
        disk = Disk(root, None)
        with failing(disk):
            done = run(*COMMANDS[name], "--store", root)
        assert done.exit_code == 0, done.output
        assert disk.count, name
        return disk.count

    return walked(tmp_path_factory.mktemp("faults"), writes)


def test_a_disk_that_fails_costs_one_command_and_nothing_else(
    states: dict[str, tuple[Path, int, dict]], tmp_path: Path
) -> None:
    """300 faults over twelve commands."""
    names = list(COMMANDS)
    failed = 0
    for number, rng in cases("faults", 300, quick=8):
        name = names[number % len(names)]
        before, writes, after = states[name]
        root = Path(shutil.copytree(before, tmp_path / f"{number}"))
        former = content_of(root)
        with failing(Disk(root, int(rng.integers(writes)), int(rng.choice(FAULTS)))):
            done = run(*COMMANDS[name], "--store", root)
        said = done.output
        where = (number, name, said)
        assert "defect" not in said, where
        assert "Traceback" not in said, where
        assert done.exit_code in (0, 1), where
        if done.exit_code:
            failed += 1
            # A study says of each run why it failed, and goes on with the rest.
            assert ("failed" if name == "study" and "error: " not in said else "error: ") in said, where
            assert str(root) in "".join(said.split()), where
        state = content_of(root)
        assert [p for p in check_store(Store(root))["problems"] if "no artifact" not in p] == [], where
        for kind in KINDS:
            assert set(former["ids"][kind]) <= set(state["ids"][kind]) <= set(after["ids"][kind]), where
            for ref, identity in former["refs"][kind].items():
                assert state["refs"][kind][ref] == identity, where
        again = run(*COMMANDS[name], "--store", root)
        assert again.exit_code == 0, (where, again.output)
        assert content_of(root) == after, where
        shutil.rmtree(root)
    assert failed or not whole("faults")
