"""What every reader returns, and how a picture becomes a face."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.types import FaceSet

if TYPE_CHECKING:
    from PIL import Image

SIDE = 48
PIXELS = SIDE * SIDE
# A photograph of 64 megapixels is more than any camera set holds; a "bomb" of a few KB can declare billions.
LARGEST_PICTURE = 64_000_000
ORIENTATION = 0x0112  # the EXIF tag
# Not PostScript and the like: Pillow hands those to other programs.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")


@dataclass
class Rows:
    """What a reader found.

    Parameters
    ----------
    layout : str
        What kind of source it was.
    images : uint8 [n, 48, 48]
    labels, usage : uint8 [n]
    problems : list of str
        One line a bad row: its place and the reason. Bad rows are not among the arrays.
    converted : int
        Pictures that were not 48x48 gray and are now.
    notes : list of str
        What else the user should know.
    """

    layout: str
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    usage: NDArray[np.uint8]
    problems: list[str] = field(default_factory=list)
    converted: int = 0
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, layout: str, images: list[NDArray[np.uint8]], labels: list[int], usage: list[int], **more) -> Rows:
        """From lists, which may be empty."""
        stacked = np.stack(images).reshape(-1, SIDE, SIDE) if images else np.empty((0, SIDE, SIDE), np.uint8)
        return cls(layout, stacked, np.array(labels, np.uint8), np.array(usage, np.uint8), **more)

    def faces(self, name: str) -> FaceSet:
        """The good rows as a FaceSet."""
        return FaceSet(self.images, self.labels, self.usage, name)


class BadPicture(ValueError):
    """A picture that cannot become a face; the text is the reason."""


@contextmanager
def picture_limits() -> Iterator[None]:
    """Let Pillow refuse pictures that declare more than ``LARGEST_PICTURE`` pixels, instead of warning."""
    from PIL import Image

    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = LARGEST_PICTURE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", module="PIL")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def read_picture(path: Path) -> tuple[NDArray[np.uint8], bool]:
    """The face in a picture file. Call inside ``picture_limits``.

    Returns
    -------
    uint8 [48, 48], and whether the picture had to be converted

    Raises
    ------
    BadPicture
        Not a picture, broken, too large, or in levels that are not light (floating point).
    """
    from PIL import Image, ImageOps

    if path.stat().st_size == 0:
        raise BadPicture("the file is empty")
    try:
        with Image.open(path, formats=FORMATS) as picture:
            picture.load()
            if picture.getexif().get(ORIENTATION, 1) == 1:
                return as_face(picture)
            return as_face(ImageOps.exif_transpose(picture))[0], True
    except BadPicture:
        raise
    except Image.UnidentifiedImageError:
        raise BadPicture("not a picture (PNG, JPEG, BMP, GIF, TIFF, WebP or PPM)") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadPicture(f"declares more than {LARGEST_PICTURE:,} pixels") from None
    except Exception as error:  # Pillow's decoders raise whatever comes: OSError, SyntaxError, struct.error, …
        raise BadPicture(f"broken picture ({error})") from None


def as_face(picture: Image.Image) -> tuple[NDArray[np.uint8], bool]:
    """Gray and 48x48: the middle square of the picture, made smaller with antialiasing.

    Returns
    -------
    uint8 [48, 48], and whether anything had to be changed
    """
    from PIL import Image

    if picture.mode == "L" and picture.size == (SIDE, SIDE):
        return np.asarray(picture), False
    if picture.mode == "F":
        raise BadPicture("floating-point levels; expected bytes")
    if picture.mode.startswith("I"):
        # 16 bits a pixel; Pillow's own conversion would cut everything above 255 off.
        levels = np.asarray(picture)
        if levels.min() < 0 or levels.max() > 65535:
            raise BadPicture("levels outside 0..65535")
        picture = Image.fromarray((levels >> 8).astype(np.uint8) if levels.max() > 255 else levels.astype(np.uint8))
    elif picture.mode in ("P", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
    gray = picture.convert("L")
    if gray.size != (SIDE, SIDE):
        side = min(gray.size)
        left, top = (gray.width - side) / 2, (gray.height - side) / 2
        box = (left, top, left + side, top + side)
        gray = gray.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
    return np.asarray(gray), True
