"""A csv of what another program says of faces: a row id and seven numbers a line."""

from __future__ import annotations

import csv
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.labels import class_code
from ensemble_fer.errors import BadData, MissingError, UsageError, brief, unknown_name
from ensemble_fer.types import CLASSES, N_CLASSES

KINDS = ("auto", "probabilities", "logits")
MOST_BYTES = 50_000_000
SUM = 1e-2
"""By how much the probabilities of a row may miss 1: files are rounded."""
EDGE = 1e-4
"""By how much a probability may miss 0 and 1."""
LEAST = 1e-30
MOST_ROWS = 100_000_000
SHOWN = 20
MOST_PROBLEMS = 1000
ADVICE = f"Expected a header with {', '.join(CLASSES)} and, as far as there are, row and label; a line for each face."


@dataclass(frozen=True)
class Said:
    """What a csv holds.

    Parameters
    ----------
    logits : float32 [m, 7]
        In the order of ``CLASSES``; of probabilities their logarithms.
    rows : int64 [m] or None
        Row ids in the data set, where the file has a column ``row``.
    labels : int64 [m] or None
        Where it has a column ``label``: the order of rows can then be checked.
    """

    logits: NDArray[np.float32]
    rows: NDArray[np.int64] | None
    labels: NDArray[np.int64] | None


def read_said(path: str | Path, kind: str = "auto") -> Said:
    """Read and check a csv of probabilities or logits.

    Parameters
    ----------
    path : path
    kind : str
        ``probabilities``, ``logits``, or ``auto``: probabilities if every number is between 0 and 1 and every row sums
        to 1, to rounding.

    Raises
    ------
    MissingError
        There is no such file.
    UsageError
        An unknown kind, or a file of more than 50 MB.
    BadData
        Columns are missing, or lines are bad; all of the first twenty are named.
    """
    if kind not in KINDS:
        raise unknown_name("kind of numbers", kind, KINDS)
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"there is no file {path}. {ADVICE}")
    if path.stat().st_size > MOST_BYTES:
        raise UsageError(f"{path} has {path.stat().st_size / 1e6:,.0f} MB; expected at most {MOST_BYTES / 1e6:.0f}.")
    problems: list[str] = []
    values, rows, labels, at = array("d"), array("q"), array("b"), array("q")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            head = [name.strip().lower() for name in next(lines, [])]
            columns = {name: head.index(name) for name in (*CLASSES, "row", "label") if name in head}
            lacking = [name for name in CLASSES if name not in columns]
            if lacking:
                raise BadData(str(path), [f"no column {', '.join(lacking)}"], ADVICE)
            for line in lines:
                if not line:
                    continue
                try:
                    numbers = [float(line[columns[name]]) for name in CLASSES]
                    row = max(-1, min(int(line[columns["row"]]), MOST_ROWS + 1)) if "row" in columns else 0
                    label = _label(line[columns["label"]]) if "label" in columns else 0
                except (ValueError, IndexError) as error:
                    problems.append(f"line {lines.line_num}: {str(error)[:120]}")
                    if len(problems) >= MOST_PROBLEMS:
                        break
                    continue
                values.extend(numbers)
                if "row" in columns:
                    rows.append(row)
                labels.append(label)
                at.append(lines.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadData(str(path), [f"not a csv file: {error}"], ADVICE) from error
    if not at and not problems:
        raise BadData(str(path), ["no line of numbers"], ADVICE)
    numbers = np.array(values, np.float64).reshape(-1, N_CLASSES)
    if not problems:
        problems = _problems_of(numbers, np.array(rows, np.int64), kind, np.array(at, np.int64))
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise BadData(str(path), [*problems[:SHOWN], *more], ADVICE)
    shares = kind == "probabilities" or (kind == "auto" and _are_probabilities(numbers).all())
    return Said(
        np.log(np.clip(numbers, LEAST, 1)).astype(np.float32) if shares else numbers.astype(np.float32),
        np.array(rows, np.int64) if "row" in columns else None,
        np.array(labels, np.int64) if "label" in columns else None,
    )


def _label(text: str) -> int:
    code = class_code(text)
    if code is None:
        raise ValueError(f"label {brief(text)} is no class")
    return int(code)


def _are_probabilities(numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
    within = ((numbers >= -EDGE) & (numbers <= 1 + EDGE)).all(axis=1)
    return within & (np.abs(numbers.sum(axis=1) - 1) <= SUM)


def _look_like_shares(numbers: NDArray[np.float64]) -> bool:
    """Most rows are probabilities; or nothing is negative, and all at most 1 or sums near 100: hardly logits."""
    if 2 * _are_probabilities(numbers).sum() > len(numbers):
        return True
    near = np.abs(numbers.sum(axis=1) - 100) < 20
    return bool((numbers >= -EDGE).all() and (near | (numbers <= 1 + EDGE).all(axis=1)).all())


def _problems_of(numbers: NDArray[np.float64], rows: NDArray[np.int64], kind: str, at: NDArray[np.int64]) -> list[str]:
    """What is wrong with numbers that were read, each from the line that ``at`` says."""
    with np.errstate(over="ignore"):
        finite = np.isfinite(numbers.astype(np.float32)).all(axis=1)
    found = [f"line {at[i]}: not a finite number" for i in np.flatnonzero(~finite)]
    if kind == "probabilities" and not found:
        found = [
            f"line {at[i]}: no probabilities, their sum is {numbers[i].sum():.4g}"
            for i in np.flatnonzero(~_are_probabilities(numbers))
        ]
    if kind == "auto" and not found and _look_like_shares(numbers) and not _are_probabilities(numbers).all():
        i = int(np.flatnonzero(~_are_probabilities(numbers))[0])
        found = [
            f"line {at[i]}: the numbers look like probabilities or per cent, but their sum is {numbers[i].sum():.4g}; "
            "say which they are with --kind, or mend them"
        ]
    found += [f"line {at[i]}: row {rows[i]} is out of range" for i in np.flatnonzero((rows < 0) | (rows > MOST_ROWS))]
    twice = np.setdiff1d(np.arange(len(rows)), np.unique(rows, return_index=True)[1])
    return found + [f"line {at[i]}: row {rows[i]} again" for i in twice]
