"""The report of a study: what was asked, how, what came of it, beside what was published, and what it cost.

Every number is computed from what was gathered, so that the pages can be made again without the store.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_fer.config.effects import ONLY_WITH
from ensemble_fer.evaluate.counts import confusion
from ensemble_fer.study import drawing
from ensemble_fer.study.differences import SAID_OF, differences, predictions_of_arm
from ensemble_fer.study.differences_report import TITLES, against_blocks, pairs_blocks
from ensemble_fer.study.gathering import Gathered
from ensemble_fer.study.mistakes_report import mistakes_blocks
from ensemble_fer.study.page import Block, Code, Figure, Heading, Table, Text, to_html, to_markdown
from ensemble_fer.study.plan import Study
from ensemble_fer.study.published import published

MATRICES = 6


def write_report(study: Study, gathered: Gathered, out: str | Path) -> list[Path]:
    """Write ``NAME.md``, its figures under ``images/``, and ``NAME.html``, which needs nothing else.

    At scales other than small the pages are called ``NAME-SCALE``, beside those of scale small.

    Parameters
    ----------
    out : path
        A folder.

    Returns
    -------
    list of Path
        The two pages.
    """
    return write_blocks(study, list(report_blocks(study, gathered)), out)


def write_blocks(study: Study, blocks: Sequence[Block], out: str | Path) -> list[Path]:
    """Write the pages of a report that is there as blocks; see ``write_report``."""
    stem = study.name if study.scale == "small" else f"{study.name}-{study.scale}"
    pages = [Path(out) / f"{stem}.{end}" for end in ("md", "html")]
    to_markdown(study.title, blocks, pages[0])
    to_html(study.title, blocks, pages[1])
    return pages


def report_blocks(study: Study, gathered: Gathered) -> Iterator[Block]:
    """The report as blocks."""
    lines = differences(study, gathered)
    leaky = {row["of"] for row in gathered.rows for said in row.get("said", {}).values() if said["protocol"]["leaks"]}
    honest = sorted((line for line in lines if line["of"] not in leaky), key=lambda line: -_value(line, study.metric))
    ranked = [line["of"] for line in honest]
    yield Text(study.asks)
    yield from _protocol(study, gathered)
    yield from _searches(gathered)
    if leaky:
        yield from mistakes_blocks(study, gathered)
    yield Heading("Leaderboard")
    yield from _leaderboard(study, gathered, honest)
    if study.against:
        yield from against_blocks(study, lines)
    yield from pairs_blocks(study, lines)
    if leaky:
        yield Heading("LEAKY scores", 3)
        yield Text("Made wrong on purpose; they measure memory, are ranked with nothing, and exist only here.")
        yield _scores([line for line in lines if line["of"] in leaky], mark="LEAKY ")
    yield from _beside_published(study, {line["of"]: line for line in lines}, leaky)
    yield from _curves(gathered, ranked, leaky)
    yield from _matrices(study, gathered, ranked)
    yield from _cost(study, gathered)
    yield from _again(study)


def _protocol(study: Study, gathered: Gathered) -> Iterator[Block]:
    stamps = [(row["of"], said["protocol"]) for row in gathered.rows for _, said in sorted(row.get("said", {}).items())]
    yield Heading("Protocol")
    many = f"{len(study.seeds)} seeds ({', '.join(map(str, study.seeds))})" if len(study.seeds) > 1 else "one seed"
    folds = f", {study.folds} folds, so that every row is scored once by networks that know no twin of it" * bool(
        study.folds
    )
    yield Text(
        f"Scale `{study.scale}`, data {study.data}, {many}{folds}. "
        + ("The test part was scored when all else was done." if study.look else "Nothing looked at the test part.")
    )
    honest = [protocol for _, protocol in stamps if not protocol["leaks"]]
    if honest:
        differ = {key: sorted({str(protocol[key]) for protocol in honest}) for key in ("split", "chosen_by", "tta")}
        if study.folds:
            differ["split"] = [f"kfold:{study.folds}"]
        runs = [row for row in gathered.rows if "epochs" in row]
        if runs and all(row["epochs"] == 1 for row in runs):
            differ["chosen_by"] = ["nothing, each run has one evaluation, at its end"]
        said = {"split": "Splits", "chosen_by": "Chosen by", "tta": "Test-time augmentation"}
        yield Text(". ".join(f"{said[key]}: {'; '.join(values)}" for key, values in differ.items()) + ".")
    failed = [row for row in gathered.rows if "problem" in row]
    if failed:
        yield Text(f"{len(failed)} of {len(gathered.rows)} runs failed and are missing below:")
        yield Table(["run", "why"], [[row["name"], row["problem"].replace("\n", " ")] for row in failed], left=2)


def _counts(key: str, chosen: Mapping[str, Any]) -> bool:
    """Whether a key has an effect beside the others that were chosen."""
    other, values = ONLY_WITH.get(key, ("", ()))
    return other not in chosen or chosen[other] in values


def _searches(gathered: Gathered) -> Iterator[Block]:
    """What searches have chosen on the select part."""
    found = [row for row in gathered.rows if "chosen" in row]
    if found:
        yield Heading("What was searched")
        rows = []
        for row in found:
            chosen = row["chosen"]
            # Numbers of a schedule or optimizer that was not chosen stayed what they were.
            own = {key: value for key, value in chosen.items() if key != "tuned" and _counts(key, chosen)}
            said = [
                f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in own.items()
            ]
            rows.append([row["of"], str(row["trials"]), f"{100 * row['value']:.1f}", ", ".join(said)])
        heads = ["search", "trials", "macro-F1 of the best", "chosen"]
        yield Table(heads, rows, "By Optuna, on the select part. Others are trained with what it has chosen.")
    combined = [row for row in gathered.rows if "combined" in row]
    if combined:
        yield Heading("What was combined")
        rows = [[row["of"], str(row["seed"]), row["split"], " + ".join(row["combined"])] for row in combined]
        yield Table(["arm", "seed", "split", "of"], rows, "Of each stage the best arm on the select part.", left=4)


def _leaderboard(study: Study, gathered: Gathered, lines: Sequence[dict]) -> Iterator[Block]:
    if not lines:
        yield Text("Nothing was scored.")
        return
    parts = list(dict.fromkeys(line["on"][2] for line in lines))
    if len(parts) > 1:
        yield Text("Scored on different faces, and so in tables of their own: these are not to be compared.")
    for part in parts:
        own = [line for line in lines if line["on"][2] == part]
        role = own[0]["on"][0]
        says = f"{role} part" + ("" if role == "test" else ", which also chose each checkpoint: a little too good")
        says = "rows, each by the fold that tests it" if study.folds else says
        splits = sorted({line["on"][1] for line in own})
        where = f"{own[0]['rows']:,} faces, the {says} (split {', '.join(splits)})"
        yield _scores(own, note=f"Per cent of {where}; 95 % intervals by bootstrap over photographs. {_seeds(study)}")
        if len(own) > 1:
            rows = [(line["of"], line["scores"]) for line in own]
            says = "Scores with their 95 % intervals, best on top."
            number = f"-{parts.index(part) + 1}" if len(parts) > 1 else ""
            yield Figure(f"scores{number}", drawing.intervals_figure(rows, TITLES, zero=False), says)


def _seeds(study: Study) -> str:
    return "Means over the seeds; ± is the standard deviation between them." if len(study.seeds) > 1 else ""


def _scores(lines: Sequence[dict], note: str = "", mark: str = "") -> Table:
    heads = ["arm", "networks", *TITLES.values()]
    rows = [
        [mark + line["of"], str(len(line["seeds"])), *(_cell(line["scores"][metric]) for metric in SAID_OF)]
        for line in lines
    ]
    return Table(heads, rows, note)


def _cell(one: dict) -> str:
    if one["value"] is None or np.isnan(one["value"]):
        return ""
    spread = f" ± {100 * np.std(one['each'], ddof=1):.1f}" if len(one.get("each", [])) > 1 else ""
    ends = f" [{100 * one['ci95'][0]:.1f}, {100 * one['ci95'][1]:.1f}]" if one["ci95"] else ""
    return f"{100 * one['value']:.1f}{spread}{ends}"


def _value(line: dict, metric: str) -> float:
    value = line["scores"][metric]["value"]
    return -1.0 if np.isnan(value) else value


def _beside_published(study: Study, lines: dict[str, dict], leaky: set[str]) -> Iterator[Block]:
    rows = []
    for one in published(study.name):
        ours = lines.get(one.arm)
        scores = ["" if value is None else f"{100 * value:.2f}" for value in (one.accuracy, one.macro_f1)]
        own = ["", "", ""]
        if ours is not None:
            own = [f"{ours['on'][0]} of {ours['on'][1]}"]
            mark = "LEAKY " if one.arm in leaky else ""
            own += [mark + _cell(ours["scores"][metric]) for metric in ("accuracy", "macro_f1")]
        rows.append([one.published, one.wrong, one.source, one.split, one.beside, *scores, *own])
    if not rows:
        return
    yield Heading("Published and ours")
    if study.scale != "paper":
        yield Text(
            "Ours is a shorter training of a smaller network where the scale says so, and of other faces where the "
            "columns of the splits differ: compare the order, not the size."
        )
    heads = [
        "published as",
        "what is wrong with it",
        "source",
        "its split",
        "also published",
        "accuracy",
        "macro-F1",
        "ours is of",
        "our accuracy",
        "our macro-F1",
    ]
    yield Table(
        heads,
        rows,
        "Per cent. No macro-F1 where none was published; nothing of ours where this scale has no such arm.",
        left=5,
    )


def _curves(gathered: Gathered, ranked: Sequence[str], leaky: set[str]) -> Iterator[Block]:
    """How the honest networks learned: a leaky curve among them would be a leaky score without its mark."""
    runs = [row for row in gathered.rows if len(row.get("history", [])) > 1 and row["of"] not in leaky]
    if not runs:
        return
    yield Heading("Learning")
    lines = {}
    for of in dict.fromkeys(row["of"] for row in runs):
        own = [row["history"] for row in runs if row["of"] == of]
        length = min(len(history) for history in own)
        keys = [key for key in ("train_loss", "accuracy", "macro_f1") if key in own[0][0]]
        lines[of] = {key: [float(np.mean([history[i][key] for history in own])) for i in range(length)] for key in keys}
    shown = [of for of in ranked if of in lines]
    says = "By epoch, means over seeds, on the select part; the best arms in colour, the others gray."
    yield Figure("curves", drawing.curves_figure(lines, shown), says)
    best = next((row for of in shown for row in runs if row["of"] == of and "precision" in row["history"][0]), None)
    if best is not None:
        curves = {what: np.array([record[what] for record in best["history"]]) for what in ("precision", "recall")}
        yield Figure(
            "classes", drawing.classes_figure(curves), f"Each class by epoch on the select part: {best['name']}."
        )


def _matrices(study: Study, gathered: Gathered, ranked: Sequence[str]) -> Iterator[Block]:
    matrices = {}
    for of in ranked[:MATRICES]:
        said = predictions_of_arm(study, gathered, of)
        if said:
            matrices[of] = sum(confusion(p.labels, p.logits) for p in said)
    if matrices:
        yield Heading("What is taken for what")
        says = "Rows are the truth, shares in per cent; all seeds together."
        yield Figure("confusion", drawing.confusion_figures(matrices), says)


def _cost(study: Study, gathered: Gathered) -> Iterator[Block]:
    runs = [row for row in gathered.rows if row.get("train_seconds") is not None]
    if not runs:
        return
    yield Heading("Cost")
    rows = []
    for of in dict.fromkeys(row["of"] for row in runs):
        own = [row for row in runs if row["of"] == of]
        seconds = float(np.mean([row["train_seconds"] for row in own]))
        counts = [f"{own[0][key]:,}" for key in ("parameters", "train_rows", "steps")]
        rows.append([of, str(len(own)), *counts, f"{seconds / 60:.1f}"])
    total = sum(row["train_seconds"] for row in runs) / 3600
    where = sorted({f"{row['device']}, {row['precision']}, {row['threads']} threads" for row in runs})
    note = f"{total:.1f} hours of training in all, on {'; '.join(where)}; the machine may have done other work beside."
    yield Table(["arm", "runs", "parameters", "training rows", "steps", "minutes a run"], rows, note)


def _again(study: Study) -> Iterator[Block]:
    yield Heading("Again")
    given = f"{shlex.quote(study.file)} --scale {study.scale}"
    yield Code(f"ensemble-fer study run {given}\nensemble-fer study report {given}")
