"""The command ``ensemble-fer``: each command parses, calls one library function and prints.

Nothing heavy is imported here (no numpy, no torch), so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from ensemble_fer.cli import (
    aligning,
    data,
    doctor,
    evaluation,
    explaining,
    exporting,
    fusing,
    housekeeping,
    outside,
    page,
    prediction,
    resampling,
    studying,
    training,
    tuning,
    video,
)
from ensemble_fer.errors import EnsembleFerError, harmless, say_warning

INTERRUPTED = 130
# In the order of the work, so that --help reads like a table of contents.
ORDER = (
    "demo",
    "doctor",
    "data",
    "align",
    "resample",
    "train",
    "tune",
    "study",
    "evaluate",
    "fuse",
    "predict",
    "video",
    "leaderboard",
)


UNKEPT = ("predict", "video", "app", "explain", "bench", "doctor", "leaderboard", "compare")
"""Commands that make nothing of which a second call could go on."""


class Guarded(TyperGroup):
    """Turns what a command raises into a line on stderr and an exit code.

    0 done, 1 failed, 2 wrong usage, 3 something is missing, 130 interrupted.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def make_context(self, *given: Any, **named: Any) -> Any:
        try:
            return super().make_context(*given, **named)
        except KeyboardInterrupt:  # typer would end without a word
            _fail("interrupted.", INTERRUPTED)

    def invoke(self, ctx: Any) -> Any:
        if os.environ.get("ENSEMBLE_FER_DEBUG"):
            return super().invoke(ctx)
        try:
            with warnings.catch_warnings():
                warnings.showwarning = say_warning
                return super().invoke(ctx)
        except EnsembleFerError as error:
            _fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            kept = (
                ""
                if ctx.invoked_subcommand in UNKEPT
                else (" Finished work is kept; the same command again goes on from there.")
            )
            _fail(f"interrupted.{kept}", INTERRUPTED)
        except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
            raise
        except OSError as error:
            _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)
        except Exception as error:
            missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
            if missing and not missing.startswith("ensemble_fer"):
                _fail(f"the Python package {missing!r} is not installed. Get it:  pip install ensemble-fer", 3)
            _fail(
                f"unexpected {type(error).__name__}: {error}\n"
                "This is a defect of ensemble-fer. ENSEMBLE_FER_DEBUG=1 before the command shows the traceback.",
                1,
            )


def _fail(message: str, code: int) -> None:
    print(f"error: {harmless(message)}", file=sys.stderr)
    raise typer.Exit(code)


app = typer.Typer(
    name="ensemble-fer",
    cls=Guarded,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # plain help takes half the time of the boxed one
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Ensembles and class imbalance for facial-expression recognition, honest by construction.",
    epilog="Start with:  ensemble-fer demo",
)
data.add_to(app)
aligning.add_to(app)
resampling.add_to(app)
training.add_to(app)
tuning.add_to(app)
studying.add_to(app)
evaluation.add_to(app)
fusing.add_to(app)
exporting.add_to(app)
outside.add_to(app)
prediction.add_to(app)
video.add_to(app)
page.add_to(app)
explaining.add_to(app)
housekeeping.add_to(app)
doctor.add_to(app)


def main() -> None:
    """Entry point of the console command."""

    def terminated(number: int, frame: object) -> None:
        # A kill leaves as tidily as Ctrl-C: checkpoints are written, temporary folders removed.
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminated)
    app(prog_name="ensemble-fer")
