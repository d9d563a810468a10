"""Copies of faces that were cropped tightly, cut out by a detector or turned: a wider search than that for twins.

Candidates come from views at low resolution (``views.py``). Each is registered by an affine map, from where its view
was, at 24 x 24 pixels, and the best ones at 48 x 48; then, as for twins, the correlation of fine detail decides. Faces
of one set are looked for in another, not within one. ``docs/data.md`` says what is found and what that costs.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial, reduce
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.registration import Floats, band, correlation, sample
from ensemble_fer.data.twins import groups_of, rms_of
from ensemble_fer.data.views import Ints, Views, best_of, map_of, shrunk
from ensemble_fer.neighbors.products import one_blas_thread
from ensemble_fer.runtime import cpu_count, progress
from ensemble_fer.store import Artifact
from ensemble_fer.types import TwinMap

WARPED = "warped.npz"
VERSION = 1
# Correlations: of views, after registration at half the resolution, and of the fine detail, which decides.
VIEW, COARSE, DETAIL = 0.85, 0.75, 0.80
# Candidates of a face that are registered, and of these the best that are registered at full resolution.
MOST, BEST = 24, 3
THRESHOLDS = {"view": VIEW, "coarse": COARSE, "detail": DETAIL, "most": MOST, "best": BEST}
# Blurs in pixels of 48 between which pictures are registered at half and at full resolution, and between which their
# detail is compared.
FAR, BROAD, FINE = (0.8, 8.0), (0.8, 4.0), (0.6, 2.0)
# Pixels of 48 along the edges of either picture that do not count: blurs mix them with what is beyond.
EDGE = 2
# Maps may show a picture this much smaller or larger, stretched so far (halves the sum of the two sides' ratio and its
# inverse), and must leave this part of the other in sight.
SIZE, STRETCH, SIGHT = (0.45, 1.65), 1.25, 0.35
# Faces that are looked for at once, and pairs that are registered at once.
CHUNK, BATCH = 4096, 128
Prepared = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Warped:
    """Pairs of rows that show one photograph, in other cuts or turned.

    Parameters
    ----------
    pairs : int64 [p, 2]
    correlation : float32 [p]
        Of the mean-free pixels after registration.
    mirrored : bool [p]
    """

    pairs: Ints
    correlation: Floats
    mirrored: NDArray[np.bool_]

    def followed_by(self, more: Warped) -> Warped:
        """These pairs and more of them."""
        return Warped(
            np.concatenate([self.pairs, more.pairs]),
            np.concatenate([self.correlation, more.correlation]),
            np.concatenate([self.mirrored, more.mirrored]),
        )

    def among(self, rows: NDArray, n: int) -> Warped:
        """The pairs among some of n rows, numbered by their places in ``rows``, which ascend."""
        place = np.full(n, -1, np.int64)
        place[rows] = np.arange(len(rows))
        kept = (place[self.pairs] >= 0).all(1)
        return Warped(place[self.pairs[kept]], self.correlation[kept], self.mirrored[kept])


NONE = Warped(np.zeros((0, 2), np.int64), np.zeros(0, np.float32), np.zeros(0, bool))


def find_warped(seen: NDArray[np.uint8], others: NDArray[np.uint8], *, quiet: bool = False) -> Warped:
    """Find faces that show part of the photograph of others, or more of it, turned, stretched or mirrored.

    Parameters
    ----------
    seen : uint8 [n, 48, 48]
    others : uint8 [m, 48, 48]
    quiet : bool
        No progress bar.

    Returns
    -------
    Warped
        Pairs of a row of the seen and a row of the others, ascending; of each of the others ``BEST`` at most.

    Notes
    -----
    The ``MOST`` likeliest of the seen are registered with each of the others, so that a face can be lost among very
    many that look like it.
    """
    found = [NONE]
    chunks = range(0, len(others), CHUNK)
    # NumPy lets go of the interpreter while it works on a block, so threads use all cores.
    with (
        ThreadPoolExecutor(cpu_count()) as pool,
        one_blas_thread(),
        progress(len(chunks) * len(seen), "looking for cropped and turned copies", quiet=quiet) as advance,
    ):
        for first in chunks:
            asked = others[first : first + CHUNK]
            views = Views(seen, asked, gate=VIEW, most=MOST)
            parts = []
            for start, part in zip(views.starts, pool.map(views.block, views.starts), strict=True):
                parts.append(part)
                advance(min(views.starts.step, len(seen) - start))
            if not parts:
                continue
            candidates, _ = best_of(parts, MOST)
            batches = _batches(candidates[:, 0])
            for rows, pairs, plain, mirrored in pool.map(partial(_decided, seen, asked, candidates), batches):
                found.append(Warped(np.stack([pairs, first + rows], 1), plain, mirrored))
    every = reduce(Warped.followed_by, found)
    order = np.lexsort((every.pairs[:, 1], every.pairs[:, 0]))
    return Warped(every.pairs[order], every.correlation[order], every.mirrored[order])


def _batches(rows: Ints) -> list[slice]:
    """Slices of about ``BATCH`` candidates that part no row's."""
    firsts = np.flatnonzero(np.diff(rows, prepend=-1))
    starts = firsts[np.diff(firsts // BATCH, prepend=-1) > 0].tolist()
    return [slice(start, end) for start, end in pairwise([*starts, len(rows)])]


def _decided(
    seen: NDArray[np.uint8], others: NDArray[np.uint8], candidates: Ints, batch: slice
) -> tuple[Ints, Ints, Floats, NDArray[np.bool_]]:
    """Of some candidates those that show one photograph: rows of the others and of the seen, correlation, mirrored."""
    row, face, view, flips, inner = candidates[batch].T
    mirrored = flips.astype(bool)
    maps = map_of(view, inner.astype(bool))
    maps[:, :, 2] /= 2  # the pixels of the small pictures are twice as wide
    small = _turned_round(shrunk(others[row]), mirrored)
    half = partial(band, fine=FAR[0] / 2, coarse=FAR[1] / 2)
    score, maps = refine(shrunk(seen[face]), small, maps, prepared=half, steps=3, edge=EDGE / 2)
    order = np.lexsort((-score, row))
    place = np.arange(len(row)) - np.searchsorted(row, row)
    kept = np.sort(order[(place < BEST) & (score[order] >= COARSE)])

    row, face, mirrored, maps = row[kept], face[kept], mirrored[kept], maps[kept]
    maps[:, :, 2] *= 2
    one, other = seen[face].astype(np.float32), _turned_round(others[row].astype(np.float32), mirrored)
    whole = partial(band, fine=BROAD[0], coarse=BROAD[1])
    _, maps = refine(one, other, maps, prepared=whole, steps=2, edge=EDGE)
    view_of, inside = sample(one, maps)[0], inside_both(maps, one.shape[1], EDGE)
    detail = correlation(band(view_of, *FINE), band(other, *FINE), inside)
    good = detail >= DETAIL
    return row[good], face[good], correlation(view_of[good], other[good], inside[good]), mirrored[good]


def _turned_round(pictures: Floats, mirrored: NDArray[np.bool_]) -> Floats:
    pictures[mirrored] = pictures[mirrored][:, :, ::-1]
    return pictures


def inside_both(maps: NDArray, side: int, edge: float) -> Floats:
    """Where a picture seen through maps and the one it is laid over both show something, [n, side, side] of 0 and 1.

    Parameters
    ----------
    maps : [n, 2, 3]
    edge : float
        Pixels along the edges of either that do not count.
    """
    line = np.arange(side, dtype=np.float32) - np.float32((side - 1) / 2)
    grid = np.stack([np.repeat(line, side), np.tile(line, side), np.ones(side * side, np.float32)])
    limit = (side - 1) / 2 - edge + 0.01
    farthest = np.abs(maps.astype(np.float32).reshape(-1, 3) @ grid).reshape(len(maps), 2, side * side).max(1)
    inside = (farthest <= limit) & (np.abs(grid[:2]).max(0) <= limit)
    return inside.reshape(-1, side, side).astype(np.float32)


def refine(
    first: Floats, second: Floats, maps: NDArray, *, prepared: Prepared, steps: int, edge: float
) -> tuple[Floats, NDArray[np.float64]]:
    """Improve affine maps so that ``first`` seen through them looks like ``second``.

    As ``registration.align``, for maps far from the identity: the first pictures are seen before they are prepared, so
    that both are blurred alike whatever the map enlarges.

    Parameters
    ----------
    first, second : float32 [n, s, s]
        Gray levels.
    maps : [n, 2, 3]
        Where to start.
    prepared : callable
        Makes of pictures what is compared.
    steps : int
        Of Gauss-Newton, on the six numbers of a map and the gain and offset of the light.
    edge : float
        Pixels along the edges of either that do not count.

    Returns
    -------
    float32 [n]
        The best correlation met on the way.
    float64 [n, 2, 3]
        The map that gave it.
    """
    n, side, _ = first.shape
    line = np.arange(side, dtype=np.float32) - np.float32((side - 1) / 2)
    second, maps = prepared(second), maps.astype(np.float64)
    best, kept = np.full(n, -1, np.float32), maps.copy()
    design = np.empty((n, 8, side, side), np.float32)
    rows = design.reshape(n, 8, side * side)
    for step in range(steps + 1):
        seen, inside = prepared(sample(first, maps)[0]), inside_both(maps, side, edge)
        score = correlation(seen, second, inside)
        better = (score > best) & _plausible(maps) & (inside.mean((1, 2)) >= SIGHT)
        best[better], kept[better] = score[better], maps[better]
        if step == steps:
            break
        dy, dx = np.gradient(seen, axis=(1, 2))
        design[:, 0], design[:, 1] = seen, 1
        for number, slope in ((2, dy), (3, dx)):
            design[:, number] = slope
            np.multiply(slope, line[:, None], out=design[:, 2 * number])
            np.multiply(slope, line, out=design[:, 2 * number + 1])
        design *= inside[:, None]
        gram = (rows @ rows.transpose(0, 2, 1)).astype(np.float64)
        target = (rows @ second.reshape(n, side * side, 1)).astype(np.float64)
        maps = _improved(maps, gram, target, side)
    return best, kept


def _improved(maps: NDArray, gram: NDArray, target: NDArray, side: int) -> NDArray[np.float64]:
    """The maps after one step of least squares."""
    diagonal = np.einsum("nii->ni", gram)
    # A slight pull towards no change; without it flat pictures have no solution.
    diagonal *= 1.002
    diagonal += 1e-3
    fit = np.linalg.solve(gram, target)[:, :, 0]
    change = fit[:, 2:] / np.where(np.abs(fit[:, :1]) < 0.2, 0.2, fit[:, :1])
    shift = np.clip(change[:, :2], -side / 16, side / 16)
    linear = maps[:, :, :2]
    turn = np.clip(change[:, 2:], -0.12, 0.12).reshape(-1, 2, 2)
    return np.concatenate([linear + linear @ turn, maps[:, :, 2:] + linear @ shift[:, :, None]], axis=2)


def _plausible(maps: NDArray) -> NDArray[np.bool_]:
    """Maps that neither mirror nor shrink, enlarge or stretch too far."""
    linear = maps[:, :, :2]
    area = linear[:, 0, 0] * linear[:, 1, 1] - linear[:, 0, 1] * linear[:, 1, 0]
    stretch = np.square(linear).sum((1, 2)) / 2
    return (area >= SIZE[0] ** 2) & (area <= SIZE[1] ** 2) & (stretch <= STRETCH * area)


def joined(twins: TwinMap, images: NDArray[np.uint8], warped: Warped) -> TwinMap:
    """A twin map with more pairs, those it has already left as they are.

    Parameters
    ----------
    twins : TwinMap
    images : uint8 [n, 48, 48]
        All rows.
    warped : Warped
        Pairs of these rows.
    """
    n = len(twins.groups)
    pairs = np.sort(warped.pairs, axis=1)
    number = pairs @ np.array([n, 1])
    fresh = np.zeros(len(pairs), bool)
    fresh[np.unique(number, return_index=True)[1]] = True
    fresh &= ~np.isin(number, twins.pairs.astype(np.int64) @ np.array([n, 1]))
    if not fresh.any():
        return twins
    pairs, mirrored = pairs[fresh], warped.mirrored[fresh]
    every = np.concatenate([twins.pairs, pairs])
    order = np.lexsort((every[:, 1], every[:, 0]))
    return TwinMap(
        groups_of(every, n),
        every[order].astype(np.int32),
        np.concatenate([twins.correlation, warped.correlation[fresh]])[order],
        np.concatenate([twins.rms, rms_of(images, pairs, mirrored)])[order],
        np.concatenate([twins.mirrored, mirrored])[order],
    )


def warped_of(data: Artifact) -> Warped:
    """Pairs of rows of a stored set that were found when faces were added to it; none for other sets."""
    return Warped(**data.arrays(WARPED)) if WARPED in data.manifest["files"] else NONE
