"""Markdown tables of a results page, made from the kept logits.

``python -m ensemble_fer.evaluate.tables FOLDER --update PAGE.md`` rewrites what stands on the page between
``<!-- table:NAME -->`` and ``<!-- end -->``; ``--check PAGE.md`` writes nothing and ends with 1 if a table
there is not what the logits give. NAME is a key of ``TABLES``, for another part than the default ``NAME:select``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ensemble_fer.errors import EnsembleFerError, MissingError, UsageError, unknown_name
from ensemble_fer.evaluate.intervals import paired_difference
from ensemble_fer.evaluate.metrics import Report, score
from ensemble_fer.evaluate.predictions import load_predictions
from ensemble_fer.files import write_atomic
from ensemble_fer.types import CLASSES, Predictions, Role

Named = dict[str, Predictions]

NOTHING = "Nothing was scored here yet."
_BLOCK = re.compile(r"(<!-- table:(?P<name>[^ ]+) -->\n)(?P<body>.*?)(<!-- end -->)", re.DOTALL)
_SEED = re.compile(r"(?P<name>.+)-s(?P<seed>\d+)")
_METRICS = ("accuracy", "macro_f1")
_COLUMNS = ("accuracy", "macro-F1", "accuracy, twin-free", "macro-F1, twin-free")
_PART = re.compile(r"[.-](test|select)$")


def read_folder(folder: str | Path, role: str | None = None) -> Named:
    """The predictions of one part in a folder by name (the file's, without ``.npz`` and ``-test``).

    Single members come first, ensembles (whose stamp names several resamplings) last, each in order of name.

    Parameters
    ----------
    role : str, optional
        ``test`` or ``select``; by default test if there is any of it.

    Raises
    ------
    MissingError
        No such predictions in the folder.
    UsageError
        Two files with the same name.
    """
    found = [(_PART.sub("", path.stem), load_predictions(path)) for path in sorted(Path(folder).glob("*.npz"))]
    role = role or (Role.TEST if any(p.role == Role.TEST for _, p in found) else Role.SELECT)
    chosen = [(name, p) for name, p in found if p.role == role]
    if not chosen:
        raise MissingError(f"no predictions (*.npz) of the {role} part in {folder}; expected one file a run.")
    names = [name for name, _ in chosen]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"several files in {folder} are named {', '.join(twice)}. Give each its own name.")
    return dict(sorted(chosen, key=lambda item: (_is_ensemble(item[1]), item[0])))


def results_table(folder: str | Path, role: str | None = None) -> str:
    """Markdown table of the scores of every predictions file in a folder, with 95 % intervals, in per cent."""
    return scores_table(read_folder(folder, role))


def scores_table(named: Named) -> str:
    """Accuracy, macro-F1, Disgust F1 and top-2 of each, and twin-free accuracy and macro-F1."""
    head = (
        "",
        "accuracy",
        "macro-F1",
        "Disgust F1",
        "top-2",
        "accuracy, twin-free",
        "macro-F1, twin-free",
        "rows",
        "twin-free rows",
    )
    lines = []
    for name, p in named.items():
        report = score(p)
        free = report.twin_free
        mark = "" if report.ci_reliable else " (few rows: intervals unreliable)"
        lines.append(
            (
                f"{name}{' LEAKY' if p.protocol.leaky else ''}{mark}",
                _cell(report.accuracy, report.ci95.get("accuracy")),
                _cell(report.macro_f1, report.ci95.get("macro_f1")),
                _cell(_class_f1(report, "disgust"), report.ci95.get("disgust_f1")),
                _cell(report.top2, report.ci95.get("top2")),
                _cell(free["accuracy"], free["ci95"].get("accuracy")),
                _cell(free["macro_f1"], free["ci95"].get("macro_f1")),
                f"{report.rows:,}",
                f"{free['rows']:,}",
            )
        )
    return _markdown(head, lines)


def classes_table(named: Named) -> str:
    """F1 of each class, and how many faces it has."""
    reports = {name: score(p, n_boot=1) for name, p in named.items()}
    supports = next(iter(reports.values())).per_class
    head = ("F1", *(f"{c} ({supports[c]['support']:,})" for c in CLASSES), "mean")
    lines = [
        (name, *(_cell(_class_f1(report, c)) for c in CLASSES), _cell(report.macro_f1))
        for name, report in reports.items()
    ]
    return _markdown(head, lines)


def differences_table(named: Named) -> str:
    """Each ensemble minus each member, and each member of a resampled set minus those of the plain one.

    In points, by paired bootstrap over twin groups.
    """
    lines = []
    for name, p in named.items():
        for other_name, other in named.items():
            plain = other.protocol.resampling == "none" != p.protocol.resampling
            if not _is_ensemble(other) and (_is_ensemble(p) or plain):
                cells = [_points(*paired_difference(p, other, metric)) for metric in ("accuracy", "macro_f1")]
                lines.append((f"{name} − {other_name}", *cells))
    return _markdown(("points", "accuracy", "macro-F1"), lines)


def recipes_table(named: Named) -> str:
    """Recipes that were trained with several seeds, files ``NAME-s<seed>``: the mean of each, and each seed."""
    lines = []
    for name, runs in _recipes(named).items():
        reports = [score(p, n_boot=1) for p in runs]
        cells = [[getattr(report, metric) for report in reports] for metric in _METRICS]
        cells += [[report.twin_free[metric] for report in reports] for metric in _METRICS]
        lines.append((name, *map(_each, cells)))
    return _markdown(("mean (each seed)", *_COLUMNS), lines)


def recipe_differences_table(named: Named) -> str:
    """Each recipe minus those before it, in points, by paired bootstrap over twin groups and seeds."""
    recipes = list(_recipes(named).items())
    lines = []
    for later, (name, a) in enumerate(recipes):
        for other, b in recipes[:later]:
            free, free_b = ([_twin_free(p) for p in side] for side in (a, b))
            cells = [_points(*paired_difference(a, b, metric)) for metric in _METRICS]
            cells += [_points(*paired_difference(free, free_b, metric)) if len(free[0]) else "–" for metric in _METRICS]
            lines.append((f"{name} − {other}", *cells))
    return _markdown(("points", *_COLUMNS), lines)


def protocols_list(named: Named) -> str:
    """The stamp of each, one line a score."""
    return "\n".join(f"- {name}: {p.protocol.line()}" for name, p in named.items())


TABLES: dict[str, Callable[[Named], str]] = {
    "scores": scores_table,
    "classes": classes_table,
    "differences": differences_table,
    "recipes": recipes_table,
    "recipe_differences": recipe_differences_table,
    "protocols": protocols_list,
}
"""What can stand between the marks of a page."""


def with_tables(page: str, folder: str | Path) -> str:
    """The page with every marked table made again from the predictions in ``folder``.

    Raises
    ------
    UsageError
        No mark on the page, one without an end, or the name of no table.
    """
    opened = page.count("<!-- table:")
    if not opened or opened != len(_BLOCK.findall(page)):
        raise UsageError(
            f"found {opened} marks '<!-- table:NAME -->' and {len(_BLOCK.findall(page))} of them with an "
            "'<!-- end -->'; expected at least one, each alone on its line and each with its end."
        )

    parts: dict[str, Named] = {}

    def made_again(found: re.Match) -> str:
        name, _, role = found["name"].partition(":")
        if name not in TABLES:
            raise unknown_name("table", name, TABLES)
        if role and role not in list(Role):
            raise unknown_name("part", role, [str(r) for r in Role])
        if role not in parts:
            parts[role] = _named(folder, role)
        return f"{found[1]}\n{TABLES[name](parts[role]) if parts[role] else NOTHING}\n\n{found[4]}"

    return _BLOCK.sub(made_again, page)


def _named(folder: str | Path, role: str) -> Named:
    """The predictions of a part; none of a part that was named and has none, if there are any of another."""
    try:
        return read_folder(folder, role or None)
    except MissingError:
        if not role:
            raise
        read_folder(folder)
        return {}


def _recipes(named: Named) -> dict[str, list[Predictions]]:
    """The predictions of each recipe in order of the seed; ``default`` first, the others by name."""
    found: dict[str, dict[int, Predictions]] = {}
    for file, p in named.items():
        if part := _SEED.fullmatch(file):
            seeds, seed = found.setdefault(part["name"], {}), int(part["seed"])
            if seed in seeds:
                raise UsageError(f"several files are of seed {seed} of {part['name']}; one of them is {file}.")
            if p.protocol.seed != seed:
                raise UsageError(f"{file} is named after seed {seed}, and its stamp says seed {p.protocol.seed}.")
            seeds[seed] = p
    if not found:
        raise UsageError(f"no file is named NAME-s<seed>, such as default-s0; found {', '.join(named)}.")
    names = sorted(found, key=lambda name: (name != "default", name))
    return {name: [p for _, p in sorted(found[name].items())] for name in names}


def _twin_free(p: Predictions) -> Predictions:
    """The rows without a twin in training."""
    own = ("logits", "labels", "rows", "groups", "twin_in_train")
    return replace(p, **{key: getattr(p, key)[~p.twin_in_train] for key in own})


def _each(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "–"
    return f"{_cell(float(np.mean(known)))} ({', '.join(map(_cell, known))})"


def _is_ensemble(p: Predictions) -> bool:
    return " + " in p.protocol.resampling


def _class_f1(report: Report, name: str) -> float | None:
    found = report.per_class[name]
    return found["f1"] if found["support"] else None


def _cell(value: float | None, interval: Sequence[float] | None = None) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f}" + (f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else "")


def _points(difference: float, low: float, high: float) -> str:
    if np.isnan(difference):
        return "–"
    return f"{100 * difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ensemble_fer.evaluate.tables", description="Tables of a results page from kept logits."
    )
    parser.add_argument("folder", type=Path, help="folder of predictions (*.npz)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--update", type=Path, metavar="PAGE.md", help="write the tables between the marks of this page")
    what.add_argument("--check", type=Path, metavar="PAGE.md", help="end with 1 if the tables there differ")
    given = parser.parse_args(arguments)
    page: Path | None = given.update or given.check
    try:
        if page is None:
            print(results_table(given.folder))
            return 0
        try:
            old = page.read_text()
        except FileNotFoundError as error:
            raise MissingError(
                f"there is no page {page}; expected Markdown with marks '<!-- table:NAME -->'."
            ) from error
        new = with_tables(old, given.folder)
    except EnsembleFerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if given.update:
        write_atomic(page, new)
    elif new != old:
        print(
            f"the tables of {page} are not what {given.folder} gives. Make them again:\n"
            f"python -m ensemble_fer.evaluate.tables {given.folder} --update {page}",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
