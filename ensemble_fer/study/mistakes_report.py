"""The part of a report that shows what each mistake of protocol adds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ensemble_fer.study import drawing
from ensemble_fer.study.gathering import Gathered
from ensemble_fer.study.mistakes import CHOOSING, Mistake, by_group, lacking, mistakes
from ensemble_fer.study.page import Block, Figure, Heading, Table, Text
from ensemble_fer.study.plan import Study
from ensemble_fer.types import Role

REMEMBERS = 0.95
"""Share of its training rows that a network must answer rightly to say that it knows them."""


def mistakes_blocks(study: Study, gathered: Gathered) -> Iterator[Block]:
    """What each mistake adds, as a table and a figure, after how much the networks remember."""
    found = mistakes(study, gathered)
    if not found:
        return
    yield Heading("What each mistake adds")
    yield from _remembered(gathered)
    if any(one.alike for one in found):
        yield Text(
            "What is balanced before the split has a balanced test part too, on which an honest member has other "
            "scores. `classes alike` says which: each class weighs the same. From there to the leaky score is memory."
        )
    yield from _table(found, "accuracy", "Accuracy")
    says = "Honest and leaky scores of the same members, and what was published with the same mistake."
    yield Figure("mistakes", drawing.mistakes_figure(list(by_group(found))), says)
    yield from _table(found, "macro_f1", "Macro-F1")
    yield from _twins_apart(gathered)
    if missing := lacking(study, gathered):
        yield Text(f"Left out, for want of a run: {'; '.join(missing)}.")
    yield from _memory_table(gathered)


def _table(found: Sequence[Mistake], metric: str, title: str) -> Iterator[Block]:
    """The scores of one metric; of accuracy also what was published."""
    rows = []
    for one in found:
        alike = "" if one.alike is None else f"{100 * float(np.mean(one.alike[metric])):.1f}"
        honest, leaky = (100 * float(np.mean(side[metric])) for side in (one.honest, one.leaky))
        cells = [f"{honest:.1f}", alike, f"{leaky:.1f} LEAKY", _added(one.added[metric])]
        if metric == "accuracy":
            cells.append("" if one.published is None else f"{100 * one.published:.2f}")
        rows.append([one.group, one.what, *cells, str(len(one.honest[metric]))])
    heads = [
        "mistake",
        "of",
        "honest",
        "classes alike",
        "leaky",
        "adds",
        *["published"] * (metric == "accuracy"),
        "seeds",
    ]
    note = "Per cent; what it adds to the honest score in points, with 95 % intervals by Student's t over the seeds."
    yield Heading(title, 3)
    yield Table(heads, rows, note, left=2)


def _remembered(gathered: Gathered) -> Iterator[Block]:
    """How much of their own training rows the networks know."""
    known = [row for row in gathered.rows if "memory" in row]
    if not known:
        return
    chosen = [row["memory"] for row in known if row["of"].partition("/")[0] in CHOOSING]
    kept = [row["memory"] for row in known if row["of"].partition("/")[0] not in CHOOSING]
    says = ""
    if kept:
        says = f"The networks answer {_range(kept)} % of their own training rows rightly: " + (
            "what leaks into training they know."
            if min(kept) >= REMEMBERS
            else f"not all know {100 * REMEMBERS:.0f} %, and a network that remembered more would gain more by a leak."
        )
    if chosen:
        says += f" Those of which the epoch is chosen ({', '.join(CHOOSING)}) know {_range(chosen)} %."
    yield Text(says.strip())


def _twins_apart(gathered: Gathered) -> Iterator[Block]:
    """Where what twins add comes from: the test faces that have one."""
    said = {
        of: [found for row in gathered.rows if row["of"] == of and (found := gathered.said(row, Role.TEST)) is not None]
        for of in ("clean", "twins")
    }
    pairs = list(zip(*said.values(), strict=False))
    if not pairs or not all(np.array_equal(a.rows, b.rows) and b.twin_in_train.any() for a, b in pairs):
        return

    def of(kind: int, with_twin: bool) -> str:
        rows = [pair[1].twin_in_train == with_twin for pair in pairs]
        answers = [(pair[kind].logits.argmax(1), pair[kind].labels) for pair in pairs]
        right = [(said == truth)[own].mean() for (said, truth), own in zip(answers, rows, strict=True)]
        return f"{100 * float(np.mean(right)):.1f}"

    yield Text(
        "What twins add is not more rows to learn from: on test faces without a twin in training the networks that "
        f"were trained beside twins answer {of(1, False)} % rightly, those without {of(0, False)}; on test faces with "
        f"one {of(1, True)} and {of(0, True)}. In the leaderboard the networks of the official split stand as they do "
        "everywhere, twins included, and without a mark."
    )


def _memory_table(gathered: Gathered) -> Iterator[Block]:
    known = [row for row in gathered.rows if "memory" in row]
    rows = []
    for of in dict.fromkeys(row["of"] for row in known):
        own = [100 * row["memory"] for row in known if row["of"] == of]
        rows.append([of, str(len(own)), f"{min(own):.1f} to {max(own):.1f}" if len(own) > 1 else f"{own[0]:.1f}"])
    if rows:
        yield Heading("What they remember", 3)
        yield Table(["arm", "networks", "of its training rows it knows, %"], rows)


def _range(shares: list[float]) -> str:
    return f"{100 * min(shares):.1f} to {100 * max(shares):.1f}"


def _added(one: dict) -> str:
    ends = f" [{100 * one['ci95'][0]:+.1f}, {100 * one['ci95'][1]:+.1f}]" if one["ci95"] else ""
    return f"{100 * one['mean']:+.1f}{ends}"
