"""Faces followed from frame to frame: found now and then by the whole cascade, moved on in between by its last network.

O-net says of a window whether it holds a face, and where in it. Given the window in which a face was a moment ago it
says where the face is now, for a hundredth of what it costs to search the frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ensemble_fer.detector.boxes import Boxes, squared
from ensemble_fer.detector.cascade import Settings, Windows, decided
from ensemble_fer.detector.engine import GraphEngine
from ensemble_fer.detector.finding import find

EVERY = 10
"""Frames from one search to the next."""
SMALLEST_SHARE = 0.1
"""Of the frame's shorter side: smaller faces are not looked for."""
SAME = 0.3
"""Overlap, of the union, from which on a found face is one that was followed."""
MISSED = 2
"""A face that so many searches in a row did not find is gone, unless O-net is sure of its window."""
SURE = 0.7
"""O-net's score from which MTCNN itself takes a window for a face."""
HOLD = 0.4
"""O-net's score that a face must keep; less than one needs to be found, so that it is not lost and found in turns."""
AROUND = 0.35
"""How much of the frame around a box is looked at, in sides of the box, on each side."""


@dataclass
class Track:
    """A face through the frames.

    Parameters
    ----------
    number : int
        1 for the first face of the video, never given again.
    box : float32 [4]
        Left, top, right, bottom in the latest frame.
    missed : int
        Searches in a row that did not find it.
    """

    number: int
    box: NDArray[np.float32]
    missed: int = 0


class Tracker:
    """Which faces are where, frame by frame.

    Parameters
    ----------
    every : int
        Frames from one search of the whole frame to the next, 1 or more. While there is no face, every third frame is
        searched, so that one that comes in is seen at once.
    smallest : float, optional
        Side of the smallest face that is looked for, in pixels; a tenth of the frame's shorter side by default.
    threads : int, optional
        Of onnxruntime; all processors by default.
    """

    def __init__(self, every: int = EVERY, smallest: float | None = None, threads: int | None = None) -> None:
        self.every, self.smallest, self.threads = every, smallest, threads
        self.tracks: list[Track] = []
        self._made, self._since = 0, every

    def update(self, frame: NDArray[np.uint8]) -> list[Track]:
        """The faces in the next frame, uint8 [h, w] or [h, w, 3]; the one seen first comes first."""
        self._since += 1
        if self._since >= (self.every if self.tracks else min(3, self.every)):
            self._since = 0
            smallest = self.smallest or max(Settings.smallest, SMALLEST_SHARE * min(frame.shape[:2]))
            self._match(frame, find(frame, Settings(smallest=smallest), threads=self.threads).boxes)
        else:
            self.tracks = [track for track in self.tracks if self._moved(frame, track) is not None]
        return list(self.tracks)

    def _moved(self, frame: NDArray[np.uint8], track: Track) -> float | None:
        """O-net's score of the window to which a track is moved on; None if it sees no face there."""
        found = moved_on(frame, track.box, self.threads)
        if found is None:
            return None
        track.box, score = found
        return score

    def _match(self, frame: NDArray[np.uint8], found: Boxes) -> None:
        """Give each found face to the track that it overlaps most, or a new number; move on those not found."""
        overlap = overlaps([track.box for track in self.tracks], found)
        known: dict[int, int] = {}
        for track, place in zip(*linear_sum_assignment(-overlap), strict=True):
            if overlap[track, place] >= SAME:
                known[int(track)] = int(place)
        for position, track in enumerate(self.tracks):
            if position in known:
                track.box, track.missed = found[known[position]], 0
            else:
                score = self._moved(frame, track)
                track.missed = 0 if score is not None and score >= SURE else track.missed + 1
                track.missed = MISSED if score is None else track.missed
        self.tracks = [track for track in self.tracks if track.missed < MISSED]
        for place in range(len(found)):
            if place not in known.values():
                self._made += 1
                self.tracks.append(Track(self._made, found[place]))


def moved_on(
    frame: NDArray[np.uint8], box: NDArray[np.float32], threads: int | None = None
) -> tuple[NDArray[np.float32], float] | None:
    """Where the face is that was in this box in the frame before, and O-net's score; None if it sees no face there."""
    height, width = frame.shape[:2]
    side = max(box[2] - box[0], box[3] - box[1]) * AROUND
    left, top = max(0, int(box[0] - side)), max(0, int(box[1] - side))
    right, bottom = min(width, int(np.ceil(box[2] + side))), min(height, int(np.ceil(box[3] + side)))
    if right - left < 2 or bottom - top < 2:
        return None
    corner = np.array([left, top, left, top], np.float32)
    window = squared((box - corner)[None])
    start = Windows(window, np.ones(1, np.float32), np.zeros(1, np.int64), np.zeros((1, 5, 2), np.float32))
    found = decided(start, GraphEngine(frame[None, top:bottom, left:right], threads), HOLD)
    return (found.boxes[0] + corner, float(found.scores[0])) if len(found) else None


def overlaps(first: Sequence[NDArray] | Boxes, second: Sequence[NDArray] | Boxes) -> NDArray[np.float64]:
    """Share of the union that boxes [n, 4] and [m, 4] have in common: [n, m]."""
    a, b = (np.asarray(each, np.float64).reshape(-1, 4) for each in (first, second))
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clip(0).prod(2)
    area = [(each[:, 2:] - each[:, :2]).clip(0).prod(1) for each in (a, b)]
    return shared / np.maximum(area[0][:, None] + area[1][None] - shared, 1e-9)
