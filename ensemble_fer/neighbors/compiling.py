"""Loops that are compiled on their first call.

Compiled code is kept beside its file as Python keeps its own, or in the user's cache where that cannot be written, so
that only the first search waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from numba import njit

# Sums may be made in any order, which lets them be made eight at a time; no other liberty is taken with rounding.
SUMS = {"reassoc", "nsz"}


def compiled(fastmath: Any = False) -> Any:
    """Compile a loop on its first call, free of Python's lock, and keep it for later runs where there is room to.

    Parameters
    ----------
    fastmath : bool or set of str
        Liberties with rounding, as numba names them.
    """

    def of(function: Any) -> Any:
        try:
            made: Any = njit(cache=True, nogil=True, fastmath=fastmath)(function)
        except RuntimeError:  # there is no folder to keep it in
            return njit(nogil=True, fastmath=fastmath)(function)
        if hasattr(made, "_cache"):  # not where numba is told to compile nothing
            made._cache._guard_against_spurious_io_errors = lambda: _forgiven(made._cache)
        return made

    return of


@contextmanager
def _forgiven(cache: Any) -> Iterator[None]:
    """Kept code that cannot be read or written (a full disk, a torn file) costs its compilation, not the search."""
    try:
        yield
    except Exception:
        # A torn list of what is kept would be in the way of every later run.
        with suppress(Exception):
            cache.flush()
