"""MTCNN's cascade over pictures of one size: windows proposed, refined, decided.

The steps and roundings are those of Zhang et al. 2016 as facenet-pytorch has them, so that the same boxes are found; a
test compares the two. What differs is that all windows of a batch go through together, and overlaps are sought in all
pictures at once. Pixels and networks are an ``Engine``'s: onnxruntime's (``engine.py``), or torch's where whole data
sets are aligned (``align/engine.py``).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.detector.boxes import Boxes, Owners, moved, pixels_of, squared, suppress
from ensemble_fer.errors import UsageError

WINDOW, STRIDE = 12, 2
SIDE_R, SIDE_O = 24, 48

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Spans:
    """Windows as the pixels of which each of their own pixels is the mean.

    Parameters
    ----------
    begin, end : int64 [n, 2, side]
        First column and row of each column and row of a window, and those after the last.
    owners : int64 [n]
        Which picture.
    """

    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    owners: Owners


class Engine(Protocol):
    """Pictures of one size, and the three networks."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        ...

    def propose(self, height: int, width: int, threshold: float) -> tuple[NDArray[np.int64], Scores, Boxes]:
        """P-net over all pictures at this size.

        Returns
        -------
        Picture, row and column [m, 3] of the windows that score as much as the threshold, their scores and shifts.
        """
        ...

    def refine(self, windows: Spans) -> tuple[Scores, Boxes]:
        """R-net: scores [n] and shifts [n, 4]."""
        ...

    def decide(self, windows: Spans) -> tuple[Scores, Boxes, NDArray[np.float32]]:
        """O-net: scores [n], shifts [n, 4], landmarks [n, 5, 2] in shares of the window."""
        ...


@dataclass(frozen=True)
class Settings:
    """How faces are looked for. The default is facenet-pytorch's, which system A used.

    Parameters
    ----------
    smallest : float
        Side of the smallest face that is looked for, in pixels of the picture; 12 or more.
    factor : float
        Each level of the pyramid is the one before times this; above 0, below 1.
    thresholds : three floats
        Scores that P-, R- and O-net must exceed, 0 to 1.
    """

    smallest: float = 20.0
    factor: float = 0.709
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)

    def __post_init__(self) -> None:
        """Checks all values and keeps them as floats, so that 40 and 40.0 ask for the same.

        Raises
        ------
        UsageError
            A value of another type, or out of range.
        """
        smallest, factor = _number(self.smallest), _number(self.factor)
        if not WINDOW <= smallest < math.inf:
            raise UsageError(f"smallest is {self.smallest!r}; expected a number of pixels, {WINDOW} or more.")
        if not 0 < factor < 1:
            raise UsageError(f"factor is {self.factor!r}; expected a number above 0 and below 1.")
        given = self.thresholds
        thresholds = tuple(map(_number, given)) if isinstance(given, Sequence | np.ndarray) else ()
        if len(thresholds) != 3 or not all(0 <= t <= 1 for t in thresholds):
            raise UsageError(f"thresholds are {given!r}; expected three numbers from 0 to 1.")
        for key, value in (("smallest", smallest), ("factor", factor), ("thresholds", thresholds)):
            object.__setattr__(self, key, value)

    def to_dict(self) -> dict:
        return {**asdict(self), "thresholds": list(self.thresholds)}

    def scales(self, height: int, width: int) -> list[float]:
        """By how much each level of the pyramid shrinks the picture; none where it is too small for a window."""
        scale, side = WINDOW / self.smallest, min(height, width) * WINDOW / self.smallest
        found = []
        while side >= WINDOW:
            found.append(scale)
            scale, side = scale * self.factor, side * self.factor
        return found


def _number(value: object) -> float:
    """The value as a float; not a number if it is none."""
    return float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else math.nan


@dataclass(frozen=True)
class Windows:
    """Faces found in a batch, or windows on the way there.

    Parameters
    ----------
    boxes : float32 [n, 4]
        Left, top, right, bottom in pixels.
    scores : float32 [n]
    owners : int64 [n]
        Which picture of the batch, ascending.
    landmarks : float32 [n, 5, 2]
        x and y; empty before the last step.
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    owners: Owners
    landmarks: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.boxes)

    def picked(self, which: NDArray) -> Windows:
        return Windows(self.boxes[which], self.scores[which], self.owners[which], self.landmarks[which])


def find_faces(engine: Engine, settings: Settings) -> Windows:
    """All faces in the engine's pictures."""
    windows = _proposed(engine, settings)
    if len(windows):
        windows = _refined(windows, engine, settings.thresholds[1])
        windows = decided(windows, engine, settings.thresholds[2])
    return windows


def _proposed(engine: Engine, settings: Settings) -> Windows:
    """P-net on each level of the pyramid; of what overlaps, first within a level and then across, only the best."""
    height, width = engine.size
    boxes, scores, owners, shifts = [], [], [], []
    scales = settings.scales(height, width)
    for number, scale in enumerate(scales):
        at, score, shift = engine.propose(int(height * scale + 1), int(width * scale + 1), settings.thresholds[0])
        shifts.append(shift)
        scores.append(score)
        corner = at[:, [2, 1]].astype(np.float32) * STRIDE
        start, end = np.floor((corner + 1) / np.float32(scale)), np.floor((corner + WINDOW) / np.float32(scale))
        boxes.append(np.concatenate([start, end], 1))
        owners.append(at[:, 0] * len(scales) + number)
    if not scales:
        return _nothing()
    box, score, level, shift = (np.concatenate(part) for part in (boxes, scores, owners, shifts))
    stay = suppress(box, score, level, 0.5)
    box, score, owner, shift = box[stay], score[stay], level[stay] // len(scales), shift[stay]
    stay = suppress(box, score, owner, 0.7)
    made = squared(moved(box[stay], shift[stay]))
    return Windows(made, score[stay], owner[stay], _no_landmarks(len(made)))


def _refined(windows: Windows, engine: Engine, threshold: float) -> Windows:
    windows, spans = spans_of(windows, engine.size, SIDE_R)
    score, shift = engine.refine(spans)
    good = np.flatnonzero(score > threshold)
    found = Windows(windows.boxes[good], score[good], windows.owners[good], windows.landmarks[good])
    stay = suppress(found.boxes, found.scores, found.owners, 0.7)
    found, shift = found.picked(stay), shift[good][stay]
    return Windows(squared(moved(found.boxes, shift, wide=1)), found.scores, found.owners, found.landmarks)


def decided(windows: Windows, engine: Engine, threshold: float) -> Windows:
    """O-net: what of the windows is a face, where it is in it, and its landmarks; of what overlaps only the best."""
    windows, spans = spans_of(windows, engine.size, SIDE_O)
    score, shift, place = engine.decide(spans)
    good = np.flatnonzero(score > threshold)
    boxes = windows.boxes[good]
    # Shares of what the network saw, which is the window as far as it lies in the picture. facenet-pytorch takes them
    # of the whole window, so that landmarks of faces at the edge come to lie beside eyes and mouth.
    height, width = engine.size
    seen = np.clip(boxes - np.array([1, 1, 0, 0], np.float32), 0, [width, height, width, height])
    landmarks = seen[:, None, :2] + (seen[:, None, 2:] - seen[:, None, :2]) * place[good]
    found = Windows(moved(boxes, shift[good], wide=1), score[good], windows.owners[good], landmarks.astype(np.float32))
    # Windows that reach over the picture's edge may be cut to the same pixels, with the same score. facenet-pytorch,
    # given one picture at a time, takes the last of them.
    found = found.picked(np.arange(len(found))[::-1])
    return found.picked(suppress(found.boxes, found.scores, found.owners, 0.7, smaller=True, wide=1))


def spans_of(windows: Windows, size: tuple[int, int], side: int) -> tuple[Windows, Spans]:
    """Windows as far as they lie in their pictures, shrunk or stretched to ``side`` pixels; none that lie beside them.

    Pixel i of a window of n pixels is the mean of those from floor(i n / side) to before ceil((i + 1) n / side).
    """
    height, width = size
    pixels = pixels_of(windows.boxes, width, height)
    inside = np.flatnonzero((pixels[:, :2] < pixels[:, 2:]).all(1))
    windows, pixels = windows.picked(inside), pixels[inside]
    step = np.arange(side)
    corner, length = pixels[:, :2, None], (pixels[:, 2:] - pixels[:, :2])[:, :, None]
    begin, end = corner + step * length // side, corner - (-(step + 1) * length // side)
    return windows, Spans(begin, end, windows.owners)


def _no_landmarks(count: int) -> NDArray[np.float32]:
    return np.zeros((count, 5, 2), np.float32)


def _nothing() -> Windows:
    empty = np.zeros(0, np.float32)
    return Windows(np.zeros((0, 4), np.float32), empty, np.zeros(0, np.int64), _no_landmarks(0))
