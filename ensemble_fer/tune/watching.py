"""The line on the terminal while a study runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ensemble_fer.runtime import progress
from ensemble_fer.tune.results import best_of, rows_of, words
from ensemble_fer.tune.slots import Slots

_SECONDS = 1.0


@contextmanager
def watched(slots: Slots, name: str, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A progress bar over the trials of a study, with time left and the best so far, on stderr.

    Yields ``tick(text)``, to be called often; the database is asked once a second at most.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda text: None
        return
    overview = slots.overview()
    with progress(overview.slots, name) as advance:
        shown = {"done": 0, "text": "", "best": ""}
        looked = -float("inf")

        def tick(text: str) -> None:
            nonlocal looked
            if text:
                shown["text"] = text
            if time.monotonic() - looked < _SECONDS:
                return
            looked = time.monotonic()
            now = slots.overview()
            best = best_of(rows_of(slots.trials()))
            if best is not None:
                shown["best"] = f"best {best['value']:.4f} (trial {best['number']}: {words(best['changes'])})"
            state = shown["text"] if now.running == 1 and shown["text"] else f"{now.running} running"
            over = now.done + now.given_up
            advance(over - shown["done"], note="  ".join(part for part in (state, shown["best"]) if part))
            shown["done"] = over

        tick("")
        yield tick
