"""Where neighbours are looked for: among pixels, or among what an embedding says of the faces.

Whatever the space, pixels are mixed, and parents and weights are recorded the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import UsageError, unknown_name
from ensemble_fer.neighbors import CAP, Mixtures, Neighbors, Search
from ensemble_fer.resample.rows import Find

PIXELS = "pixels"
_BATCH = 1024


@dataclass(frozen=True)
class Space:
    """An embedding of faces, fitted to training faces alone.

    Parameters
    ----------
    title : str
        As it is recorded, ``pca:50`` or ``run:<id>``.
    learn : callable
        Given the training faces uint8 [n, p], returns the embedding: float64 [m, p] of grey levels, unrounded, to
        float [m, d].
    split : str, optional
        Id of the split on whose training part the embedding was learned before.
    inputs : tuple of str
        Ids of what it is made from.
    """

    title: str
    learn: Callable[[NDArray[np.uint8]], Callable[[NDArray[np.float64]], NDArray]]
    split: str | None = None
    inputs: tuple[str, ...] = ()


def pca_space(text: str) -> Space:
    """The space ``pca:N``: the first N principal components of the training faces, 1 to 500.

    Raises
    ------
    UsageError
        Another text.
    """
    kind, _, number = text.partition(":")
    if kind != "pca":
        raise unknown_name("space", text, (PIXELS, "pca:50", "run:NAME"))
    if not number.isdecimal() or not 1 <= int(number) <= 500:
        raise UsageError(f"space {text!r}: expected pca:N with a number of components from 1 to 500, e.g. pca:50.")
    wanted = int(number)

    def learn(pixels: NDArray[np.uint8]) -> Callable[[NDArray[np.float64]], NDArray]:
        from sklearn.decomposition import PCA

        most = min(wanted, *pixels.shape)
        fitted = PCA(most, svd_solver="covariance_eigh").fit(pixels.astype(np.float32))
        return lambda faces: fitted.transform(faces.astype(np.float32))

    return Space(f"pca:{wanted}", learn)


@dataclass(frozen=True)
class SearchOptions:
    """How neighbours are looked for.

    Parameters
    ----------
    space : Space, optional
        An embedding to look in instead of the pixels.
    memory : int
        Bytes that a search may take, the training faces included.
    device : str
        ``cpu``, ``cuda``, ``cuda:N``, or ``auto``: a GPU where there is one.
    """

    space: Space | None = None
    memory: int = CAP
    device: str = "cpu"

    def search(self, pixels: NDArray[np.uint8], *, quiet: bool = True) -> Find:
        """One search for all questions about these faces, so that axes and embeddings are found once, on first need."""

        @lru_cache(maxsize=1)
        def opened() -> Search | SpaceSearch:
            settings = {"memory": self.memory, "device": self.device, "quiet": quiet}
            return Search(pixels, **settings) if self.space is None else SpaceSearch(pixels, self.space, **settings)

        return lambda points, k, queries=None: opened().nearest(points, k, queries=queries).rows


class SpaceSearch:
    """Neighbours in a space, asked for as in ``neighbors.Search``.

    Parameters
    ----------
    pixels : uint8 [n, p]
        The training faces.
    space : Space
    memory, device, quiet
        As for ``Search``.
    """

    def __init__(
        self, pixels: NDArray[np.uint8], space: Space, *, memory: int = CAP, device: str = "cpu", quiet: bool = True
    ) -> None:
        self._opened = lambda rows: Search(rows, memory=memory, device=device, quiet=quiet)
        self.pixels = pixels
        self._embed = space.learn(pixels)
        self._faces = self._embedded(Mixtures.faces(pixels))
        self._search = self._opened(self._faces)

    def nearest(self, points: Mixtures, k: int | NDArray[np.int64], *, queries: Mixtures | None = None) -> Neighbors:
        """As ``Search.nearest``. A mixture lies where the space puts the mixed face, not between its parents."""
        if points.pixels is not self.pixels or (queries is not None and queries.pixels is not self.pixels):
            raise UsageError("these points are of other faces than this space was opened for.")
        if not points.w.any() and (queries is None or not queries.w.any()):
            asked = None if queries is None else Mixtures.faces(self._faces, queries.a)
            return self._search.nearest(Mixtures.faces(self._faces, points.a), k, queries=asked)
        there = self._placed(points)
        asked = None if queries is None else Mixtures.faces(self._placed(queries))
        return self._opened(there).nearest(Mixtures.faces(there), k, queries=asked)

    def _placed(self, points: Mixtures) -> NDArray[np.float64]:
        out = self._faces[points.a]
        mixed = np.flatnonzero(points.w)
        out[mixed] = self._embedded(Mixtures(points.pixels, points.a[mixed], points.b[mixed], points.w[mixed]))
        return out

    def _embedded(self, points: Mixtures) -> NDArray[np.float64]:
        parts = [
            self._embed(points.values(np.arange(start, min(len(points), start + _BATCH))))
            for start in range(0, len(points), _BATCH)
        ]
        return np.concatenate(parts).astype(np.float64) if parts else np.empty((0, self._faces.shape[1]))
