"""Picture files of any size and mode, and the faces in them as a graph takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.readers import (
    FORMATS,
    LARGEST_PICTURE,
    SIDE,
    BadPicture,
    Box,
    PictureFace,
    picture_limits,
    read_whole,
)
from ensemble_fer.detector.finding import cut_out, find, framed
from ensemble_fer.errors import BadData, MissingError, UsageError

WHOLE = 64
"""A picture of at most so many pixels on its longer side is a face already."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
GONE = "no such file"


@dataclass(frozen=True)
class Faces:
    """The faces of one picture.

    Parameters
    ----------
    path : str
        As it was given.
    pixels : uint8 [n, 48, 48]
        What the graph is shown.
    boxes : list of (x0, y0, x1, y1)
        Where each is, in whole pixels of the picture as a viewer shows it; x1 and y1 are the first outside.
    found : bool
        Whether a detector found them; else the middle of the picture is taken for the face.
    problem : str
        Why there are none; empty where the picture could be read.
    """

    path: str
    pixels: NDArray[np.uint8]
    boxes: list[Box]
    found: bool
    problem: str = ""


def faces_of(whole: PictureFace, picture: NDArray[np.uint8], path: str, threads: int | None = None) -> Faces:
    """The faces of a picture: what the detector finds, or its middle square.

    A picture of at most 64 pixels on its longer side is used whole: it is a face that was cut out already.
    """
    height, width = picture.shape[:2]
    if max(height, width) > WHOLE:
        windows = find(picture, threads=threads)
        boxes = np.clip(np.rint(windows.boxes), 0, [width, height, width, height]).astype(int)
        seen = (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
        if seen.any():
            places: list[Box] = [(int(a), int(b), int(c), int(d)) for a, b, c, d in boxes[seen]]
            return Faces(path, cut_out(picture, framed(windows.boxes[seen])), places, True)
    return Faces(path, whole.pixels[None], [whole.box], False)


def read_faces(
    paths: Sequence[str | Path],
    threads: int | None = None,
    *,
    skip: bool = False,
    advance: Callable[[int], None] = lambda n: None,
) -> list[Faces]:
    """The faces of each picture, in the order given.

    Parameters
    ----------
    paths : files
    threads : int, optional
        Of the detector.
    skip : bool
        Of a file that is missing or no picture, say so in its place, instead of refusing all.
    advance : callable
        Is given 1 after each picture.

    Raises
    ------
    UsageError
        A folder is among the paths.
    MissingError
        Files that are not there, all of them named, and after them those that are no pictures.
    BadData
        All files are there; some are no pictures, all of these listed.
    """
    folders = [str(path) for path in paths if Path(path).is_dir()]
    if folders:
        raise UsageError(
            f"{', '.join(folders)} is a folder; expected picture files. Give a folder alone, or {folders[0]}/*.jpg"
        )
    found: list[Faces] = []
    with picture_limits():
        for path in paths:
            found.append(_read(str(path), threads))
            advance(1)
    missing = [f"{each.path}: {each.problem}" for each in found if each.problem == GONE]
    problems = [f"{each.path}: {each.problem}" for each in found if each.problem not in ("", GONE)]
    advice = f"Nothing was predicted. Expected {', '.join(FORMATS)} of at most {LARGEST_PICTURE:,} pixels; " + (
        "leave the bad ones out."
    )
    if missing and not skip:
        count = f"{len(missing)} of {_files(len(paths))} missing:"
        raise MissingError("\n".join([count, *missing, *problems, advice if problems else "Nothing was predicted."]))
    if problems and not skip:
        raise BadData(_files(len(paths)), problems, advice)
    return found


def _read(path: str, threads: int | None) -> Faces:
    try:
        return faces_of(*read_whole(Path(path)), path, threads)
    except FileNotFoundError:
        problem = GONE
    except BadPicture as error:
        problem = str(error)
    return Faces(path, np.empty((0, SIDE, SIDE), np.uint8), [], False, problem)


def pictures_in(folder: Path) -> list[Path]:
    """Picture files in a folder and those below it, by name.

    Raises
    ------
    UsageError
        There are none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise UsageError(f"folder {folder} holds no picture ({', '.join(SUFFIXES)}).")
    return found


def _files(count: int) -> str:
    return f"{count} picture file{'s' if count != 1 else ''}"
