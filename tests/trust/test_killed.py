"""Commands that are killed or interrupted at a random moment leave nothing corrupt, and the next time end the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ensemble_fer.store import KINDS, Store
from ensemble_fer.upkeep import check_store, clean_store
from tests.trust.campaign import cases
from tests.trust.walk import COMMANDS, content_of, walked

SOONEST = 0.3
"""Seconds that Python takes to begin; before, a signal ends it without our saying anything."""
WITHIN = 5.0


def command(name: str, root: Path) -> subprocess.Popen:
    # Ctrl-C is ignored in what a shell has begun with &, and in all that begins there.
    begin = (
        "import signal; signal.signal(2, signal.default_int_handler); from ensemble_fer.__main__ import main; main()"
    )
    given = [sys.executable, "-c", begin, *map(str, COMMANDS[name]), "--store", str(root)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(given, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, float, dict]]:
    """For each command the store before it, its seconds, and what is in the store after it."""

    def seconds(name: str, root: Path) -> float:
        began = time.monotonic()
        said, _ = (process := command(name, root)).communicate()
        assert process.returncode == 0, said
        return time.monotonic() - began

    return walked(tmp_path_factory.mktemp("kills"), seconds)


def ended_well(name: str, root: Path, former: dict, after: dict, where: object) -> None:
    """What is there is whole, what was there still is, and the same command again ends as an unbroken one."""
    state = content_of(root)
    assert check_store(Store(root))["problems"] == [], where
    for kind in KINDS:
        assert set(former["ids"][kind]) <= set(state["ids"][kind]) <= set(after["ids"][kind]), where
        for identity in state["refs"][kind].values():
            assert identity in state["ids"][kind], where
    said, _ = (process := command(name, root)).communicate()
    assert process.returncode == 0, (where, said)
    assert content_of(root) == after, where
    clean_store(Store(root), unfinished=True)
    assert content_of(root) == after, where
    assert not list((root / "locks").glob("*")), where


def test_kills_leave_nothing_corrupt(states: dict[str, tuple[Path, float, dict]], tmp_path: Path) -> None:
    """300 kills over twelve commands."""
    names = list(COMMANDS)
    for number, rng in cases("kills", 300, quick=2):
        name = names[int(rng.integers(len(names)))]
        before, seconds, after = states[name]
        root = Path(shutil.copytree(before, tmp_path / f"{number}"))
        former = content_of(root)
        with command(name, root) as process:
            time.sleep(float(rng.uniform(0, seconds)))
            process.kill()
        ended_well(name, root, former, after, (number, name))
        shutil.rmtree(root)


def test_interruptions_end_soon_and_lose_nothing(states: dict[str, tuple[Path, float, dict]], tmp_path: Path) -> None:
    """100 of Ctrl-C and TERM: 130 within five seconds, or done before."""
    names = list(COMMANDS)
    for number, rng in cases("interruptions", 100, quick=2):
        name = names[int(rng.integers(len(names)))]
        before, seconds, after = states[name]
        root = Path(shutil.copytree(before, tmp_path / f"{number}"))
        former = content_of(root)
        with command(name, root) as process:
            time.sleep(float(rng.uniform(SOONEST, max(2 * SOONEST, seconds))))
            process.send_signal(signal.SIGINT if rng.random() < 0.5 else signal.SIGTERM)
            sent = time.monotonic()
            said, _ = process.communicate()
            took = time.monotonic() - sent
        where = (number, name, said)
        assert process.returncode in (0, 130), where
        assert took < WITHIN or process.returncode == 0, (where, took)
        assert "Traceback" not in said, where
        assert process.returncode == 0 or "interrupted" in said, where
        ended_well(name, root, former, after, where)
        shutil.rmtree(root)
