"""All faces of one picture, and each cut out as FER2013 frames its faces."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.detector.boxes import Boxes
from ensemble_fer.detector.cascade import Settings, Windows, find_faces
from ensemble_fer.detector.engine import GraphEngine

SIDE = 48
LARGE = 1_500_000
"""Pixels of a picture from which on smaller faces are left alone: the search would take seconds."""
# How FER2013's pictures lie about a detector's box, medians of the 4,869 faces that MTCNN finds in every fifth row of
# Training, doubled to 96 pixels: how much wider than the mean side of the box, how far right and down of its centre.
WIDER, RIGHT, DOWN = 1.053, 0.018, -0.020


def settings_for(height: int, width: int) -> Settings:
    """facenet-pytorch's settings; above 1.5 million pixels the smallest face grows with the picture."""
    return Settings(smallest=Settings.smallest * max(1.0, math.sqrt(height * width / LARGE)))


def find(picture: NDArray[np.uint8], settings: Settings | None = None, *, threads: int | None = None) -> Windows:
    """All faces of a picture, the largest first.

    Parameters
    ----------
    picture : uint8 [h, w] or [h, w, 3]
    settings : Settings, optional
        By default ``settings_for`` its size.
    threads : int, optional
        Of onnxruntime; all processors by default.
    """
    height, width = picture.shape[:2]
    if not height or not width:
        picture = np.zeros((1, 1), np.uint8)
    found = find_faces(GraphEngine(picture[None], threads), settings or settings_for(height, width))
    size = found.boxes[:, 2:] - found.boxes[:, :2]
    return found.picked(np.lexsort((-found.scores, -size.prod(1))))


def framed(boxes: Boxes) -> NDArray[np.float64]:
    """The squares, float64 [n, 4], in which FER2013 would show faces with these detector's boxes."""
    left, top, right, bottom = boxes.astype(np.float64).T
    width, height = np.maximum(right - left, 1e-6), np.maximum(bottom - top, 1e-6)
    half = WIDER * np.sqrt(width * height) / 2
    x, y = (left + right) / 2 + RIGHT * width, (top + bottom) / 2 + DOWN * height
    return np.stack([x - half, y - half, x + half, y + half], 1)


def cut_out(picture: NDArray[np.uint8], squares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Gray faces uint8 [n, 48, 48]; beyond its edge a picture goes on as its last pixels are.

    Parameters
    ----------
    picture : uint8 [h, w] or [h, w, 3]
    squares : float64 [n, 4]
        As ``framed`` gives them.
    """
    from PIL import Image

    height, width = picture.shape[:2]
    faces = np.empty((len(squares), SIDE, SIDE), np.uint8)
    for face, (left, top, right, bottom) in zip(faces, squares, strict=True):
        # Whole pixels around the square, each taken from the nearest that the picture has.
        x, y = np.arange(math.floor(left), math.ceil(right)), np.arange(math.floor(top), math.ceil(bottom))
        around = Image.fromarray(picture[np.clip(y, 0, height - 1)[:, None], np.clip(x, 0, width - 1)]).convert("L")
        box = (left - x[0], top - y[0], right - x[0], bottom - y[0])
        face[:] = np.asarray(around.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box))
    return faces
