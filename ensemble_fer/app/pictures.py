"""Picture files of any size and mode as the faces a graph takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ensemble_fer.data.readers import FORMATS, LARGEST_PICTURE, BadPicture, PictureFace, picture_limits, read_picture
from ensemble_fer.errors import BadData, MissingError, UsageError


def read_faces(paths: Sequence[str | Path]) -> list[PictureFace]:
    """The middle square of each picture, gray and 48x48, in the order given.

    Read by the function that ``data import`` reads with, so that a picture of the data set gives its own pixels.

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
            f"{', '.join(folders)} is a folder; expected picture files. Write for instance {folders[0]}/*.jpg"
        )
    faces: list[PictureFace] = []
    missing: list[str] = []
    problems: list[str] = []
    with picture_limits():
        for path in paths:
            try:
                faces.append(read_picture(Path(path)))
            except FileNotFoundError:
                missing.append(f"{path}: no such file")
            except BadPicture as error:
                problems.append(f"{path}: {error}")
    advice = (
        f"Nothing was predicted. Expected {', '.join(FORMATS)} of at most {LARGEST_PICTURE:,} pixels; "
        "leave the bad ones out."
    )
    if missing:
        count = f"{len(missing)} of {_files(len(paths))} missing:"
        raise MissingError("\n".join([count, *missing, *problems, advice if problems else "Nothing was predicted."]))
    if problems:
        raise BadData(_files(len(paths)), problems, advice)
    return faces


def _files(count: int) -> str:
    return f"{count} picture file{'s' if count != 1 else ''}"
