"""Picture files of any size and mode as the faces a graph takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.readers import FORMATS, LARGEST_PICTURE, BadPicture, as_face, picture_limits
from ensemble_fer.errors import BadData, UsageError

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class PictureFace:
    """A face cut out of a picture.

    Parameters
    ----------
    pixels : uint8 [48, 48]
        Grey levels.
    box : (x0, y0, x1, y1)
        Where it was, in pixels of the picture as a viewer shows it (EXIF orientation applied); x1 and y1 are
        the first column and row outside.
    """

    pixels: NDArray[np.uint8]
    box: Box


def read_faces(paths: Sequence[str | Path]) -> list[PictureFace]:
    """The middle square of each picture, gray and 48x48, in the order given.

    Made gray and small exactly as ``data import`` does, so that a picture of the data set gives its own pixels.

    Raises
    ------
    UsageError
        A folder is among the paths.
    BadData
        Files that are missing or no pictures, all of them listed.
    """
    folders = [str(path) for path in paths if Path(path).is_dir()]
    if folders:
        raise UsageError(
            f"{', '.join(folders)} is a folder; expected picture files. Write for instance {folders[0]}/*.jpg"
        )
    faces: list[PictureFace] = []
    problems: list[str] = []
    with picture_limits():
        for path in paths:
            try:
                faces.append(_read(Path(path)))
            except BadPicture as error:
                problems.append(f"{path}: {error}")
    if problems:
        raise BadData(
            f"{len(paths)} picture file{'s' if len(paths) != 1 else ''}",
            problems,
            f"Nothing was predicted. Expected {', '.join(FORMATS)} of at most {LARGEST_PICTURE:,} pixels; "
            "leave the bad ones out.",
        )
    return faces


def _read(path: Path) -> PictureFace:
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=FORMATS) as picture:
            upright = ImageOps.exif_transpose(picture)
            box = middle_square(*upright.size)
            pixels, _ = as_face(upright.crop(box) if box != (0, 0, *upright.size) else upright)
            return PictureFace(pixels, box)
    except BadPicture:
        raise
    except FileNotFoundError:
        raise BadPicture("no such file") from None
    except PermissionError:
        raise BadPicture("may not be read (permission denied)") from None
    except Image.UnidentifiedImageError:
        raise BadPicture("the file is empty" if not path.stat().st_size else "not a picture") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadPicture(f"declares more than {LARGEST_PICTURE:,} pixels") from None
    except Exception as error:  # Pillow's decoders raise whatever comes: OSError, SyntaxError, struct.error, …
        raise BadPicture(f"broken picture ({error})") from None


def middle_square(width: int, height: int) -> Box:
    """The largest square in the middle, in whole pixels; the odd pixel stays right or below."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side
