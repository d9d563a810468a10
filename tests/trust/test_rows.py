"""Lines of a csv that something has damaged: each is read as it stands, or named with a reason."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ensemble_fer.data.csv_reader import read_csv
from ensemble_fer.types import OFFICIAL
from tests.data.pictures import csv_line, faces
from tests.trust.campaign import answered, cases, mutated, whole, within_memory

LINES = 50
PLAIN = re.compile(rb"(\d),((?:\d{1,3} ){2303}\d{1,3}),(Training|PublicTest|PrivateTest)")
IMAGES = faces(LINES, seed=1)


def damaged(line: bytes, rng: np.random.Generator) -> bytes:
    """A line with an accident, as text or as bytes; still one line."""
    label, pixels, usage = line.split(b",")
    words = pixels.split(b" ")
    at = int(rng.integers(len(words)))
    match int(rng.integers(9)):
        case 0:
            words[at] = rng.choice(
                [b"256", b"-1", b"1e2", b"0x10", b"1.0", b"nan", b"", b"\xd9\xa3", b"9" * 4000, b"+7"]
            )
        case 1:
            del words[at]
        case 2:
            words.insert(at, b"0")
        case 3:
            label = rng.choice([b"7", b"-1", b"", b"happy", b"3.0", b"99999999999999999999", b"\xff", b"None"])
        case 4:
            usage = rng.choice([b"", b"train", b"Trainin", b"training ", b'"Training"', b"PrivateTest,PrivateTest"])
        case 5:
            words = words[: at + 1]
        case _:
            whole = mutated(b",".join([label, b" ".join(words), usage]), rng)
            return whole.replace(b"\n", b" ").replace(b"\r", b" ")
    return b",".join([label, b" ".join(words), usage])


def test_damaged_lines_are_read_as_they_stand_or_named(tmp_path: Path) -> None:
    """10,000 lines in files of 50."""
    path = tmp_path / "rows.csv"
    good = [csv_line(image, i % 7, OFFICIAL[i % 3]).encode() for i, image in enumerate(IMAGES)]
    read = named = 0
    with within_memory():
        for number, rng in cases("rows", 200, quick=6):
            lines = [damaged(line, rng) for line in good]
            path.write_bytes(b"emotion,pixels,Usage\n" + b"\n".join(lines) + b"\n")
            rows = answered(lambda: read_csv(path, quiet=True))
            assert rows is not None, number
            told = {int(found[1]) for problem in rows.problems if (found := re.match(r"line (\d+):", problem))}
            plain = []
            for at, line in enumerate(lines, start=2):
                if (found := PLAIN.fullmatch(line)) and int(found[1]) < 7:
                    levels = np.array(found[2].split(), np.int64)
                    if levels.max() < 256:
                        plain.append((levels, int(found[1]), found[3].decode()))
                        assert at not in told, (number, at)
                elif not line.strip():
                    continue
            kept = [
                (image.reshape(-1), int(label), OFFICIAL[usage])
                for image, label, usage in zip(rows.images, rows.labels, rows.usage, strict=True)
            ]
            # What is plain is among what was read, in its order; the others were written another way, or named.
            at = 0
            for levels, label, usage in plain:
                while not (np.array_equal(kept[at][0], levels) and kept[at][1:] == (label, usage)):
                    at += 1
                at += 1
            empty = sum(not line.strip() for line in lines)
            assert len(kept) + len(rows.problems) + sum(rows.dropped.values()) + empty >= LINES, number
            read, named = read + len(kept), named + len(rows.problems)
    if whole("rows"):
        assert read, "some lines were still lines"
        assert named > read, "most were not"
