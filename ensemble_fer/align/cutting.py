"""The face in a picture as 96 x 96 pixels: the detector's box, or the middle where there is none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 96
_SMOOTH = Image.Resampling.BILINEAR


def scaled(images: NDArray[np.uint8], side: int = SIDE) -> tuple[NDArray[np.uint8], float, float]:
    """Pictures enlarged or shrunk to ``side`` pixels on the longer side, and by how much across and down.

    Parameters
    ----------
    images : uint8 [n, h, w] or [n, h, w, 3]
    """
    height, width = images.shape[1:3]
    longer = max(height, width, 1)
    size = (max(1, round(width * side / longer)), max(1, round(height * side / longer)))
    if not len(images) or size == (width, height):
        return images, 1.0, 1.0
    resized = np.stack([np.asarray(Image.fromarray(image).resize(size, _SMOOTH)) for image in images])
    return resized, size[0] / width, size[1] / height


def visible(boxes: NDArray[np.float32], height: int, width: int) -> NDArray[np.bool_]:
    """Which boxes [n, 4] show a pixel of the picture across and down: not those beside it or thinner than that."""
    inside = _within(boxes, height, width)
    across, down = inside[:, 2] - inside[:, 0], inside[:, 3] - inside[:, 1]
    return (across >= 1) & (down >= 1)


def _within(boxes: NDArray[np.float32], height: int, width: int) -> NDArray[np.float64]:
    return np.clip(boxes.astype(float), 0, [width, height, width, height])


def cut(
    images: NDArray[np.uint8], boxes: NDArray[np.float32], found: NDArray[np.bool_], side: int = SIDE
) -> NDArray[np.uint8]:
    """What the boxes show, uint8 [n, side, side], or [n, side, side, 3] of RGB pictures.

    As system A did: the box as far as it lies in the picture, without a margin, stretched to a square. Each face is
    interpolated once, from the source's pixels.

    Parameters
    ----------
    images : uint8 [n, h, w] or [n, h, w, 3]
    boxes : float32 [n, 4]
        Left, top, right, bottom in pixels.
    found : bool [n]
        Those of these boxes that are ``visible``. Of the others the middle square is shown, as large as the picture
        has it.
    """
    height, width = images.shape[1:3]
    size = min(height, width)
    left, top = (width - size) / 2, (height - size) / 2
    middle = np.array([left, top, left + size, top + size])
    inside = _within(boxes, height, width)
    shown = np.where(found[:, None], inside, middle)
    out = [
        np.asarray(Image.fromarray(image).resize((side, side), _SMOOTH, box=tuple(box)))
        for image, box in zip(images, shown, strict=True)
    ]
    return np.stack(out) if out else np.zeros((0, side, side, *images.shape[3:]), np.uint8)
