"""Which faces could show part of which others: a sieve of low-resolution views.

One set of faces is seen through a fixed grid of windows: smaller, moved, narrower and turned ones. Each view, and each
face of the other set, whole and its middle, becomes 29 numbers: the cosine waves, up to 5.5 half waves across, of the
blurred pixels on a disc, less their mean. Disc and mean take nothing from beyond the window's edge, so that a crop
gives the numbers of the view it was cut from, and the corners of a turned picture do not count. Faces are compared by
the correlation of their numbers, straight and mirrored.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.registration import Floats
from ensemble_fer.neighbors.folding import Scratch

SIDE, SMALL, GRID = 48, 24, 12
# Pixels of blur and the disc's radius in half sides, both of a window that is 48 pixels wide; half waves across it.
BLUR, DISC, WAVES = 2.0, 0.95, 5.5
# The low waves, which all faces share, count less by this power of the number of half waves.
POWER = 0.25
# Windows: height in parts of the side, width in parts of the height, how many below and beside each other, and how far
# apart in pixels. Crops and a detector's boxes, which are higher than wide and end where the picture does, lie between.
WINDOWS = (
    (0.70, 1.00, 4, 4, 3.2, 3.2),
    (0.82, 1.00, 3, 3, 3.6, 3.6),
    (0.98, 1.00, 3, 3, 4.0, 4.0),
    (0.70, 0.82, 3, 4, 3.3, 3.0),
    (0.62, 0.82, 3, 3, 3.6, 3.6),
    (0.84, 0.80, 3, 5, 3.0, 3.3),
    (0.98, 0.70, 1, 5, 0.0, 3.6),
    (0.98, 0.84, 2, 3, 3.0, 3.5),
)
# Sizes of square windows around the middle, and by how many degrees they are turned.
TURNED, TURNS = (0.68, 0.82, 0.98), (-15, -8, 8, 15)
# Middles of the other faces, in parts of the side, are compared too, for faces that show more than these do.
INNER = 0.7
# Windows that meet them: upright squares of at least this size.
LARGE = 0.75
# Faces of each side in a tile of products; views after which candidates are thinned out.
TALL, WIDE, THIN = 512, 2048, 12

Ints = NDArray[np.int64]


@lru_cache(maxsize=1)
def view_maps() -> NDArray[np.float64]:
    """The windows, [v, 2, 3] as ``registration.sample`` takes them: from pixels of the view to those of the face."""
    windows = [(TURNED[0], TURNED[0], 0, 0, 0)]
    windows += [(size, size, 0, 0, turn) for size in TURNED for turn in TURNS]
    windows += [
        (high, high * ratio, down * (row - (rows - 1) / 2), right * (column - (columns - 1) / 2), 0)
        for high, ratio, rows, columns, down, right in WINDOWS
        for row in range(rows)
        for column in range(columns)
    ]
    maps = []
    for high, wide, y, x, degrees in windows:
        cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        maps.append([[high * cos, wide * sin, y], [-high * sin, wide * cos, x]])
    return np.array(maps)


def map_of(view: Ints, inner: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Maps from pixels of the other faces to those of the seen ones, [n, 2, 3].

    Parameters
    ----------
    view : int64 [n]
    inner : bool [n]
        It was the middle of the other face that met this view.
    """
    maps = view_maps()[view]
    maps[inner, :, :2] /= INNER
    return maps


def shrunk(images: NDArray[np.uint8]) -> Floats:
    """Averages of 2 x 2 pixels of uint8 [n, 48, 48], float32 [n, 24, 24]."""
    cells = images.reshape(-1, SMALL, 2, SMALL, 2).sum((2, 4), dtype=np.uint16)
    return cells.astype(np.float32) / 4


@lru_cache(maxsize=1)
def _basis() -> tuple[Floats, int]:
    """Waves on a disc of 12 x 12 samples, [k, 144]; those come first, so many, that mirroring does not negate."""
    places = np.arange(GRID)
    waves = np.cos(np.pi * (places + 0.5) * places[:, None] / GRID) * np.where(places, 1, 0.5**0.5)[:, None]
    middle = (places - (GRID - 1) / 2) / (GRID / 2)
    disc = (1 / (1 + np.exp((np.hypot(middle[:, None], middle) - DISC) / 0.05))).ravel()
    chosen = [(down, across) for down in range(GRID) for across in range(GRID) if 0 < np.hypot(down, across) <= WAVES]
    chosen.sort(key=lambda wave: wave[1] % 2)
    basis = np.stack([np.outer(waves[d], waves[a]).ravel() * np.hypot(d, a) ** POWER for d, a in chosen])
    basis -= (basis @ disc / disc.sum())[:, None]
    return (basis * disc).astype(np.float32), sum(across % 2 == 0 for _, across in chosen)


def _operator(view: NDArray[np.float64]) -> Floats:
    """The matrix [k, 576] that takes the pixels of a face of 24 x 24 to the numbers of one view."""
    line = (np.arange(GRID) - (GRID - 1) / 2) * (SIDE / GRID)
    samples = np.stack([np.repeat(line, GRID), np.tile(line, GRID), np.ones(GRID * GRID)])
    at = view @ samples / 2  # pixels of the small face are twice as wide
    sigma = BLUR * np.sqrt(np.linalg.det(view[:, :2])) / 2
    weights = _weights(at[0], sigma)[:, :, None] * _weights(at[1], sigma)[:, None, :]
    return _basis()[0] @ weights.reshape(len(weights), -1).astype(np.float32)


def _weights(at: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Gaussian weights [p, 24] of a line of pixels around places; beyond the ends the last pixel goes on."""
    line = np.arange(-SMALL, 2 * SMALL) - (SMALL - 1) / 2
    bell = np.exp(-0.5 * np.square((line - at[:, None]) / sigma))
    bell /= bell.sum(1, keepdims=True)
    out = bell[:, SMALL:-SMALL].copy()
    out[:, 0] += bell[:, :SMALL].sum(1)
    out[:, -1] += bell[:, -SMALL:].sum(1)
    return out


@lru_cache(maxsize=1)
def _operators() -> Floats:
    return np.stack([_operator(view) for view in view_maps()])


def _numbers(small: Floats, operator: Floats) -> Floats:
    numbers = small.reshape(len(small), -1) @ operator.T
    # Of windows that show nothing, with about a grey level of variation, they stay small and are like no others.
    return numbers / np.maximum(np.sqrt(np.einsum("ij,ij->i", numbers, numbers)), 4.0)[:, None]


class Views:
    """Candidates among some faces for others, block by block.

    Parameters
    ----------
    seen : uint8 [n, 48, 48]
        Faces that are seen through the windows.
    others : uint8 [m, 48, 48]
    gate : float
        Least correlation of a candidate.
    most : int
        Candidates of each of the others, the best ones, in all blocks together.
    """

    def __init__(self, seen: NDArray[np.uint8], others: NDArray[np.uint8], *, gate: float, most: int) -> None:
        self.seen, self.rows, self.most = seen, len(others), most
        small = shrunk(others)
        whole, middle = (_numbers(small, _operator(np.eye(2, 3) * size)) for size in (1.0, INNER))
        self.asked = np.concatenate([whole, middle])
        # A score that is lower is not among the best; blocks that are done raise it for those that come.
        self.bound = np.full(self.rows, gate, np.float32)
        maps = view_maps()
        upright = (maps[:, 0, 1] == 0) & (maps[:, 0, 0] == maps[:, 1, 1])
        self.meets_middles = upright & (maps[:, 0, 0] >= LARGE)
        self.scratch = Scratch(3 * TALL, WIDE)

    @property
    def starts(self) -> range:
        """First faces of the blocks of seen ones."""
        return range(0, len(self.seen), WIDE)

    def block(self, start: int) -> tuple[Ints, Floats]:
        """Candidates in a block of seen faces; may be called from several threads at once.

        Returns
        -------
        int64 [c, 5]
            Row of the others, row of the seen, view, 1 if the other is mirrored, 1 if it was its middle. Of each
            pair the best.
        float32 [c]
            Correlations.
        """
        small = shrunk(self.seen[start : start + WIDE])
        found, scores = np.zeros((0, 5), np.int64), np.zeros(0, np.float32)
        for first in range(0, len(_operators()), THIN):
            parts = [(found, scores)]
            for view in range(first, min(first + THIN, len(_operators()))):
                numbers = _numbers(small, _operators()[view])
                end = len(self.asked) if self.meets_middles[view] else self.rows
                for top in range(0, end, TALL):
                    parts.append(self._tile(top, min(top + TALL, end), numbers, start, view))
            found, scores = best_of(parts, self.most)
            last = np.flatnonzero(np.bincount(found[:, 0], minlength=self.rows) == self.most)
            lowest = np.searchsorted(found[:, 0], last, side="right") - 1
            self.bound[last] = np.maximum(self.bound[last], scores[lowest])
        return found, scores

    def _tile(self, top: int, end: int, numbers: Floats, start: int, view: int) -> tuple[Ints, Floats]:
        asked, even = self.asked[top:end], _basis()[1]
        row_of = np.arange(top, end) % self.rows
        bound = self.bound[row_of]
        tile = self.scratch.tile(3 * len(asked), len(numbers)).reshape(3, len(asked), len(numbers))
        scores, odd, size = tile
        # With products E of the even and O of the odd numbers two correlate by E + O, and by E - O when mirrored.
        np.matmul(asked[:, :even], numbers[:, :even].T, out=scores)
        np.matmul(asked[:, even:], numbers[:, even:].T, out=odd)
        scores += np.abs(odd, out=size)
        some = np.flatnonzero(scores.max(1) >= bound)
        row, column = np.nonzero(scores[some] >= bound[some, None])
        row = some[row]
        mirrored = odd[row, column] < 0
        found = [row_of[row], start + column, np.full(len(row), view), mirrored, top + row >= self.rows]
        return np.stack(found, 1), scores[row, column]


def best_of(parts: list[tuple[Ints, Floats]], most: int) -> tuple[Ints, Floats]:
    """Candidates put together: of each pair, the first two columns, the best, and of each first row the best ``most``.

    They come by first row, the best first.
    """
    found, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.lexsort((-scores, found[:, 1], found[:, 0]))
    found, scores = found[order], scores[order]
    fresh = np.ones(len(found), bool)
    fresh[1:] = (found[1:, :2] != found[:-1, :2]).any(1)
    found, scores = found[fresh], scores[fresh]
    order = np.lexsort((-scores, found[:, 0]))
    found, scores = found[order], scores[order]
    kept = np.arange(len(found)) - np.searchsorted(found[:, 0], found[:, 0]) < most
    return found[kept], scores[kept]
