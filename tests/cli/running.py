"""Commands in this process."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from ensemble_fer.cli import app

ROOT = Path(__file__).parents[2]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])
