"""``evaluate`` and ``leaderboard``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from ensemble_fer.cli.options import (
    DEFAULT_STORE,
    DataOption,
    DeviceOption,
    JsonOption,
    StoreOption,
    check_png,
    open_store,
)
from ensemble_fer.cli.output import percent, print_json, print_table, remark, say
from ensemble_fer.devices import check_device


def add_to(app: typer.Typer) -> None:
    app.command("evaluate", epilog="Example:  ensemble-fer evaluate compact-smote-s0 --tta flip")(evaluate)
    app.command("compare", epilog="Example:  ensemble-fer compare trio compact-ros-s0")(compare)
    app.command("leaderboard", epilog="Example:  ensemble-fer leaderboard")(leaderboard)


def evaluate(
    name: Annotated[str, typer.Argument(help="A run or an ensemble, by name or id.", metavar="RUN|ENSEMBLE")],
    tta: Annotated[
        str | None,
        typer.Option("--tta", help="none, flip or ten_crop; by default an ensemble's own, else none.", metavar="NAME"),
    ] = None,
    part: Annotated[
        str, typer.Option("--part", help="test, or select, which counts no look.", metavar="PART")
    ] = "test",
    figure: Annotated[
        Path | None, typer.Option("--figure", help="Write the confusion matrix as a PNG.", metavar="PNG")
    ] = None,
    as_json: JsonOption = False,
    device: DeviceOption = "auto",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Score on the test part, with intervals, twin-free scores and the protocol. Counts the look."""
    check_device(device)
    if figure is not None:
        check_png("--figure", figure, store)
    from ensemble_fer.report import evaluate as run_evaluate

    opened = open_store(store)
    done = run_evaluate(opened, name, tta=tta, role=part, device=device)
    found = done.report.to_dict()
    if figure is not None:
        figure.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(done.artifact.file("confusion.png"), figure)
    if as_json:
        print_json(found)
        return
    print_report(name, done.report, found, "" if done.votes is None else votes_text(done.votes))
    remark(f"confusion matrix: {figure or done.artifact.path / 'confusion.png'}")


SCORES = {
    "accuracy": "accuracy (top-1)",
    "top2": "top-2",
    "top3": "top-3",
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
}


def print_report(name: str, report: Any, found: dict, votes: str = "") -> None:
    """The scores with intervals, each class, accuracy by the named votes, and the protocol under them."""
    intervals = found.get("ci95", {})
    rows = [[label, percent(found[key], intervals.get(key))] for key, label in SCORES.items()]
    free = found["twin_free"]
    if free["rows"]:
        kept = free.get("ci95", {})
        rows.append(["accuracy, rows without a twin in training", percent(free["accuracy"], kept.get("accuracy"))])
        rows.append([f"macro-F1 of these {free['rows']:,}", percent(free["macro_f1"], kept.get("macro_f1"))])
    print_table(f"{name}: per cent with 95 % intervals", ["score", "value"], rows)
    chance = f", {report.ece_null:.3f} if perfectly calibrated" if hasattr(report, "ece_null") else ""
    say(f"NLL {report.nll:.3f} nats · Brier {report.brier:.3f} · ECE {report.ece:.3f}{chance}")
    each = [
        [label, percent(c["precision"]), percent(c["recall"]), percent(c["f1"]), c["support"]]
        for label, c in found["per_class"].items()
    ]
    print_table("Classes", ["class", "precision", "recall", "F1", "rows"], each)
    if found.get("by_agreement"):
        print_agreement(found["by_agreement"], votes)
    say(report.protocol.line())


def votes_text(votes: Any) -> str:
    """Which votes these are: of several files that were joined to a set the last one is in force."""
    return f"votes {votes.id} of {votes.metrics['source']}"


def print_agreement(bins: list[dict], votes: str) -> None:
    """Accuracy by how far the annotators agree."""
    names = [f"{100 * b['agreement'][0]:.0f} to {100 * b['agreement'][1]:.0f}" if b["agreement"] else "" for b in bins]
    rows = [
        [name or "no votes", percent(b["accuracy"], b["ci95"]), percent(b["label_is_top"]), b["rows"]]
        for name, b in zip(names, bins, strict=True)
    ]
    columns = ["votes for the first of the seven, %", "accuracy", "label has most votes", "rows"]
    print_table(f"Accuracy by annotator agreement, {votes}", columns, rows)


def compare(
    a: Annotated[str, typer.Argument(help="A run or an ensemble, by name or id.", metavar="A")],
    b: Annotated[str, typer.Argument(help="Another of the same split.", metavar="B")],
    part: Annotated[
        str | None,
        typer.Option("--part", help="test or select: test if both were evaluated there, else select.", metavar="PART"),
    ] = None,
    tta: Annotated[
        list[str] | None,
        typer.Option("--tta", help="none, flip or ten_crop; twice for A and B: each one's own.", metavar="NAME"),
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Say how much better A is than B on the same faces, and whether chance can do it.

    Differences have 95 % intervals by bootstrap over photographs; McNemar's test is of these two networks as they are.
    """
    from ensemble_fer.comparing import compare as run_compare

    found = run_compare(open_store(store), a, b, part=part, tta=tta[0] if tta and len(tta) == 1 else tta)
    if as_json:
        print_json(found)
        return
    print_comparison(found)


def print_comparison(found: dict) -> None:
    """Differences with intervals, on all faces and on those without a twin in training."""
    a, b = found["a"]["name"], found["b"]["name"]
    if a == b:
        a, b = (f"{found[side]['name']} ({found[side]['tta']})" for side in "ab")
    rows = []
    for faces, scores in (("all faces", found["scores"]), ("without twins", found["twin_free"])):
        for metric, label in (("accuracy", "accuracy"), ("macro_f1", "macro-F1")):
            if scores is not None:
                each = scores[metric]
                rows.append([f"{label}, {faces}", percent(each["a"]), percent(each["b"]), _points(each)])
    print_table(f"{a} and {b} on the {found['part']} part, per cent", ["", a, b, f"{a} minus {b}, points"], rows)
    test = found["mcnemar"]
    say(
        f"{a} alone is right on {test['a_only']:,} of {found['rows']:,} faces, {b} alone on {test['b_only']:,}: "
        f"p = {test['p']:.2g} by McNemar's exact test"
    )
    for side in ("a", "b"):
        say(f"{found[side]['name']}: {found[side]['stamp']}")


def _points(scores: dict) -> str:
    """A difference in points with its interval, and whether that holds 0."""
    if scores["difference"] is None or scores["ci95"] is None:
        return ""
    low, high = (100 * value for value in scores["ci95"])
    text = f"{100 * scores['difference']:+.1f} [{low:+.1f}, {high:+.1f}]"
    return f"{text} undecided" if low <= 0 <= high else text


def leaderboard(
    data: DataOption = None,
    split: Annotated[str | None, typer.Option("--split", help="Only this split: all.", metavar="NAME")] = None,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Members and ensembles, ranked by macro-F1 on the select part; test scores beside it where evaluated.

    What was scored with a leaky protocol stands apart and is never ranked.
    """
    from ensemble_fer.leaderboard import leaderboard as ranked

    opened = open_store(store)
    if split is not None and split not in opened.ids("split"):
        from ensemble_fer.data.splits import parse_split

        # One spelling, and a misspelt name is an error instead of an empty table.
        split = parse_split(split).text
    found = ranked(opened, data=data, split=split)
    if as_json:
        print_json(found)
        return
    print_leaderboard(found)


COLUMNS = (
    *("", "name", "model", "resampling", "split", "tta", "select F1", "test F1", "accuracy", "top-2", "Disgust F1"),
    *("twin-free", "parameters", "ms", "looks"),
)


# Milliseconds of a member are torch's, those of an ensemble its graph's: they do not compare.
ENGINES = {"onnxruntime": "onnx"}


def print_leaderboard(found: dict) -> None:
    """The tables of ``leaderboard``: honest ones ranked, leaky ones apart."""
    note = "per cent with 95 % intervals; twin-free is the accuracy on test rows without a twin in training"
    title = f"Leaderboard of {found['data']}, ranked by macro-F1 on the select part"
    print_table(title, COLUMNS, [leaderboard_cells(r) for r in found["rows"]], note=note)
    if found["leaky"]:
        print_table("LEAKY, not ranked", COLUMNS, [leaderboard_cells(r) for r in found["leaky"]])
    if found["rows"] or found["leaky"]:
        say("How each was obtained, by rank")
    for row in [*found["rows"], *found["leaky"]]:
        say(f"{row['rank'] or '-':>3}  {row['name']}: {row['stamp']}")


def leaderboard_cells(row: dict) -> list[Any]:
    """One line of the leaderboard as it is shown."""
    select, test, free = row["select"] or {}, row["test"] or {}, row["twin_free"] or {}
    intervals = test.get("ci95") or {}
    latency = row["latency_ms"]
    engine = row["latency"].get("engine", "") if isinstance(row["latency"], dict) else ""
    return [
        row["rank"],
        row["name"],
        row["model"],
        row["resampling"],
        row["split"],
        row["tta"],
        percent(select.get("macro_f1")),
        percent(test.get("macro_f1"), intervals.get("macro_f1")),
        percent(test.get("accuracy"), intervals.get("accuracy")),
        percent(row["top2"]),
        percent(row["disgust_f1"]),
        percent(free.get("accuracy")),
        row["parameters"],
        f"{latency:.1f} {ENGINES.get(engine, engine)}".rstrip() if isinstance(latency, (int, float)) else None,
        test.get("looks"),
    ]
