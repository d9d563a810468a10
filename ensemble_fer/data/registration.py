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
    centre = (s - 1) / 2
    grid = np.arange(s, dtype=np.float32) - np.float32(centre)
    rows, columns = (
        a[:, 0, None, None] * grid[:, None] + a[:, 1, None, None] * grid + a[:, 2, None, None] + np.float32(centre)
        for a in (maps[:, 0].astype(np.float32), maps[:, 1].astype(np.float32))
    )
    edge = 0.01
    inside = (rows > -edge) & (rows < s - 1 + edge) & (columns > -edge) & (columns < s - 1 + edge)
    np.clip(rows, 0, s - 1.001, out=rows)
    np.clip(columns, 0, s - 1.001, out=columns)
    top, left = rows.astype(np.int32), columns.astype(np.int32)
    rows -= top
    columns -= left
    at = top * s + left + (np.arange(n, dtype=np.int32) * s * s)[:, None, None]
    flat = images.reshape(-1)
    upper, lower = flat[at], flat[at + s]
    upper += columns * (flat[at + 1] - upper)
    lower += columns * (flat[at + s + 1] - lower)
    upper += rows * (lower - upper)
    return upper, inside.astype(np.float32)


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
    grid = np.arange(s, dtype=np.float32) - np.float32((s - 1) / 2)
    maps = maps.astype(np.float64)
    best, kept = np.full(n, -1, np.float32), maps.copy()
    for step in range(steps + 1):
        seen, inside = sample(first, maps)
        score = correlation(seen, second, inside)
        better = (score > best) & _plausible(maps, s)
        best[better], kept[better] = score[better], maps[better]
        if step == steps:
            break
        dy, dx = np.gradient(seen, axis=(1, 2))
        dy *= inside
        dx *= inside
        down = grid[:, None]
        terms = (seen * inside, inside, dy, dx, dy * down, dy * grid, dx * down, dx * grid)
        design = np.stack(terms, 1).reshape(n, len(terms), s * s)
        gram = (design @ design.transpose(0, 2, 1)).astype(np.float64)
        # A slight pull towards no change; without it flat pictures have no solution.
        gram[:, range(len(terms)), range(len(terms))] = np.einsum("nii->ni", gram) * 1.002 + 1e-3
        target = (design @ (second * inside).reshape(n, s * s, 1)).astype(np.float64)
        fit = np.linalg.solve(gram, target)[:, :, 0]
        gain = np.where(np.abs(fit[:, 0]) < 0.2, 0.2, fit[:, 0])
        change = fit[:, 2:] / gain[:, None]
        shift = np.clip(change[:, :2], -s / 24, s / 24)
        turn = np.clip(change[:, 2:], -0.08, 0.08).reshape(n, 2, 2)
        linear = maps[:, :, :2]
        maps = np.concatenate(
            [linear + linear @ turn, maps[:, :, 2:] + linear @ shift[:, :, None]],
            axis=2,
        )
        maps[:, :, 2] = np.clip(maps[:, :, 2], -SHIFT * s, SHIFT * s)
    return best, kept


def _plausible(maps: NDArray, side: int) -> NDArray[np.bool_]:
    """Maps that a crop could have made: not far from the identity."""
    far = np.abs(maps[:, :, :2] - np.eye(2)).sum((1, 2))
    return (far <= 2 * FARTHEST) & (np.abs(maps[:, :, 2]).max(1) <= SHIFT * side)


def identity_maps(n: int) -> NDArray[np.float64]:
    """The maps that change nothing, [n, 2, 3]."""
    return np.tile(np.eye(2, 3), (n, 1, 1))
