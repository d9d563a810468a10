"""Every error a user can cause. Each says what was found, what was expected, and what to do.

The command line prints the message without a traceback and exits with ``exit_code``.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from typing import Any

_LINES = 1000


class EnsembleFerError(Exception):
    """Base of all errors of this package; the work could not be done (exit code 1)."""

    exit_code = 1


class UsageError(EnsembleFerError):
    """A request that makes no sense as written: unknown name, value out of range (exit code 2)."""

    exit_code = 2


class MissingError(EnsembleFerError):
    """Something needed is not here: data, an extra, weights (exit code 3). Says how to get it."""

    exit_code = 3


class BadData(EnsembleFerError):
    """Rows or files that cannot be read as faces.

    Parameters
    ----------
    source : str
        What was being read.
    problems : list of str
        One line a bad row, each naming its place and the reason; a thousand of them and the last are in the message.
    hint : str
        What to do about it.
    """

    def __init__(self, source: str, problems: list[str], hint: str = "") -> None:
        self.source, self.problems, self.hint = source, problems, hint
        count = f"{len(problems)} bad row{'s' if len(problems) != 1 else ''} in {source}:"
        rest = len(problems) - _LINES
        more = [f"and {rest:,} more", problems[-1]] if rest > 0 else []
        super().__init__("\n".join([count, *problems[:_LINES], *more, *([hint] if hint else [])]))


class SplitMisuse(EnsembleFerError):
    """Rows of one role were used where another is required, e.g. fitting anything on test rows."""


class StoreError(EnsembleFerError):
    """An artifact is missing, incomplete or not what its manifest says."""


class ParityError(EnsembleFerError):
    """An exported graph does not give the numbers that the network it was made from gives."""


def harmless(text: str) -> str:
    """The text with what steers a terminal written out: names and values in files come from anybody."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def say_warning(message: Any, category: type[Warning], *rest: Any) -> None:
    """In place of ``warnings.showwarning``: our own as a line on stderr, nothing of libraries."""
    if category.__module__.startswith("ensemble_fer"):
        print(f"warning: {harmless(str(message))}", file=sys.stderr)


def brief(value: object) -> str:
    """A value of a file for a message, 80 characters at most; Python does not write numbers of thousands of digits."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__} too long to be written"
    return text if len(text) <= 80 else f"{text[:79]}…"


_NAMES, _LETTERS = 8, 40


def some_of(names: Iterable[str]) -> str:
    """Names that a file gave, for a message: the first eight of them, shortened."""
    found = list(names)
    shown = [name if len(name) <= _LETTERS else f"{name[:_LETTERS]}…" for name in found[:_NAMES]]
    said = harmless(", ".join(shown))
    return f"{said} and {len(found) - _NAMES:,} more" if len(found) > _NAMES else said or "nothing"


def unknown_name(what: str, given: str, known: Iterable[str]) -> UsageError:
    """Error for a name that is in no table, naming the near match and all that is known."""
    names = sorted(str(name) for name in known)
    close = difflib.get_close_matches(given, names, n=2, cutoff=0.6)
    guess = f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
    return UsageError(f"unknown {what} {given!r}.{guess} Known: {', '.join(names) or 'none'}.")
