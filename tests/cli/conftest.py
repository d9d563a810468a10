"""Stores for commands to work on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with 300 synthetic faces."""
    path = tmp_path_factory.mktemp("cli") / "store"
    done = run("data", "synth", "--rows", 300, "--store", path)
    assert done.exit_code == 0, done.output
    return path
