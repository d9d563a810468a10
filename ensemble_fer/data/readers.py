"""What every reader returns, and how a picture becomes a face."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.types import OFFICIAL, FaceSet

if TYPE_CHECKING:
    from PIL import Image

SIDE = 48
PIXELS = SIDE * SIDE
# A photograph of 64 megapixels is more than any camera set holds; a "bomb" of a few KB can declare billions.
LARGEST_PICTURE = 64_000_000
ORIENTATION = 0x0112  # the EXIF tag
# Not PostScript and the like: Pillow hands those to other programs.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
# What is seen through a transparent picture.
PAPER = (255, 255, 255, 255)
_STRIP = 256  # rows

Box = tuple[int, int, int, int]


def count_left_out(usages: Iterable[int | None] = ()) -> dict[str, int]:
    """Rows left out by official usage; those whose usage could not be read are ``unknown``."""
    codes = list(usages)
    return {**{name: codes.count(code) for code, name in enumerate(OFFICIAL)}, "unknown": codes.count(None)}


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
    left_out : dict of str to int
        Bad rows by usage, see ``count_left_out``; a bad folder is as many rows as it has pictures.
    converted : int
        Pictures that were not 48x48 gray and are now.
    dropped : dict of str to int
        Good rows of a class beside the seven, which were left out: ``{"contempt": 120}``.
    notes : list of str
        What else the user should know.
    """

    layout: str
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    usage: NDArray[np.uint8]
    problems: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=count_left_out)
    converted: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, layout: str, images: list[NDArray[np.uint8]], labels: list[int], usage: list[int], **more) -> Rows:
        """From lists, which may be empty."""
        stacked = np.stack(images).reshape(-1, SIDE, SIDE) if images else np.empty((0, SIDE, SIDE), np.uint8)
        return cls(layout, stacked, np.array(labels, np.uint8), np.array(usage, np.uint8), **more)

    def faces(self, name: str) -> FaceSet:
        """The good rows as a FaceSet."""
        return FaceSet(self.images, self.labels, self.usage, name)


class OtherClass(ValueError):
    """A row of a class beside the seven, which is the text."""


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
    converted : bool
        The picture was not 48x48 gray, or lay on its side.
    """

    pixels: NDArray[np.uint8]
    box: Box
    converted: bool


def read_picture(path: Path) -> PictureFace:
    """The face in a picture file: all of it, or its middle square. Call inside ``picture_limits``.

    Raises
    ------
    BadPicture
        Not a picture, broken, too large, or in levels that are not light.
    FileNotFoundError
    """
    return _opened(path, _face_of)


def read_whole(file: Path | bytes, most: int = LARGEST_PICTURE) -> tuple[PictureFace, NDArray[np.uint8]]:
    """As ``read_picture``, and the whole picture beside it, uint8 [h, w], or [h, w, 3] if it has colours.

    ``most`` pixels are read; a picture that declares more is a ``BadPicture``. The file may be given as its content.
    """

    def both(upright: Image.Image, turned: bool) -> tuple[PictureFace, NDArray[np.uint8]]:
        plain = _plain(upright)
        face = _face_of(plain, turned)
        return replace(face, converted=face.converted or plain is not upright), as_bytes(plain)

    return _opened(file, both, most)


def _face_of(upright: Image.Image, turned: bool) -> PictureFace:
    pixels, changed = as_face(upright)
    return PictureFace(pixels, middle_square(*upright.size), changed or turned)


Taken = TypeVar("Taken")


def _opened(file: Path | bytes, take: Callable[[Image.Image, bool], Taken], most: int = LARGEST_PICTURE) -> Taken:
    """What is taken of a picture that stands upright, and is told whether it had to be turned."""
    from PIL import Image, ImageOps

    try:
        if (len(file) if isinstance(file, bytes) else file.stat().st_size) == 0:
            raise BadPicture("the file is empty")
        with Image.open(BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS) as picture:
            # Here too, since Pillow's own limit is one for all threads.
            if picture.width * picture.height > most:
                raise BadPicture(f"declares more than {most:,} pixels")
            picture.load()
            turned = picture.getexif().get(ORIENTATION, 1) != 1
            if turned:  # in place: of the largest pictures every copy is a quarter of a gigabyte
                ImageOps.exif_transpose(picture, in_place=True)
            return take(picture, turned)
    except (BadPicture, FileNotFoundError):
        raise
    except NotADirectoryError as error:  # of a path that goes on below a file
        raise FileNotFoundError(file) from error
    except PermissionError:
        raise BadPicture("may not be read (permission denied)") from None
    except Image.UnidentifiedImageError:
        raise BadPicture("not a picture (PNG, JPEG, BMP, GIF, TIFF, WebP or PPM)") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadPicture(f"declares more than {LARGEST_PICTURE:,} pixels") from None
    except Exception as error:  # Pillow's decoders raise whatever comes: OSError, SyntaxError, struct.error, …
        raise BadPicture(f"broken picture ({error})") from None


def middle_square(width: int, height: int) -> Box:
    """The largest square in the middle, in whole pixels; the odd pixel stays right or below."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def as_face(picture: Image.Image) -> tuple[NDArray[np.uint8], bool]:
    """Gray and 48x48: the middle square of the picture, made smaller with antialiasing.

    Returns
    -------
    uint8 [48, 48], and whether anything had to be changed

    Raises
    ------
    BadPicture
        Whole levels outside 0..65535, or fractions outside 0..255.
    """
    from PIL import Image

    if picture.mode == "L" and picture.size == (SIDE, SIDE) and not picture.has_transparency_data:
        return np.asarray(picture), False
    gray = _plain(picture).convert("L")
    if gray.size != (SIDE, SIDE):
        # Cut first: a resize with a box would let pixels outside of it bleed in.
        gray = gray.crop(middle_square(*gray.size)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(gray), True


def as_bytes(picture: Image.Image) -> NDArray[np.uint8]:
    """A whole picture as it looks: uint8 [h, w], or [h, w, 3] if it has colours.

    Raises
    ------
    BadPicture
        As ``as_face``.
    """
    plain = _plain(picture)
    mode = "L" if plain.mode in ("1", "L") else "RGB"
    return np.asarray(plain if plain.mode == mode else plain.convert(mode))


def _plain(picture: Image.Image) -> Image.Image:
    """The picture in bytes, nothing in it transparent."""
    from PIL import Image

    if picture.mode == "F":
        picture = Image.fromarray(_from_fractions(np.asarray(picture)))
    elif picture.mode.startswith("I"):
        # 16 bits a pixel; Pillow's own conversion would cut everything above 255 off.
        levels = np.asarray(picture)
        if levels.min() < 0 or levels.max() > 65535:
            raise BadPicture("levels outside 0..65535")
        picture = Image.fromarray((levels >> 8).astype(np.uint8) if levels.max() > 255 else levels.astype(np.uint8))
    elif picture.mode == "P" or picture.has_transparency_data:
        picture = _on_paper(picture)
    return picture


def _on_paper(picture: Image.Image) -> Image.Image:
    """The picture as it looks on white paper, RGB; some rows at a time, which takes half the memory."""
    from PIL import Image

    seen = Image.new("RGB", picture.size)
    for top in range(0, picture.height, _STRIP):
        box = (0, top, picture.width, min(top + _STRIP, picture.height))
        strip = picture.crop(box).convert("RGBA")
        seen.paste(Image.alpha_composite(Image.new("RGBA", strip.size, PAPER), strip).convert("RGB"), box)
    return seen


def _from_fractions(levels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Floating-point light as bytes: between 0 and 1 as shares of white, else between 0 and 255 as levels."""
    low, high = float(levels.min()), float(levels.max())
    if not (low >= 0 and high <= 255):  # not a number fails both
        raise BadPicture(f"floating-point levels between {low:g} and {high:g}; expected 0 to 1 or 0 to 255")
    return np.rint(levels * (255 if high <= 1 else 1)).astype(np.uint8)
