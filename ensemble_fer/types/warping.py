"""Turned, moved, enlarged and mirrored faces, made from the numbers that say how."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TRANSFORM = ("angle", "dx", "dy", "zoom", "flip")
"""Columns of a transformation. Five zeros leave a face as it is.

angle
    Degrees by which the face is turned clockwise about its middle.
dx, dy
    Shares of the picture's width and height by which it is then moved to the right and down.
zoom
    Share by which it is then enlarged about the middle of the picture; below 0 it is shrunk. Above -1.
flip
    1 mirrors it at last, left to right; 0 does not.
"""
AT_ONCE = 512  # faces, so that coordinates and corners stay in the cache


def warped(faces: NDArray[np.uint8], transform: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Each face with its transformation, interpolated once between the four nearest pixels.

    What comes in from outside shows the nearest pixel of the edge, as Keras's ``fill_mode="nearest"`` has it. Every
    pixel lies between the darkest and the brightest of its face.

    Parameters
    ----------
    faces : uint8 [m, h, w] or [m, h, w, 3]
    transform : float32 [m, 5]
        Columns as ``TRANSFORM`` says.

    Returns
    -------
    uint8, shaped as ``faces``
    """
    out = np.empty_like(faces)
    for start in range(0, len(faces), AT_ONCE):
        at = slice(start, start + AT_ONCE)
        out[at] = _warped(faces[at], transform[at].astype(np.float32))
    return out


def _warped(faces: NDArray[np.uint8], transform: NDArray[np.float32]) -> NDArray[np.uint8]:
    m, height, width = faces.shape[:3]
    x, y = _source(transform, height, width)
    left, top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    right, below = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    shape = (m, height, width) + (1,) * (faces.ndim - 3)
    across, down = ((c - whole).astype(np.float32).reshape(shape) for c, whole in ((x, left), (y, top)))
    pixels = faces.reshape(m, height * width, *faces.shape[3:])
    face = np.arange(m)[:, None, None]

    def row(line: NDArray[np.intp]) -> NDArray[np.float32]:
        """Levels in one line above or below, between its two pixels."""
        first, second = (pixels[face, line * width + column].astype(np.float32) for column in (left, right))
        return (first + across * (second - first)).astype(np.float32)

    upper = row(top)
    return np.rint(upper + down * (row(below) - upper)).astype(np.uint8)


def _source(transform: NDArray[np.float32], height: int, width: int) -> tuple[NDArray, NDArray]:
    """Where in the untouched face each pixel looks: column and row, float32 [m, h, w], inside the picture."""
    angle, dx, dy, zoom, flip = transform[:, :, None, None].transpose(1, 0, 2, 3)
    middle_x, middle_y = np.float32((width - 1) / 2), np.float32((height - 1) / 2)
    # Backwards through the four steps: mirrored, enlarged, moved, turned.
    x = (np.arange(width, dtype=np.float32) - middle_x)[None, None, :] * (1 - 2 * np.rint(flip)) / (1 + zoom)
    y = (np.arange(height, dtype=np.float32) - middle_y)[None, :, None] / (1 + zoom)
    x, y = x - dx * width, y - dy * height
    turn = np.radians(angle)
    cos, sin = np.cos(turn), np.sin(turn)
    x, y = cos * x + sin * y + middle_x, cos * y - sin * x + middle_y
    return np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
