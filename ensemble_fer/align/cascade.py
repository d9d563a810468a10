"""MTCNN's cascade over a batch of pictures of one size: windows proposed, refined, decided.

The steps and roundings are those of Zhang et al. 2016 as facenet-pytorch has them, so that the same boxes are found; a
test compares the two. What differs is that all windows of a batch go through together: their pixels are averaged from
tables of sums, and overlaps are sought in all pictures at once.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ensemble_fer.align.boxes import Boxes, Owners, moved, pixels_of, squared, suppress
from ensemble_fer.align.nets import Nets
from ensemble_fer.errors import UsageError

WINDOW, STRIDE = 12, 2
SIDE_R, SIDE_O = 24, 48
# Windows whose pixels are averaged together: 64 MB of sums for 48 x 48 pixels in three channels.
WINDOWS = 1024


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


def find_faces(pictures: Tensor, nets: Nets, settings: Settings) -> Windows:
    """All faces in pictures uint8 [n, c, h, w] on the nets' device."""
    windows = _proposed(pictures, nets, settings)
    if len(windows):
        sums = _sums(pictures)
        windows = _refined(windows, sums, nets, settings.thresholds[1])
        windows = _decided(windows, sums, nets, settings.thresholds[2])
    return windows


def _proposed(pictures: Tensor, nets: Nets, settings: Settings) -> Windows:
    """P-net on each level of the pyramid; of what overlaps, first within a level and then across, only the best."""
    height, width = pictures.shape[2:]
    levels = pictures.float()
    boxes, scores, owners, shifts = [], [], [], []
    scales = settings.scales(height, width)
    for number, scale in enumerate(scales):
        level = F.interpolate(levels, (int(height * scale + 1), int(width * scale + 1)), mode="area")
        score, shift = nets.propose(level)
        at = torch.nonzero(score >= settings.thresholds[0])
        picture, y, x = at.unbind(1)
        shifts.append(shift[picture, :, y, x].cpu().numpy())
        scores.append(score[picture, y, x].cpu().numpy())
        corner = at[:, [2, 1]].cpu().numpy().astype(np.float32) * STRIDE
        start, end = np.floor((corner + 1) / np.float32(scale)), np.floor((corner + WINDOW) / np.float32(scale))
        boxes.append(np.concatenate([start, end], 1))
        owners.append(picture.cpu().numpy() * len(scales) + number)
    if not scales:
        return _nothing()
    box, score, level, shift = (np.concatenate(part) for part in (boxes, scores, owners, shifts))
    stay = suppress(box, score, level, 0.5)
    box, score, owner, shift = box[stay], score[stay], level[stay] // len(scales), shift[stay]
    stay = suppress(box, score, owner, 0.7)
    made = squared(moved(box[stay], shift[stay]))
    return Windows(made, score[stay], owner[stay], _no_landmarks(len(made)))


def _refined(windows: Windows, sums: Tensor, nets: Nets, threshold: float) -> Windows:
    windows, crops = _cropped(windows, sums, SIDE_R)
    score, shift = (part.cpu().numpy() for part in nets.refine(crops))
    good = np.flatnonzero(score > threshold)
    found = Windows(windows.boxes[good], score[good], windows.owners[good], windows.landmarks[good])
    stay = suppress(found.boxes, found.scores, found.owners, 0.7)
    found, shift = found.picked(stay), shift[good][stay]
    return Windows(squared(moved(found.boxes, shift, wide=1)), found.scores, found.owners, found.landmarks)


def _decided(windows: Windows, sums: Tensor, nets: Nets, threshold: float) -> Windows:
    windows, crops = _cropped(windows, sums, SIDE_O)
    score, shift, place = (part.cpu().numpy() for part in nets.decide(crops))
    good = np.flatnonzero(score > threshold)
    boxes = windows.boxes[good]
    # Shares of what the network saw, which is the window as far as it lies in the picture. facenet-pytorch takes them
    # of the whole window, so that landmarks of faces at the edge come to lie beside eyes and mouth.
    height, width = sums.shape[2] - 1, sums.shape[3] - 1
    seen = np.clip(boxes - np.array([1, 1, 0, 0], np.float32), 0, [width, height, width, height])
    landmarks = seen[:, None, :2] + (seen[:, None, 2:] - seen[:, None, :2]) * place[good]
    found = Windows(moved(boxes, shift[good], wide=1), score[good], windows.owners[good], landmarks.astype(np.float32))
    # Windows that reach over the picture's edge may be cut to the same pixels, with the same score. facenet-pytorch,
    # given one picture at a time, takes the last of them.
    found = found.picked(np.arange(len(found))[::-1])
    return found.picked(suppress(found.boxes, found.scores, found.owners, 0.7, smaller=True, wide=1))


def _sums(pictures: Tensor) -> Tensor:
    """Tables of sums [n, c, h + 1, w + 1]: entry (y, x) is the sum of all pixels above and to the left of it."""
    height, width = pictures.shape[2:]
    kind = torch.int32 if height * width * 255 < 2**31 else torch.int64
    table = torch.zeros((*pictures.shape[:2], height + 1, width + 1), dtype=kind, device=pictures.device)
    torch.cumsum(pictures, 2, dtype=kind, out=table[:, :, 1:, 1:])
    table[:, :, 1:, 1:] = table[:, :, 1:, 1:].cumsum(3, dtype=kind)
    return table


def _cropped(windows: Windows, sums: Tensor, side: int) -> tuple[Windows, Tensor]:
    """The windows that lie in their pictures, and their pixels averaged to float32 [n, c, side, side].

    Pixel i of a window of n pixels is the mean of those from floor(i n / side) to before ceil((i + 1) n / side).
    """
    channels, height, width = sums.shape[1], sums.shape[2] - 1, sums.shape[3] - 1
    pixels = pixels_of(windows.boxes, width, height)
    inside = np.flatnonzero((pixels[:, :2] < pixels[:, 2:]).all(1))
    windows, pixels = windows.picked(inside), pixels[inside]
    step = np.arange(side)
    corner, size = pixels[:, :2, None], (pixels[:, 2:] - pixels[:, :2])[:, :, None]
    begin = torch.from_numpy(corner + step * size // side)
    end = torch.from_numpy(corner - (-(step + 1) * size // side))
    flat = sums.reshape(len(sums) * channels, -1)
    first = torch.from_numpy(windows.owners) * channels
    parts = []
    for at in torch.arange(len(windows)).split(WINDOWS):
        (x0, y0), (x1, y1) = begin[at].unbind(1), end[at].unbind(1)
        area = ((y1 - y0)[:, :, None] * (x1 - x0)[:, None, :]).to(sums.device)
        table = (first[at][:, None] + torch.arange(channels)) * flat.shape[1]

        def corners(y: Tensor, x: Tensor, table: Tensor = table) -> Tensor:
            line = table[:, :, None] + y[:, None, :] * (width + 1)
            return sums.view(-1)[(line[..., None] + x[:, None, None, :]).to(sums.device)]

        total = corners(y1, x1) - corners(y0, x1) - corners(y1, x0) + corners(y0, x0)
        parts.append(total.float() / area[:, None])
    return windows, torch.cat(parts) if parts else torch.empty((0, channels, side, side), device=sums.device)


def _no_landmarks(count: int) -> NDArray[np.float32]:
    return np.zeros((count, 5, 2), np.float32)


def _nothing() -> Windows:
    empty = np.zeros(0, np.float32)
    return Windows(np.zeros((0, 4), np.float32), empty, np.zeros(0, np.int64), _no_landmarks(0))
