"""All pairs of pictures that could show the same thing: two cheap sieves before any alignment.

Memory does not grow with the square of the rows: pairs are looked at in tiles, and what passes is handed on.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.registration import Floats, band
from ensemble_fer.neighbors.folding import SHARE, Scratch, at_most, folded

# Rows and columns of a tile of products; pictures whose tangents are made at once.
TALL, WIDE, BATCH = 512, 2048, 256
# Blurs in pixels between which tangents are compared.
BAND = (2.0, 8.0)
# Where each pixel of a 12 x 12 picture lies in its mirror image.
MIRROR = np.arange(144).reshape(12, 12)[:, ::-1].ravel()


class Screen:
    """Pairs that pass both sieves, block by block.

    Parameters
    ----------
    images : uint8 [n, 48, 48]
        None of them flat.
    screen : float
        Least correlation of the 12 x 12 averages, above 0.
    tangent : float
        Least share (a correlation, -1 to 1) of a 12 x 12 band of one picture that the other explains
        together with its derivatives by shift and zoom.
    """

    def __init__(self, images: NDArray[np.uint8], *, screen: float, tangent: float) -> None:
        self.rows, self.screen, self.tangent = len(images), screen, tangent
        self.even, self.odd = _halves(_averages(images))
        bands = [_unit(band(images[i : i + BATCH], *BAND, step=4)) for i in range(0, len(images), BATCH)]
        self.plain = np.concatenate(bands).reshape(len(images), -1)
        self.slopes = _slopes(12)
        self.turn = _turns(self.plain, self.slopes)
        self.tall, self.wide = TALL, WIDE
        self.scratch = Scratch(3 * TALL, WIDE)

    @property
    def starts(self) -> range:
        """First rows of the blocks."""
        return range(0, self.rows, self.tall)

    def block(self, start: int) -> NDArray[np.int64]:
        """Pairs of a row of this block with a later row; may be called from several threads at once.

        Returns
        -------
        int64 [k, 3]
            Smaller index, larger index, 1 if the second is mirrored. Both ways round may come.
        """
        tiles = range(start - start % self.wide, self.rows, self.wide)
        pairs = np.concatenate([self._correlated(start, left) for left in tiles])
        # By first row and way round: these share products.
        pairs = pairs[np.argsort((2 * (pairs[:, 0] - start) + pairs[:, 2]).astype(np.uint16), kind="stable")]
        return pairs[self._explained(start, pairs) >= self.tangent]

    def _correlated(self, top: int, left: int) -> NDArray[np.int64]:
        """Pairs of a tile that pass the first sieve."""
        above, beside = slice(top, min(top + self.tall, self.rows)), slice(left, left + self.wide)
        even, odd = self.even[beside].T, self.odd[beside].T
        high, wide = above.stop - top, even.shape[1]
        scores, turned, size = self.scratch.tile(3 * high, wide).reshape(3, high, wide)
        # The better way round correlates by E + |O|; negated, for low scores are sought.
        np.matmul(-self.even[above], even, out=scores)
        np.matmul(self.odd[above], odd, out=turned)
        scores -= np.abs(turned, out=size)
        row, column = at_most(*folded(scores), np.full(high, -self.screen, np.float32))
        a, b = top + row, left + column
        row, column, a, b = (x[a < b] for x in (row, column, a, b))
        odd_part = turned[row, column]
        mirrored = (odd_part < 0).astype(np.int64)
        # Some pass the other way round too, with E - |O|.
        also = -scores[row, column] - 2 * np.abs(odd_part) >= self.screen
        return np.concatenate([np.stack([a, b, mirrored], 1), np.stack([a, b, 1 - mirrored], 1)[also]])

    def _explained(self, start: int, pairs: NDArray[np.int64]) -> Floats:
        """How well either picture of each pair is explained by the other's tangents, the better of the two.

        The derivatives of a picture are linear in its pixels, ``b @ G``, so that those of the second meet the first
        in ``b @ (G @ a)``: both ways round are products of the second with eight pictures made from the first.
        """
        eight = self._eight(start)
        products = np.empty((len(pairs), 8), np.float32)
        changes = np.flatnonzero((pairs[1:, ::2] != pairs[:-1, ::2]).any(1)) + 1
        for first, last in pairwise([0, *changes.tolist(), len(pairs)] if len(pairs) else []):
            row, _, mirrored = pairs[first]
            seconds = np.take(self.plain, pairs[first:last, 1], axis=0)
            np.matmul(seconds, eight[mirrored, row - start].T, out=products[first:last])
        products[:, 4:] = np.einsum("kij,kj->ki", self.turn[pairs[:, 1]], products[:, 4:])
        along = products.reshape(-1, 2, 4)
        return (np.sqrt(np.square(along).sum(2)) * np.sign(along[:, :, 0])).max(1)

    def _eight(self, start: int) -> Floats:
        """Of the rows of a block ``turn @ (a @ G)`` and ``G @ a``, for seconds straight and mirrored: [2, m, 8, p]."""
        rows = slice(start, start + self.tall)
        plain, turn = self.plain[rows], self.turn[rows]
        tangents = turn @ (plain @ self.slopes).transpose(1, 0, 2)
        backwards = self.slopes.transpose(0, 2, 1)
        pairs = [(tangents, plain), (tangents[:, :, MIRROR], plain[:, MIRROR])]
        return np.stack([np.concatenate([t, (own @ backwards).transpose(1, 0, 2)], 1) for t, own in pairs])


def _averages(images: NDArray[np.uint8]) -> Floats:
    """12 x 12 averages, mean-free and of norm 1; float32 [n, 12, 12]."""
    across = np.repeat(np.eye(12, dtype=np.float32), 4, axis=0) / 16
    cells = [
        images[i : i + BATCH].reshape(-1, 12, 4, 48).sum(2, dtype=np.float32) @ across
        for i in range(0, len(images), BATCH)
    ]
    return _unit(np.concatenate(cells))


def _unit(pictures: Floats) -> Floats:
    pictures = pictures - pictures.mean((1, 2), keepdims=True)
    return pictures / np.maximum(np.sqrt(np.square(pictures).sum((1, 2), keepdims=True)), 1e-6)


def _halves(pictures: Floats) -> tuple[Floats, Floats]:
    """Parts of each picture that mirroring keeps and that it negates, float32 [n, s * s / 2] each.

    With products E of the even and O of the odd parts, two pictures correlate by E + O, and by E - O
    when one is mirrored: both for the price of one.
    """
    half = pictures.shape[2] // 2
    mirrored = pictures[:, :, ::-1]
    parts = ((pictures + mirrored)[:, :, :half], (pictures - mirrored)[:, :, :half])
    # Rows of zeros, which are like nothing, fill up the last chunk.
    empty = np.zeros((-len(pictures) % SHARE, pictures.shape[1] * half), np.float32)
    even, odd = (np.concatenate([p.reshape(len(p), -1) * np.float32(0.5**0.5), empty]) for p in parts)
    return even, odd


def _slopes(side: int) -> Floats:
    """Matrices [4, side^2, side^2] that take a picture to itself and its derivatives, mean-free.

    The derivatives are those by a shift down, a shift right and a zoom: small changes of the crop move
    the picture within their span.
    """
    pixels = np.eye(side * side, dtype=np.float32).reshape(-1, side, side)
    grid = np.arange(side, dtype=np.float32) - np.float32((side - 1) / 2)
    dy, dx = np.gradient(pixels, axis=1), np.gradient(pixels, axis=2)
    slopes = np.stack([pixels, dy, dx, dy * grid[:, None] + dx * grid]).reshape(4, side * side, -1)
    return slopes - slopes.mean(2, keepdims=True)


def _turns(plain: Floats, slopes: Floats) -> Floats:
    """For each picture [n, p] the matrix [n, 4, 4] that makes it and its derivatives orthonormal."""
    turns = []
    for i in range(0, len(plain), BATCH):
        spread = (plain[i : i + BATCH] @ slopes).transpose(1, 0, 2)
        gram = spread.astype(np.float64) @ spread.transpose(0, 2, 1)
        # The picture itself has norm 1; without the small pull an empty derivative has no direction.
        turns.append(np.linalg.inv(np.linalg.cholesky(gram + 1e-6 * np.eye(4))).astype(np.float32))
    return np.concatenate(turns)
