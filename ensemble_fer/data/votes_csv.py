"""``fer2013new.csv`` of FER+: a line of votes for each face of FER2013, without its pixels."""

from __future__ import annotations

import csv
import difflib
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.labels import usage_advice, usage_code
from ensemble_fer.errors import BadData
from ensemble_fer.files import UnfitFile, read_file

COLUMNS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
"""Columns of votes in the order of the file; NF is "not a face"."""
USAGE, NAME = "Usage", "Image name"
# The file has about 2 MB; that of the pixels, which is easily taken for it, has 300.
LARGEST = 20_000_000
MOST = 255
MOST_PROBLEMS = 10_000  # a file with more bad lines is another one
_EXPECTED = f"{USAGE},{NAME},{','.join(COLUMNS)}"


def read_votes(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.uint8]]:
    """Read and check every line.

    Parameters
    ----------
    path : Path
        Columns in any order, their names in any case; further columns are passed over. UTF-8, with or without a
        byte-order mark.

    Returns
    -------
    usage : uint8 [m]
        Index into ``OFFICIAL``.
    named : bool [m]
        The line names a picture.
    counts : uint8 [m, 10]
        Votes, in the order of ``COLUMNS``.

    Raises
    ------
    BadData
        It is no such file, or has bad lines, all of them listed by their line numbers.
    """
    source = str(path)
    lines = csv.reader(io.StringIO(_text(path), newline=""))
    usages: list[int] = []
    named: list[bool] = []
    counts: list[list[int]] = []
    problems: list[str] = []
    try:
        header = next((line for line in lines if any(cell.strip() for cell in line)), [])
        places = _places(source, header)
        for cells in lines:
            if len(problems) >= MOST_PROBLEMS:
                problems.append("and maybe more, which were not read")
                break
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                problems.append(f"line {lines.line_num}: {len(cells)} of {len(header)} columns")
                continue
            usage, votes = usage_code(cells[places[USAGE]]), [_vote(cells[places[name]]) for name in COLUMNS]
            reasons = [usage_advice(cells[places[USAGE]][:40])] if usage is None else []
            reasons += [
                f"{name} is {cells[places[name]][:20]!r}; expected a whole number of votes, 0 to {MOST}"
                for name, vote in zip(COLUMNS, votes, strict=True)
                if vote is None
            ]
            if reasons or usage is None:
                problems.append(f"line {lines.line_num}: {'; '.join(reasons)}")
                continue
            usages.append(usage)
            named.append(bool(cells[places[NAME]].strip()))
            counts.append([vote or 0 for vote in votes])
    except csv.Error as error:
        problems.append(f"line {lines.line_num}: {error}")
    if problems:
        raise BadData(source, problems, "Nothing was joined. Take the file as its authors publish it.")
    if not counts:
        raise BadData(source, ["there is no line of votes"], f"Expected {_EXPECTED} and a line for each face.")
    return np.array(usages, np.uint8), np.array(named, bool), np.array(counts, np.uint8)


def _text(path: Path) -> str:
    source = str(path)
    try:
        content = read_file(path, LARGEST)
    except UnfitFile as error:
        problem = f"{error.strerror}, and votes have about 2 MB. Is it the file of the pixels?"
        raise BadData(source, [problem], "The votes are in fer2013new.csv.") from error
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content[:1000]:
        raise BadData(source, ["the file is UTF-16, or no text; save it as UTF-8"])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadData(source, [f"line {line}: not UTF-8; save the file as UTF-8"]) from None


def _places(source: str, header: list[str]) -> dict[str, int]:
    """Where each column is."""
    found = [cell.strip().casefold() for cell in header]
    wanted = {name: name.casefold() for name in (USAGE, NAME, *COLUMNS)}
    missing = [name for name, plain in wanted.items() if plain not in found]
    if missing:
        shown = ",".join(header)
        others = set(found) - set(wanted.values())
        near = {name: difflib.get_close_matches(wanted[name], others, n=1) for name in missing}
        guesses = "".join(f" Did you mean {close[0]!r} to be {name!r}?" for name, close in near.items() if close)
        pixels = " It looks like the file of pixels; the votes are in fer2013new.csv." if "pixels" in found else ""
        problem = f"the header {shown[:80]!r} has no column {' and no '.join(missing)}.{guesses}{pixels}"
        raise BadData(source, [problem], f"Expected {_EXPECTED}.")
    twice = [name for name, plain in wanted.items() if found.count(plain) > 1]
    if twice:
        raise BadData(source, [f"the header names the column {twice[0]} twice"], f"Expected {_EXPECTED}.")
    return {name: found.index(plain) for name, plain in wanted.items()}


def _vote(text: str) -> int | None:
    """A number of votes, or None if the text is none."""
    word = text.strip()
    return int(word) if word.isascii() and word.isdigit() and len(word) <= 4 and int(word) <= MOST else None
