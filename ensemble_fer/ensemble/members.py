"""Which predictions may be put together, and the stamp of a score made with all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from ensemble_fer.errors import SplitMisuse, UsageError
from ensemble_fer.types import Predictions, Protocol


def check_together(members: Sequence[Predictions]) -> None:
    """Raise unless these predictions can be combined or compared row by row."""
    if not members:
        raise UsageError("an ensemble needs at least one member, but none was given.")
    sources = [p.source for p in members]
    twice = sorted({s for s in sources if sources.count(s) > 1})
    if twice:
        raise UsageError(f"{', '.join(twice)} given more than once. Name each member once; weights are another rule.")
    first = members[0]
    for other in members[1:]:
        pair = f"{first.source} and {other.source}"
        for what in ("data", "injected", "split"):
            a, b = getattr(first.protocol, what), getattr(other.protocol, what)
            if a != b:
                raise SplitMisuse(
                    f"{pair} differ in {what}: {a!r} and {b!r}. Members of one ensemble must share it; "
                    "otherwise rows that one of them was trained on count as unseen."
                )
        if first.role != other.role:
            raise SplitMisuse(
                f"{pair} differ in role: '{first.role}' and '{other.role}'. Give predictions of the same part."
            )
        for what in ("rows", "labels", "groups", "twin_in_train"):
            if not np.array_equal(getattr(first, what), getattr(other, what)):
                raise SplitMisuse(
                    f"{pair} differ in {what} ({len(first)} and {len(other)} rows). "
                    "Members must say something of the same rows in the same order; evaluate both on the same part."
                )
        if first.protocol.tta != other.protocol.tta:
            raise UsageError(
                f"{pair} differ in test-time augmentation: {first.protocol.tta!r} and {other.protocol.tta!r}. "
                "Evaluate all members with the same --tta."
            )


def join_protocols(protocols: Sequence[Protocol]) -> Protocol:
    """The stamp of a score made with all of these. What differs is named in full, nothing is dropped."""
    first = protocols[0]
    seeds = {p.seed for p in protocols}
    return replace(
        first,
        resampling=" + ".join(p.resampling for p in protocols),
        resampled_where=_named(p.resampled_where for p in protocols),
        trained_on=_named(p.trained_on for p in protocols),
        votes=_named(p.votes for p in protocols if p.votes),
        chosen_by=_named(p.chosen_by for p in protocols),
        pretraining=_named(p.pretraining for p in protocols),
        rows_left_out=max(p.rows_left_out for p in protocols),
        faceless_dropped=max(p.faceless_dropped for p in protocols),
        seed=first.seed if len(seeds) == 1 else None,
        looks=max(p.looks for p in protocols),
        chosen_on=max(p.chosen_on for p in protocols),
        twins_in_select=max(p.twins_in_select for p in protocols),
        leaks=tuple(dict.fromkeys(leak for p in protocols for leak in p.leaks)),
    )


def _named(values: Iterable[str]) -> str:
    return " + ".join(dict.fromkeys(values))
