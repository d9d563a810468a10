"""What methods work with: the training rows of one request, and the rows that come out of it.

A method sees positions 0 to n-1 within the training part. ``resample`` checks the request before it and
turns positions into row ids after it, so that a method holds only its idea.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import EnsembleFerError
from ensemble_fer.neighbors import Mixtures
from ensemble_fer.types import CLASSES, N_CLASSES, Kind

SMOTE_NEIGHBORS = 5  # besides the first of the list; imbalanced-learn's default, as in Chawla et al.
ENN_NEIGHBORS = 3  # likewise; Wilson's three


class Find(Protocol):
    """Given points and k, the positions of the k nearest of each point (itself included), int64 [m, k].

    Given queries too, the k nearest points of each query instead; one that is among the points is not left out of
    its own list. Then ``k`` may be of each query its own, int64 [m]; the lists are as long as the longest, and nobody
    looks at what stands behind a shorter one.
    """

    def __call__(
        self, points: Mixtures, k: int | NDArray[np.int64], queries: Mixtures | None = None
    ) -> NDArray[np.int64]: ...


@dataclass(frozen=True)
class Request:
    """One training part and what is asked of it.

    Parameters
    ----------
    pixels : uint8 [n, p]
    labels : uint8 [n]
    seed : int
    target : int or None
        Rows a class is brought to; only ``hybrid`` and ``augment`` have one.
    classes : tuple of int or None
        Codes that may be oversampled; all by default.
    search : Find
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    seed: int
    target: int | None
    classes: tuple[int, ...] | None
    search: Find

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        return np.bincount(self.labels, minlength=N_CLASSES)

    @cached_property
    def missing(self) -> dict[int, int]:
        """Rows to add to each class that may be oversampled, so that it reaches the largest, by code.

        The largest class is left out when all may be oversampled and there with 0 when it was named, as in
        imbalanced-learn; no number is drawn for 0 rows, so that nothing depends on it.
        """
        present = np.flatnonzero(self.counts)
        largest = int(self.counts.argmax())
        named = [c for c in present if c != largest] if self.classes is None else sorted(self.classes)
        return {int(c): int(self.counts[largest] - self.counts[c]) for c in named}

    @cached_property
    def rarest(self) -> int:
        """The class with the fewest rows, the first of several; under-sampling leaves it as it is."""
        present = np.flatnonzero(self.counts)
        return int(present[self.counts[present].argmin()])

    def strangers(self, rows: NDArray[np.int64], k: int) -> NDArray[np.int64]:
        """How many of the k nearest of each of these rows, among all, have another class; the first is dropped.

        Only these rows are asked for: a class of 400 among 28,709 needs no search for the other 28,309.
        """
        asked = Mixtures.faces(self.pixels, rows)
        nearest = self.search(Mixtures.faces(self.pixels), k + 1, asked)[:, 1:]
        return (self.labels[nearest] != self.labels[rows, None]).sum(axis=1)


@dataclass(frozen=True)
class Rows:
    """Rows of a resampling, parents as positions in the training part.

    Parameters
    ----------
    kind, a, b, w, labels : arrays [m]
        As in ``types.Resampling``.
    made : int64 [7]
        Rows that were added to each class on the way, whether or not they were removed later.
    transform : float32 [m, 5], optional
        As in ``types.Resampling``.
    """

    kind: NDArray[np.uint8]
    a: NDArray[np.int64]
    b: NDArray[np.int64]
    w: NDArray[np.float64]
    labels: NDArray[np.uint8]
    made: NDArray[np.int64]
    transform: NDArray[np.float32] | None = None

    @classmethod
    def originals(cls, labels: NDArray[np.uint8]) -> Rows:
        n = len(labels)
        own = np.arange(n)
        kind = np.full(n, Kind.ORIGINAL, np.uint8)
        return cls(kind, own, own, np.zeros(n), labels, np.zeros(N_CLASSES, np.int64))

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, chosen: NDArray[np.int64]) -> Rows:
        """Only these, in this order."""
        transform = None if self.transform is None else self.transform[chosen]
        own = (self.kind[chosen], self.a[chosen], self.b[chosen], self.w[chosen], self.labels[chosen])
        return Rows(*own, self.made, transform)

    def duplicated(self, chosen: NDArray[np.int64]) -> Rows:
        """Copies of these appended."""
        return self._with(Kind.DUPLICATE, self.a[chosen], self.b[chosen], self.w[chosen], self.labels[chosen])

    def mixed(self, a: NDArray, b: NDArray, w: NDArray, code: int) -> Rows:
        """Mixtures of faces of one class appended."""
        return self._with(Kind.SYNTHETIC, a, b, w, np.full(len(a), code, np.uint8))

    def transformed(self, chosen: NDArray[np.int64], transform: NDArray[np.float32]) -> Rows:
        """Transformed copies of these appended."""
        rows = self._with(Kind.AUGMENTED, self.a[chosen], self.b[chosen], self.w[chosen], self.labels[chosen])
        as_they_are = np.zeros((len(self), transform.shape[1])) if self.transform is None else self.transform
        return replace(rows, transform=np.concatenate([as_they_are, transform]))

    def _with(self, kind: int, a: NDArray, b: NDArray, w: NDArray, labels: NDArray) -> Rows:
        return Rows(
            np.append(self.kind, np.full(len(a), kind, np.uint8)),
            np.append(self.a, a),
            np.append(self.b, b),
            np.append(self.w, w),
            np.append(self.labels, labels),
            self.made + np.bincount(labels, minlength=N_CLASSES),
        )

    def points(self, pixels: NDArray[np.uint8]) -> Mixtures:
        """The rows as unrounded points."""
        return Mixtures(pixels, self.a, self.b, self.w)


def need_rows(count: int, needed: int, whose: str, doing: str, instead: str) -> None:
    """Refuse a search with more neighbours than there are rows.

    Raises
    ------
    EnsembleFerError
    """
    if count < needed:
        raise EnsembleFerError(
            f"{whose} has {count} row{'s' if count != 1 else ''} to train on; "
            f"{doing} needs at least {needed} (a face and its {needed - 1} nearest neighbours). {instead}"
        )


def class_name(code: int) -> str:
    return CLASSES[code]
