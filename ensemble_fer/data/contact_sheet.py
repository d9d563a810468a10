"""A sheet of pictures with captions: what everything that shows faces uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

PAPER, INK, GAP, LINE = "white", "black", 4, 12


def contact_sheet(
    images: Sequence[Sequence[NDArray[np.uint8] | None]] | NDArray[np.uint8],
    captions: Sequence[Sequence[str]] | None = None,
    *,
    scale: int = 2,
    title: str = "",
    row_labels: Sequence[str] | None = None,
) -> Image.Image:
    """Lay pictures out as a grid on white.

    Parameters
    ----------
    images : rows of columns of uint8 [h, w] or [h, w, 3]
        Rows may be of different length; None leaves a cell empty. An array [rows, columns, h, w] does too.
    captions : rows of columns of str, optional
        Written below each picture; line breaks are kept.
    scale : int
        Pixels of the sheet for one pixel of a picture, 1 or more; no smoothing.
    title : str
        Written above everything.
    row_labels : list of str, optional
        Written to the left of each row.

    Returns
    -------
    PIL.Image.Image
        Mode L, or RGB if a picture is.

    Raises
    ------
    UsageError
        No picture, a picture that is not uint8 [h, w] or [h, w, 3], a scale below 1, or captions without a picture.
    """
    from PIL import Image, ImageDraw, ImageFont

    if scale < 1:
        raise UsageError(f"scale is {scale}; expected 1 or more.")
    cells = [[None if cell is None else np.asarray(cell) for cell in row] for row in images]
    shown = [cell for row in cells for cell in row if cell is not None]
    if not shown:
        raise UsageError("there is no picture to lay out; expected at least one.")
    wrong = next((cell for cell in shown if not _is_picture(cell)), None)
    if wrong is not None:
        raise UsageError(f"expected pictures, uint8 [h, w] or [h, w, 3]; found {wrong.dtype} {list(wrong.shape)}.")
    mode = "RGB" if any(cell.ndim == 3 for cell in shown) else "L"
    texts = [list(row) for row in captions] if captions is not None else []
    for what, given in (("rows of captions", len(texts)), ("row labels", len(row_labels or ()))):
        if given > len(cells):
            raise UsageError(f"{given} {what} for {len(cells)} rows of pictures.")
    if any(len(text) > len(row) for text, row in zip(texts, cells, strict=False)):
        raise UsageError("a row has more captions than pictures.")

    font = ImageFont.load_default()
    ruler = ImageDraw.Draw(Image.new("L", (1, 1)))

    def width(text: str) -> int:
        return max((round(ruler.textlength(_plain(line), font=font)) for line in text.split("\n")), default=0)

    high = max(cell.shape[0] for cell in shown) * scale
    widest = max((width(text) for row in texts for text in row), default=0)
    wide = max(max(cell.shape[1] for cell in shown) * scale, widest)
    lines = [max((text.count("\n") + 1 for text in row if text), default=0) for row in texts]
    lines += [0] * (len(cells) - len(lines))
    left = GAP + (max(map(width, row_labels)) + GAP if row_labels else 0)
    top = GAP + (LINE + GAP if title else 0)
    columns = max(len(row) for row in cells)
    size = (left + columns * (wide + GAP), top + sum(high + n * LINE + GAP for n in lines))
    sheet = Image.new(mode, (max(size[0], width(title) + 2 * GAP), size[1]), PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((GAP, GAP), _plain(title), fill=INK, font=font)
    y = top
    for r, row in enumerate(cells):
        if row_labels and r < len(row_labels):
            draw.text((GAP, y + high // 2 - LINE // 2), _plain(row_labels[r]), fill=INK, font=font)
        for c, cell in enumerate(row):
            x = left + c * (wide + GAP)
            if cell is not None:
                picture = Image.fromarray(cell)
                sheet.paste(
                    picture.resize((cell.shape[1] * scale, cell.shape[0] * scale), Image.Resampling.NEAREST), (x, y)
                )
            if r < len(texts) and c < len(texts[r]):
                draw.multiline_text((x, y + high), _plain(texts[r][c]), fill=INK, font=font, spacing=1)
        y += high + lines[r] * LINE + GAP
    return sheet


def _is_picture(cell: NDArray) -> bool:
    return cell.dtype == np.uint8 and (cell.ndim == 2 or (cell.ndim == 3 and cell.shape[2] == 3))


def _plain(text: str) -> str:
    """Text that every build of Pillow's own font can write: its bitmap font knows Latin-1 only."""
    return text.encode("latin-1", "replace").decode("latin-1")
