"""Twins: rows that show the same photograph.

Found on pixels, with tolerance for other JPEG noise, brightness and contrast, a watermark, another crop
(shift, zoom, slight turn) and mirroring. Five sieves, each finer and dearer than the one before:

1. rows equal byte for byte are set aside with the first of them;
2. all pairs, straight and mirrored, by the correlation of 12 x 12 averages (``SCREEN``);
3. what is left, by how much of one 12 x 12 picture the other explains together with its derivatives
   by shift and zoom (``TANGENT``; the tangent distance of Simard et al. 1993);
4. affine alignment, two steps (``GLIMPSE``) and three more (``COARSE``) at 24 x 24, then at 48 x 48 pixels;
5. correlation of the fine detail of the aligned pixels (``DETAIL``): this alone decides.

Groups are the connected components of the pairs. ``docs/twins.md`` shows where the thresholds come from.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.derived import source_of
from ensemble_fer.data.importing import load_faces
from ensemble_fer.data.registration import Floats, align, band, correlation, identity_maps, sample
from ensemble_fer.data.screening import Screen
from ensemble_fer.files import save_arrays
from ensemble_fer.neighbors.products import one_blas_thread
from ensemble_fer.runtime import cpu_count, progress
from ensemble_fer.store import Artifact, Store
from ensemble_fer.types import TwinMap, gray_levels

SIDE = 48
VERSION = 1
# Correlations, chosen on real pairs (docs/twins.md).
SCREEN, TANGENT, GLIMPSE, COARSE, DETAIL = 0.72, 0.86, 0.65, 0.78, 0.80
# Grey levels rms: two rows no farther apart are called identical, and a row that varies less is called flat.
IDENTICAL, FLAT = 1.0, 1.0
THRESHOLDS = {
    "screen": SCREEN,
    "tangent": TANGENT,
    "glimpse": GLIMPSE,
    "coarse": COARSE,
    "detail": DETAIL,
    "flat": FLAT,
}
# Blurs in pixels between which detail is compared, and between which pictures are aligned.
FINE, BROAD = (0.6, 2.0), (0.8, 4.0)
# Pairs aligned together, few enough to stay in the cache.
BATCH = 128

Ints = NDArray[np.int64]


def find_twins(images: NDArray[np.uint8], *, quiet: bool = False) -> TwinMap:
    """Find the rows that show the same photograph.

    Parameters
    ----------
    images : uint8 [n, h, w] or [n, h, w, 3]
        Other sizes than 48 x 48 are compared as averaged down (or up) to it, colours by their luma.
    quiet : bool
        No progress bar.

    Returns
    -------
    TwinMap
        Of rows equal byte for byte only the pairs with the first of them are listed; groups hold all.

    Notes
    -----
    Whether two rows are twins depends on these two alone. Flat rows (less than one grey level
    of variation) have nothing to correlate: they are twins of each other when within one grey level.
    """
    images = _to_side(images)
    n = len(images)
    first: dict[bytes, int] = {}
    origin = np.array([first.setdefault(image.tobytes(), row) for row, image in enumerate(images)], np.int64)
    copies = np.flatnonzero(origin != np.arange(n))
    exact = np.stack([origin[copies], copies], 1)

    rows = np.flatnonzero(origin == np.arange(n))
    variation = _variation(images, rows)
    level = _flat_pairs(images, rows[variation < FLAT])
    textured = rows[variation >= FLAT]
    found = _textured_pairs(images, textured, quiet) if len(textured) > 1 else _nothing()

    pairs = np.concatenate([exact, level, found[0]])
    same = len(exact) + len(level)
    score = np.concatenate([np.ones(same, np.float32), found[1]])
    mirrored = np.concatenate([np.zeros(same, bool), found[2]])
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    pairs, score, mirrored = pairs[order], score[order], mirrored[order]
    return TwinMap(groups_of(pairs, n), pairs.astype(np.int32), score, rms_of(images, pairs, mirrored), mirrored)


def groups_of(pairs: NDArray, n: int) -> NDArray[np.int32]:
    """Connected components of the pairs, int32 [n], each named by its smallest row."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    count, component = connected_components(graph, directed=False)
    smallest = np.full(count, n, np.int32)
    np.minimum.at(smallest, component, np.arange(n, dtype=np.int32))
    return smallest[component]


def among(twins: TwinMap, rows: NDArray) -> TwinMap:
    """The twins among some rows alone, numbered by their places in ``rows``, which ascend.

    Whether two rows are twins depends on these two alone, so that it is what `find_twins` says of these rows, as long
    as the first of equal rows is among them and no flat one is left out.
    """
    place = np.full(len(twins.groups), -1, np.int64)
    place[rows] = np.arange(len(rows))
    kept = (place[twins.pairs] >= 0).all(1)
    pairs = place[twins.pairs[kept]].astype(np.int32)
    groups = groups_of(pairs, len(rows))
    return TwinMap(groups, pairs, twins.correlation[kept], twins.rms[kept], twins.mirrored[kept])


def rms_of(images: NDArray[np.uint8], pairs: NDArray, mirrored: NDArray[np.bool_]) -> Floats:
    """Root mean square difference of each pair in grey levels, as they lie or one mirrored."""
    out = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), BATCH):
        at = slice(start, start + BATCH)
        difference = _pick(images, pairs[at, 0]) - _pick(images, pairs[at, 1], mirrored[at])
        out[at] = np.sqrt(np.square(difference).mean((1, 2)))
    return out


def _to_side(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    images = gray_levels(images)
    if images.shape[1:] == (SIDE, SIDE) or not len(images):
        return np.ascontiguousarray(images).reshape(-1, SIDE, SIDE)
    from PIL import Image

    box = Image.Resampling.BOX
    return np.stack([np.asarray(Image.fromarray(image).resize((SIDE, SIDE), box)) for image in images])


def _nothing() -> tuple[Ints, Floats, NDArray[np.bool_]]:
    return np.zeros((0, 2), np.int64), np.zeros(0, np.float32), np.zeros(0, bool)


def _pick(images: NDArray[np.uint8], rows: Ints, mirrored: NDArray[np.bool_] | None = None) -> Floats:
    """Pixels of some rows as float32, those of ``mirrored`` left to right."""
    picked = images[rows].astype(np.float32)
    if mirrored is not None:
        picked[mirrored] = picked[mirrored][:, :, ::-1]
    return picked


def _variation(images: NDArray[np.uint8], rows: Ints) -> Floats:
    """Standard deviation of some rows in grey levels, float32 [len(rows)]."""
    out = np.empty(len(rows), np.float32)
    for k in range(0, len(rows), BATCH):
        out[k : k + BATCH] = _pick(images, rows[k : k + BATCH]).std((1, 2))
    return out


def _flat_pairs(images: NDArray[np.uint8], rows: Ints) -> Ints:
    """Flat rows in order of their mean, each with the next where the two are within one grey level."""
    rows = rows[np.argsort([images[r].mean() for r in rows], kind="stable")]
    pairs = np.stack([rows[:-1], rows[1:]], 1) if len(rows) > 1 else np.zeros((0, 2), np.int64)
    near = rms_of(images, pairs, np.zeros(len(pairs), bool)) <= IDENTICAL
    return np.sort(pairs[near], 1)


def _textured_pairs(images: NDArray[np.uint8], rows: Ints, quiet: bool) -> tuple[Ints, Floats, NDArray[np.bool_]]:
    """Sieves 2 to 5 among some rows: pairs of row ids, correlation of their pixels, mirrored."""

    def decided(candidates: Ints) -> tuple[Ints, Floats, NDArray[np.bool_]]:
        a, b, flips = candidates.T
        mirrored = flips.astype(bool)
        detail, plain = compare(_pick(images, rows[a]), _pick(images, rows[b], mirrored))
        good = detail >= DETAIL
        return np.stack([rows[a], rows[b]], 1)[good], plain[good], mirrored[good]

    def block(start: int) -> list[tuple[Ints, Floats, NDArray[np.bool_]]]:
        candidates = sieve.block(start)
        return [decided(candidates[k : k + BATCH]) for k in range(0, len(candidates), BATCH)]

    # NumPy lets go of the interpreter while it works on a batch, so threads use all cores.
    with (
        ThreadPoolExecutor(cpu_count()) as pool,
        one_blas_thread(),
        progress(len(rows), "looking for twins", quiet=quiet) as advance,
    ):
        sieve = Screen(images[rows], screen=SCREEN, tangent=TANGENT)
        found = [_nothing()]
        for start, part in zip(sieve.starts, pool.map(block, sieve.starts), strict=True):
            found.extend(part)
            advance(min(sieve.tall, len(rows) - start))
    pairs, plain, mirrored = (np.concatenate(part) for part in zip(*found, strict=True))
    # A symmetric picture passes both ways round; the better one is kept.
    order = np.lexsort((-plain, pairs[:, 1], pairs[:, 0]))
    pairs, plain, mirrored = pairs[order], plain[order], mirrored[order]
    repeated = np.zeros(len(pairs), bool)
    repeated[1:] = (pairs[1:] == pairs[:-1]).all(1)
    return pairs[~repeated], plain[~repeated], mirrored[~repeated]


def compare(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Align each first picture with its second and correlate them.

    Parameters
    ----------
    first, second : float32 [n, 48, 48]
        Gray levels.

    Returns
    -------
    detail : float32 [n]
        Correlation of what is finer than about 5 pixels, after alignment: distinct faces seldom exceed 0.75.
        Pairs that fail at half the resolution keep what they reached there, at most ``COARSE``.
    plain : float32 [n]
        Correlation of the mean-free pixels after the same alignment; 0 for pairs that fail at half the resolution.
    """
    small = band(first, *BROAD, step=2), band(second, *BROAD, step=2)
    score, maps = align(*small, identity_maps(len(first)), steps=2)
    rest = np.flatnonzero(score >= GLIMPSE)
    score[rest], maps[rest] = align(small[0][rest], small[1][rest], maps[rest], steps=3)
    rest = np.flatnonzero(score >= COARSE)
    maps[:, :, 2] *= 2  # pixels here are half as wide

    detail, plain = np.minimum(score, COARSE), np.zeros(len(first), np.float32)
    one, other = first[rest], second[rest]
    plain[rest] = correlation(one, other)
    fine, fine_other = band(one, *FINE), band(other, *FINE)
    _, maps = align(band(one, *BROAD), band(other, *BROAD), maps[rest], steps=3)
    seen, inside = sample(fine, maps)
    aligned, straight = correlation(seen, fine_other, inside), correlation(fine, fine_other)
    detail[rest] = np.maximum(aligned, straight)
    better = aligned > straight
    seen, inside = sample(one[better], maps[better])
    plain[rest[better]] = correlation(seen, other[better], inside)
    return detail, plain


def twins_of(
    store: Store, data: Artifact, *, known: TwinMap | None = None, quiet: bool = False
) -> tuple[Artifact, TwinMap]:
    """The twins of a stored set of faces; looked for on first need and answered from disk after.

    Those of an aligned set are its source's: which rows show one photograph is not a matter of how they were cut.

    Parameters
    ----------
    store : Store
    data : Artifact
    known : TwinMap, optional
        What `find_twins` says of these faces, where it has been asked already.
    quiet : bool
        No progress bar.

    Returns
    -------
    Artifact
        Of kind twins; its spec holds the thresholds, its metrics pairs and groups.
    TwinMap
    """
    data = source_of(store, data)

    def write(folder: Path) -> dict:
        twins = known or _searched(data, quiet)
        save_arrays(
            folder / "twins.npz",
            groups=twins.groups,
            pairs=twins.pairs,
            correlation=twins.correlation,
            rms=twins.rms,
            mirrored=twins.mirrored,
        )
        sizes = np.bincount(twins.groups)
        return {
            "pairs": len(twins.pairs),
            "mirrored": int(twins.mirrored.sum()),
            "groups": int((sizes > 1).sum()),
            "rows": int(sizes[sizes > 1].sum()),
            "largest_group": int(sizes.max(initial=0)),
        }

    made = store.put("twins", {"version": VERSION, **THRESHOLDS}, [data.id], write)
    return made, TwinMap(**made.arrays("twins.npz"))


def _searched(data: Artifact, quiet: bool) -> TwinMap:
    """Twins looked for anew, with the pairs that a wider search found when faces were added to the set."""
    from ensemble_fer.data.warped import joined, warped_of

    images = _to_side(load_faces(data).images)
    return joined(find_twins(images, quiet=quiet), images, warped_of(data))
