"""Laying one small picture over another: affine alignment of many pairs at once.

Gauss-Newton on the pixels (Lucas and Kanade 1981), each step a least-squares fit of the second picture by the
first, a constant and the derivatives of the first by the six numbers of an affine map. The fit includes the
gain and offset of the light, so brightness and contrast play no part.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
# A map may enlarge, shrink, stretch, turn and shear by this much in all, and shift by this part of the side.
FARTHEST, SHIFT = 0.3, 0.2


@lru_cache(maxsize=32)
def blur_matrix(side: int, sigma: float, step: int = 1) -> Floats:
    """Matrix [side / step, side] that blurs a line of pixels by ``sigma`` and takes every ``step``-th.

    ``B @ image @ B.T`` does both directions. Borders repeat the last pixel.
    """
    from scipy.ndimage import gaussian_filter1d

    full = gaussian_filter1d(np.eye(side), sigma, axis=0, mode="nearest", truncate=3.0)
    return full.reshape(side // step, step, side).mean(1).astype(np.float32)


def band(images: NDArray[np.number], fine: float, coarse: float, step: int = 1) -> Floats:
    """Detail between two blurs: ``images`` blurred by ``fine`` minus the same blurred by ``coarse``.

    Parameters
    ----------
    images : [n, s, s]
        Gray levels.
    fine, coarse : float
        Standard deviations of the two Gaussians, in pixels.
    step : int
        Averages squares of ``step`` x ``step`` pixels; divides s.

    Returns
    -------
    float32 [n, s / step, s / step]
    """
    pixels = images.astype(np.float32)
    near, far = (blur_matrix(images.shape[1], sigma, step=step) for sigma in (fine, coarse))
    return (near @ pixels @ near.T - far @ pixels @ far.T).astype(np.float32, copy=False)


def sample(images: Floats, maps: NDArray) -> tuple[Floats, Floats]:
    """Pictures seen through affine maps, bilinear, and where they could be seen.

    Parameters
    ----------
    images : float32 [n, s, s]
    maps : float [n, 2, 3]
        Rows y and x; columns of y, of x, and 1. Coordinates are pixels from the centre.

    Returns
    -------
    seen : float32 [n, s, s]
    inside : float32 [n, s, s]
        1 where the map stays on the picture, else 0.
    """
    n, s, _ = images.shape
    centre, edge = np.float32((s - 1) / 2), np.float32(0.01)
    at = maps.astype(np.float32).reshape(-1, 3) @ _grid(s)
    inside = np.abs(at).reshape(n, 2, s * s).max(1) < centre + edge
    at += centre
    np.clip(at, 0, s - 1.001, out=at)
    whole = np.trunc(at)
    at -= whole
    down, right = at.reshape(n, 2, s * s).transpose(1, 0, 2)
    top, left = whole.reshape(n, 2, s * s).transpose(1, 0, 2)
    top *= s
    top += left
    corner = top.astype(np.intp)
    corner += (np.arange(n) * s * s)[:, None]
    # The four pixels around are those at the corner in the picture and in three copies moved by one pixel.
    flat = images.reshape(-1)
    seen, other, lower = (np.take(flat[move:], corner, mode="clip") for move in (0, 1, s))
    other -= seen
    other *= right
    seen += other
    np.take(flat[s + 1 :], corner, mode="clip", out=other)
    other -= lower
    other *= right
    lower += other
    lower -= seen
    lower *= down
    seen += lower
    return seen.reshape(n, s, s), inside.reshape(n, s, s).astype(np.float32)


@lru_cache(maxsize=8)
def _grid(side: int) -> Floats:
    """Coordinates from the centre of all pixels of a picture, and 1: [3, side * side] as maps multiply them."""
    line = np.arange(side, dtype=np.float32) - np.float32((side - 1) / 2)
    return np.stack([np.repeat(line, side), np.tile(line, side), np.ones(side * side, np.float32)])


def correlation(first: Floats, second: Floats, inside: Floats | None = None) -> Floats:
    """Correlation of each pair of pictures [n, s, s] over the pixels inside; 0 where one is flat."""
    inside = np.ones_like(first) if inside is None else inside
    weight = np.maximum(inside.sum((1, 2), keepdims=True), 1)
    a = (first - (first * inside).sum((1, 2), keepdims=True) / weight) * inside
    b = (second - (second * inside).sum((1, 2), keepdims=True) / weight) * inside
    norms = np.einsum("nij,nij->n", a, a) * np.einsum("nij,nij->n", b, b)
    # A thousandth of a grey level rms is rounding, not a picture.
    return np.where(norms > (1e-6 * weight[:, 0, 0]) ** 2, np.einsum("nij,nij->n", a, b) / np.sqrt(norms + 1e-30), 0)


def align(first: Floats, second: Floats, maps: NDArray, steps: int) -> tuple[Floats, NDArray]:
    """Improve affine maps so that ``first`` seen through them looks like ``second``.

    Parameters
    ----------
    first, second : float32 [n, s, s]
    maps : float [n, 2, 3]
        Where to start.
    steps : int

    Returns
    -------
    float32 [n]
        The best correlation met on the way.
    float64 [n, 2, 3]
        The map that gave it.
    """
    n, s, _ = first.shape
    down, right, _ = _grid(s).reshape(3, s, s)
    maps = maps.astype(np.float64)
    best, kept = np.full(n, -1, np.float32), maps.copy()
    # The second picture, what explains it: the first, a constant, and its derivatives by the six numbers of the map.
    design = np.empty((n, 9, s, s), np.float32)
    rows = design.reshape(n, 9, s * s)
    for step in range(steps + 1):
        seen, inside = sample(first, maps)
        np.multiply(second, inside, out=design[:, 0])
        np.multiply(seen, inside, out=design[:, 1])
        design[:, 2] = inside
        if step < steps:
            dy, dx = design[:, 3], design[:, 4]
            _slopes(seen, dy, dx)
            dy *= inside
            dx *= inside
            for number, slope, along in ((5, dy, down), (6, dy, right), (7, dx, down), (8, dx, right)):
                np.multiply(slope, along, out=design[:, number])
        gram = _products(rows) if step < steps else np.einsum("nik,njk->nij", rows[:, :3], rows[:, :3])
        score = _correlation_of(gram)
        better = (score > best) & _plausible(maps, s)
        best[better], kept[better] = score[better], maps[better]
        if step < steps:
            maps = _improved(maps, gram[:, 1:, 1:], gram[:, 1:, :1], s)
    return best, kept


def _products(rows: Floats) -> NDArray[np.float64]:
    """Inner products [n, 9, 9] of nine rows [n, 9, p] with each other.

    Of many small products BLAS makes those of 8 x 8 more than twice as fast as those of 9 x 9, or of a matrix with
    itself; the two that are left over, of the first and of the last row with themselves, are made apart.
    """
    out = np.empty((len(rows), 9, 9))
    out[:, 1:, :8] = rows[:, 1:] @ rows[:, :8].transpose(0, 2, 1)
    out[:, 0, 1:] = out[:, 1:, 0]
    out[:, 1:8, 8] = out[:, 8, 1:8]
    for k in (0, 8):
        out[:, k, k] = np.einsum("nk,nk->n", rows[:, k], rows[:, k])
    return out


def _slopes(pictures: Floats, dy: Floats, dx: Floats) -> None:
    """Derivatives of pictures [n, s, s] down and to the right: central differences, at borders one-sided ones."""
    for axis, out in ((1, dy), (2, dx)):
        values, slopes = np.moveaxis(pictures, axis, 0), np.moveaxis(out, axis, 0)
        np.subtract(values[2:], values[:-2], out=slopes[1:-1])
        slopes[1:-1] *= 0.5
        np.subtract(values[1], values[0], out=slopes[0])
        np.subtract(values[-1], values[-2], out=slopes[-1])


def _correlation_of(gram: NDArray) -> NDArray[np.float64]:
    """Correlation of two pictures from the products of the second, the first and 1 over the pixels inside."""
    gram = gram[:, :3, :3].astype(np.float64)
    weight = np.maximum(gram[:, 2, 2], 1)
    norms = [gram[:, k, k] - gram[:, k, 2] ** 2 / weight for k in (0, 1)]
    product = np.maximum(norms[0], 0) * np.maximum(norms[1], 0)
    shared = gram[:, 0, 1] - gram[:, 0, 2] * gram[:, 1, 2] / weight
    return np.where(product > (1e-6 * weight) ** 2, shared / np.sqrt(product + 1e-30), 0)


def _improved(maps: NDArray, gram: NDArray, target: NDArray, side: int) -> NDArray[np.float64]:
    """The maps after one step of least squares."""
    n = len(gram)
    diagonal = np.einsum("nii->ni", gram)
    # A slight pull towards no change; without it flat pictures have no solution.
    diagonal *= 1.002
    diagonal += 1e-3
    fit = np.linalg.solve(gram, target)[:, :, 0]
    gain = np.where(np.abs(fit[:, 0]) < 0.2, 0.2, fit[:, 0])
    change = fit[:, 2:] / gain[:, None]
    shift = np.clip(change[:, :2], -side / 24, side / 24)
    turn = np.clip(change[:, 2:], -0.08, 0.08).reshape(n, 2, 2)
    linear = maps[:, :, :2]
    maps = np.concatenate([linear + linear @ turn, maps[:, :, 2:] + linear @ shift[:, :, None]], axis=2)
    maps[:, :, 2] = np.clip(maps[:, :, 2], -SHIFT * side, SHIFT * side)
    return maps


def _plausible(maps: NDArray, side: int) -> NDArray[np.bool_]:
    """Maps that a crop could have made: not far from the identity."""
    far = np.abs(maps[:, :, :2] - np.eye(2)).sum((1, 2))
    return (far <= 2 * FARTHEST) & (np.abs(maps[:, :, 2]).max(1) <= SHIFT * side)


def identity_maps(n: int) -> NDArray[np.float64]:
    """The maps that change nothing, [n, 2, 3]."""
    return np.tile(np.eye(2, 3), (n, 1, 1))
