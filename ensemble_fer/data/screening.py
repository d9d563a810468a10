"""All pairs of pictures that could show the same thing: two cheap sieves before any alignment.

Memory does not grow with the square of the rows: pairs are looked at in tiles, and what passes is handed on.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.registration import Floats, band

# Rows and columns of a tile of products: 2 x 4 MB of float32 stay in the cache of a processor.
TALL, WIDE = 512, 2048
# Blurs in pixels between which tangents are compared, and pairs that are at once.
BAND, BATCH = (2.0, 8.0), 4096


def screened(images: NDArray[np.uint8], *, screen: float, tangent: float) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Pairs that pass both sieves, by blocks of rows.

    Parameters
    ----------
    images : uint8 [n, 48, 48]
        None of them flat.
    screen : float
        Least correlation of the 12 x 12 averages.
    tangent : float
        Least share (a correlation, -1 to 1) of a 12 x 12 band of one picture that the other explains
        together with its derivatives by shift and zoom.

    Yields
    ------
    rows : int
        How many rows are done with by this block.
    pairs : int64 [k, 3]
        Smaller index, larger index, 1 if the second is mirrored. Both ways round may come.
    """
    n = len(images)
    even, odd = _halves(_averages(images))
    basis, plain = _tangents(images)
    for i in range(0, n, TALL):
        found = []
        for j in range(i - i % WIDE, n, WIDE):
            both = even[i : i + TALL] @ even[j : j + WIDE].T
            turned = odd[i : i + TALL] @ odd[j : j + WIDE].T
            high = both + np.abs(turned) > screen
            a, b = np.divmod(np.flatnonzero(high), high.shape[1])
            both, turned = both[a, b], turned[a, b]
            a, b = a + i, b + j
            for mirrored, score in ((0, both + turned), (1, both - turned)):
                keep = (a < b) & (score > screen)
                found.append(np.stack([a[keep], b[keep], np.full(keep.sum(), mirrored)], 1))
        pairs = np.concatenate(found)
        explained = np.concatenate(
            [_explained(basis, plain, pairs[k : k + BATCH]) for k in range(0, len(pairs), BATCH)] or [np.zeros(0)]
        )
        yield min(TALL, n - i), pairs[explained >= tangent]


def _averages(images: NDArray[np.uint8]) -> Floats:
    """12 x 12 averages, mean-free and of norm 1; float32 [n, 12, 12]."""
    cells = images.reshape(len(images), 12, 4, 12, 4).mean((2, 4), dtype=np.float32)
    return _unit(cells)


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
    even, odd = (np.ascontiguousarray(p.reshape(len(p), -1) * np.float32(0.5**0.5)) for p in parts)
    return even, odd


def _tangents(images: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """For each picture an orthonormal basis [n, 4, 144] of itself and its derivatives, and itself [n, 12, 12].

    The derivatives are those by a shift down, a shift right and a zoom: small changes of the crop move
    the picture within their span.
    """
    n = len(images)
    plain = np.concatenate([_unit(band(images[i : i + BATCH], *BAND, step=4)) for i in range(0, n, BATCH)])
    side = plain.shape[1]
    grid = np.arange(side, dtype=np.float32) - np.float32((side - 1) / 2)
    basis = np.empty((n, 4, side * side), np.float32)
    for i in range(0, n, BATCH):
        block = plain[i : i + BATCH]
        dy, dx = np.gradient(block, axis=(1, 2))
        spread = np.stack([block, dy, dx, dy * grid[:, None] + dx * grid], 1).reshape(len(block), 4, -1)
        spread -= spread.mean(2, keepdims=True)
        gram = spread.astype(np.float64) @ spread.transpose(0, 2, 1)
        # The picture itself has norm 1; without the small pull an empty derivative has no direction.
        factor = np.linalg.cholesky(gram + 1e-6 * np.eye(4))
        basis[i : i + BATCH] = np.linalg.inv(factor) @ spread
    return basis, plain


def _explained(basis: Floats, plain: Floats, pairs: NDArray[np.int64]) -> Floats:
    """How well either picture of each pair is explained by the other's tangents, the better of the two."""
    a, b, flips = pairs.T
    flip = flips.astype(bool)
    best = np.full(len(pairs), -1, np.float32)
    for one, other in ((a, b), (b, a)):
        seen = plain[other]
        seen[flip] = seen[flip][:, :, ::-1]
        along = (basis[one] @ seen.reshape(len(seen), -1, 1))[:, :, 0]
        best = np.maximum(best, np.sqrt(np.square(along).sum(1)) * np.sign(along[:, 0]))
    return best
