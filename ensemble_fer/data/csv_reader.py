"""Kaggle's csv files of FER2013: one face a line, its 2,304 pixels as text.

``fer2013.csv`` has the columns ``emotion,pixels,Usage``; ``icml_face_data.csv`` has ``emotion, Usage, pixels``
with spaces in the names. Any order is read, quoted or not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.labels import class_advice, class_code, eighth_class, usage_advice, usage_code
from ensemble_fer.data.readers import PIXELS, OtherClass, Rows, count_left_out
from ensemble_fer.errors import BadData
from ensemble_fer.runtime import progress

COLUMNS = ("emotion", "usage", "pixels")
# 2,304 pixels of 3 digits are 9.2 KB; a longer line than this is not a face, and is not held in memory.
LONGEST_LINE = 1 << 20
MOST_PROBLEMS = 100_000  # a file with more bad lines is no file of faces
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Header:
    """Which column is where."""

    emotion: int
    usage: int
    pixels: int
    columns: int


class BadLine(ValueError):
    """Why a line is no face, and the code of its usage if that could be read."""

    def __init__(self, reason: str, usage: int | None = None) -> None:
        super().__init__(reason)
        self.usage = usage


def read_csv(path: Path, *, quiet: bool = False) -> Rows:
    """Read and check every line.

    Parameters
    ----------
    path : Path
        A csv file with a header line. A byte-order mark at its start, CRLF line ends and empty lines are accepted.
    quiet : bool
        No progress bar.

    Returns
    -------
    Rows
        Bad lines are named in ``problems`` by their line number in the file, which begins with line 1.

    Raises
    ------
    BadData
        The file is empty, or its header lacks a column.
    """
    images: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    usages: list[int] = []
    problems: list[str] = []
    left_out: list[int | None] = []
    dropped: Counter[str] = Counter()
    with progress(path.stat().st_size, "reading faces", quiet=quiet) as advance:
        lines = enumerate(_lines(path), start=1)
        # Empty lines before the header are passed over like those after it.
        at, first = next(((n, line) for n, line in lines if line.removeprefix(BOM).strip()), (1, b""))
        header = _header(str(path), first, at)
        unreported = len(first)
        for number, line in lines:
            unreported += len(line)
            if unreported > 4_000_000:
                advance(unreported)
                unreported = 0
            if line.isspace():
                continue
            try:
                label, usage, image = parse_line(line, header)
            except OtherClass as other:
                dropped[str(other)] += 1
                continue
            except BadLine as reason:
                problems.append(f"line {number}: {reason}")
                if len(problems) > MOST_PROBLEMS:
                    more = f"and more after line {number:,}, which were not read"
                    raise BadData(str(path), [*problems, more], "This is hardly a file of faces.") from None
                left_out.append(reason.usage)
                continue
            images.append(image)
            labels.append(label)
            usages.append(usage)
    out = count_left_out(left_out)
    return Rows.of("csv", images, labels, usages, problems=problems, left_out=out, dropped=dict(dropped))


def _lines(path: Path) -> Iterator[bytes]:
    """Lines as bytes; of one that is too long only the beginning."""
    with path.open("rb") as file:
        while line := file.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                while (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                    pass
            yield line


def _header(source: str, line: bytes, number: int) -> Header:
    at = f"line {number}"
    if not line.strip():
        raise BadData(source, ["the file is empty; expected the header emotion,pixels,Usage"])
    if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise BadData(source, [f"{at}: the file is UTF-16; save it as UTF-8"])
    text = line.removeprefix(BOM).decode("utf-8", "replace").strip()
    if "\r" in text:
        raise BadData(source, [f"{at}: line ends are CR alone; expected LF or CRLF. Convert the line ends."])
    shown = text if len(text) <= 60 else text[:57] + "..."
    names = [name.strip(" \t\"'").casefold() for name in text.split(",")]
    if names[0].isdigit():
        raise BadData(source, [f"{at}: no header, found {shown!r}; expected emotion,pixels,Usage"])
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        hint = ""
        if missing == ["usage"]:
            hint = (
                "Without the column Usage the official split is lost (Kaggle's train.csv is such a file). "
                "Import fer2013.csv or icml_face_data.csv, which have it."
            )
        problem = f"{at}: the header {shown!r} has no column {' and no '.join(missing)}; expected emotion,pixels,Usage"
        raise BadData(source, [problem], hint)
    twice = [name for name in COLUMNS if names.count(name) > 1]
    if twice:
        raise BadData(source, [f"{at}: the header {shown!r} names the column {twice[0]} twice"])
    return Header(*(names.index(name) for name in COLUMNS), columns=len(names))


def parse_line(line: bytes, header: Header) -> tuple[int, int, NDArray[np.uint8]]:
    """Label, usage and pixels of one line.

    Returns
    -------
    int 0 to 6, int 0 to 2, uint8 [2304]

    Raises
    ------
    BadLine
        With all that is wrong with the line.
    OtherClass
        The label is a class beside the seven.
    """
    if len(line) >= LONGEST_LINE:
        raise BadLine(f"longer than {LONGEST_LINE:,} bytes; a line of a face has about 9,000")
    if b"\0" in line:
        raise BadLine(f"holds {line.count(0):,} NUL bytes; the file is damaged here", _usage_in(line))
    if BOM in line:
        raise BadLine("holds a byte-order mark in the middle of the file; were two files joined?", _usage_in(line))
    cells = line.split(b",")
    if len(cells) != header.columns:
        kind = "truncated, or not a row" if len(cells) < header.columns else "too long"
        pixels = max((len(cell.split()) for cell in cells), default=0)
        found = f"; {pixels:,} of {PIXELS:,} pixels" if 1 < pixels < PIXELS else ""
        raise BadLine(f"{kind}: {len(cells)} of {header.columns} columns{found}", _usage_in(line))
    reasons = []
    label_text, usage_text = (_text(cells[at]) for at in (header.emotion, header.usage))
    label, usage = class_code(label_text), usage_code(usage_text)
    other = eighth_class(label_text)
    if label is None and other:
        raise OtherClass(other)
    if label is None:
        reasons.append(f"label {class_advice(label_text)}")
    if usage is None:
        reasons.append(usage_advice(usage_text))
    field = cells[header.pixels].strip(b' \t\r\n"')
    image = _pixels(field)
    if image is None:
        try:
            image = _pixels_one_by_one(field)
        except BadLine as reason:
            reasons.append(str(reason))
    if reasons or label is None or usage is None or image is None:
        raise BadLine("; ".join(reasons), usage)
    return label, usage, image


def _usage_in(line: bytes) -> int | None:
    """The usage that stands in a damaged line, if exactly one does."""
    found = {usage_code(_text(cell)) for cell in line.split(b",")} - {None}
    return found.pop() if len(found) == 1 else None


def _text(cell: bytes) -> str:
    return cell.strip(b' \t\r\n"').decode("utf-8", "replace")[:40]


def _pixels(field: bytes) -> NDArray[np.uint8] | None:
    """2,304 numbers between single spaces, read with array arithmetic; None if it is anything else."""
    text = np.frombuffer(b"  " + field, np.uint8)  # two spaces more, so that the first number has hundreds too
    blank = text == 32
    spaces = blank.nonzero()[0]
    if len(spaces) != PIXELS + 1 or len(field) == 0:
        return None
    digits = text - np.uint8(48)  # wraps around below "0", so that only digits are at most 9
    digits[blank] = 0
    ends = np.concatenate((spaces[2:], (len(text),))) - 1
    widths = ends - spaces[1:]
    if digits.max() > 9 or widths.min() < 1 or widths.max() > 3:
        return None
    values = digits[ends] + digits[ends - 1] * np.uint16(10)
    values += digits[ends - 2] * np.uint16(100) * ~blank[ends - 1]  # else it is the number before this one
    return values.astype(np.uint8) if values.max() <= 255 else None


def _pixels_one_by_one(field: bytes) -> NDArray[np.uint8]:
    """The same, slowly: accepts any white space, and says what is wrong."""
    words = field.split()
    reasons = []
    if len(words) != PIXELS:
        reasons.append(f"{len(words):,} pixels; expected {PIXELS:,}")
    wrong = [(at, word) for at, word in enumerate(words) if not word.isdigit() or len(word) > 9 or int(word) > 255]
    if wrong:
        at, word = wrong[0]
        more = f" and {len(wrong) - 1:,} more like it" if len(wrong) > 1 else ""
        reasons.append(f"pixel {at} is {word[:20].decode('utf-8', 'replace')!r}{more}; expected 0 to 255")
    if reasons:
        raise BadLine("; ".join(reasons))
    return np.array([int(word) for word in words], np.uint8)
