"""A balanced training set as a list of parents."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.types.faces import N_CLASSES, frozen


class Kind:
    """Codes of ``Resampling.kind``."""

    ORIGINAL, DUPLICATE, SYNTHETIC, AUGMENTED, INJECTED = range(5)


@dataclass(frozen=True)
class Resampling:
    """A balanced training set as a list of parents; pixels are made on demand.

    Row ``i`` shows ``a + weight (b - a)`` of the faces ``parent_a[i]`` and ``parent_b[i]``.
    Originals and duplicates have ``b = a`` and weight 0.

    Parameters
    ----------
    method : str
    kind : uint8 [m]
        One of the codes of ``Kind``.
    parent_a, parent_b : int32 [m]
        Row ids of the FaceSet; all of role train.
    weight : float64 [m]
        0 to 1.
    labels : uint8 [m]
        Class of each row, that of both parents.
    params : dict
        Seed, target, classes, neighbours: whatever the method was asked.
    """

    method: str
    kind: NDArray[np.uint8]
    parent_a: NDArray[np.int32]
    parent_b: NDArray[np.int32]
    weight: NDArray[np.float64]
    labels: NDArray[np.uint8]
    params: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        dtypes = {
            "kind": np.uint8,
            "parent_a": np.int32,
            "parent_b": np.int32,
            "weight": np.float64,
            "labels": np.uint8,
        }
        for key, dtype in dtypes.items():
            object.__setattr__(self, key, frozen(getattr(self, key), dtype))

    def __len__(self) -> int:
        return len(self.kind)

    def pixels(self, images: NDArray[np.uint8], rows: NDArray | slice | None = None) -> NDArray[np.uint8]:
        """Pixels of the given rows of the resampling, uint8 [m, h, w].

        Rounded to the nearest grey level in floating point, so that every pixel lies between
        those of its parents (imbalanced-learn's uint8 path subtracts bytes and wraps around).
        """
        rows = slice(None) if rows is None else rows
        a = images[self.parent_a[rows]]
        w = self.weight[rows]
        mixed = np.flatnonzero(w)
        if len(mixed):
            first = a[mixed].astype(np.float32)
            second = images[self.parent_b[rows][mixed]].astype(np.float32)
            shape = (-1,) + (1,) * (images.ndim - 1)
            a[mixed] = np.rint(first + w[mixed].astype(np.float32).reshape(shape) * (second - first))
        return a

    @property
    def title(self) -> str:
        """What was done, for the stamp: ``smote``, ``hybrid 3000``, ``ros of disgust, fear``, ``enn in pca:50``."""
        target, classes, space = (self.params.get(key) for key in ("target", "classes", "space"))
        text = self.method + (f" {target}" if target else "") + (f" of {', '.join(classes)}" if classes else "")
        return text + (f" in {space}" if space else "")

    def counts(self) -> list[int]:
        """Rows of each class."""
        return np.bincount(self.labels, minlength=N_CLASSES).tolist()
