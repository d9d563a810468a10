"""The part of a report that says how much better arms are than others, and whether chance can do it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ensemble_fer.study import drawing
from ensemble_fer.study.differences import SAID_OF
from ensemble_fer.study.page import Block, Figure, Heading, Table, Text
from ensemble_fer.study.plan import Study

TITLES = {
    "macro_f1": "macro-F1, %",
    "disgust_f1": "Disgust F1, %",
    "disgust_ap": "Disgust average precision, %",
    "accuracy": "accuracy, %",
}


def against_blocks(study: Study, lines: Sequence[dict]) -> Iterator[Block]:
    """All arms against the one that the study names, as a table and a figure."""
    compared = sorted(
        (line for line in lines if "differences" in line), key=lambda line: -line["differences"]["macro_f1"]["value"]
    )
    if not compared:
        return
    yield Heading(f"Against {study.against}")
    yield Text(
        "Differences on the same rows, in points; p is of the bootstrap over photographs, adjusted after Holm over all "
        f"{len(compared)} arms. What it leaves at 0.05 or above is undecided."
        + (
            " Each arm was trained with one seed: what another would change is not in the intervals."
            if len(study.seeds) == 1
            else ""
        )
    )
    rows = [[line["of"], *(_difference(line["differences"][metric]) for metric in SAID_OF)] for line in compared]
    yield Table(["arm", *TITLES.values()], rows)
    drawn = [(line["of"], line["differences"]) for line in compared]
    says = f"Differences from {study.against}: green is better, red worse, gray undecided."
    yield Figure("differences", drawing.intervals_figure(drawn, TITLES, zero=True), says)


def pairs_blocks(study: Study, lines: Sequence[dict]) -> Iterator[Block]:
    """The pairs that the study names, as a table."""
    beside = {line["of"]: line["beside"] for line in lines if "beside" in line}
    pairs = [(a, b) for a, b in study.pairs if b in beside.get(a, {})]
    if pairs:
        yield Heading("Pair by pair")
        yield Text(f"As above, the first against the second; p is adjusted over these {len(pairs)} pairs.")
        rows = [[a, b, *(_difference(beside[a][b][metric]) for metric in SAID_OF)] for a, b in pairs]
        yield Table(["arm", "against", *TITLES.values()], rows, left=2)


def _difference(one: dict) -> str:
    ends = f" [{100 * one['ci95'][0]:+.1f}, {100 * one['ci95'][1]:+.1f}]" if one["ci95"] else ""
    p = "below 0.001" if one["p_holm"] < 0.001 else f"{one['p_holm']:.3f}"
    return f"{100 * one['value']:+.1f}{ends}, p {p}: {one['verdict']}"
