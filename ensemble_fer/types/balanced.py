"""A balanced training set as a list of parents."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import BadData
from ensemble_fer.types.faces import N_CLASSES, frozen
from ensemble_fer.types.warping import TRANSFORM, warped


class Kind:
    """Codes of ``Resampling.kind``.

    A face as it is, a copy of one, a mixture of two, a transformed face, and a face of another set as it is.
    """

    ORIGINAL, DUPLICATE, SYNTHETIC, AUGMENTED, INJECTED = range(5)


@dataclass(frozen=True)
class Resampling:
    """A balanced training set as a list of parents; pixels are made on demand.

    Row ``i`` shows ``a + weight (b - a)`` of the faces ``parent_a[i]`` and ``parent_b[i]``.
    Only mixtures have another ``b`` than ``a``, and a weight above 0. Augmented rows show their face transformed.

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
    transform : float32 [m, 5], optional
        Angle, dx, dy, zoom and flip of each row, see ``warping.TRANSFORM``; zeros for rows that are not augmented.
        None where no row is.

    Raises
    ------
    BadData
        Augmented rows without transformations, or transformations of another shape or without end.
    """

    method: str
    kind: NDArray[np.uint8]
    parent_a: NDArray[np.int32]
    parent_b: NDArray[np.int32]
    weight: NDArray[np.float64]
    labels: NDArray[np.uint8]
    params: dict = field(default_factory=dict)
    transform: NDArray[np.float32] | None = None

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
        if self.transform is not None:
            object.__setattr__(self, "transform", frozen(self.transform, np.float32))
        self._check_transform()

    def _check_transform(self) -> None:
        given, wanted = self.transform, (len(self.kind), len(TRANSFORM))
        if given is None and (self.kind == Kind.AUGMENTED).any():
            raise BadData(f"a {self.method} resampling", ["augmented rows without transformations; expected [m, 5]"])
        if given is not None and given.shape != wanted:
            raise BadData(f"a {self.method} resampling", [f"transform has shape {given.shape}; expected {wanted}"])
        if given is not None and not (np.isfinite(given).all() and (given[:, TRANSFORM.index("zoom")] > -1).all()):
            raise BadData(f"a {self.method} resampling", ["a transformation is not finite, or its zoom is -1 or less"])

    def __len__(self) -> int:
        return len(self.kind)

    def pixels(self, images: NDArray[np.uint8], rows: NDArray | slice | None = None) -> NDArray[np.uint8]:
        """Pixels of the given rows of the resampling, uint8 [m, h, w].

        Rounded to the nearest grey level in floating point, so that every pixel lies between
        those of its parents (imbalanced-learn's uint8 path subtracts bytes and wraps around). Augmented rows are
        interpolated once, see ``warped``.
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
        if self.transform is not None:
            turned = np.flatnonzero(self.kind[rows] == Kind.AUGMENTED)
            a[turned] = warped(a[turned], self.transform[rows][turned])
        return a

    @property
    def title(self) -> str:
        """What was done, for the stamp: ``smote``, ``hybrid 3000``, ``ros of disgust, fear``, ``enn in pca:50``."""
        target, classes, space = (self.params.get(key) for key in ("target", "classes", "space"))
        text = self.method + (f" {target}" if target else "") + (f" of {', '.join(classes)}" if classes else "")
        return text + (f" in {space}" if space else "")

    def take(self, rows: NDArray[np.int64]) -> Resampling:
        """The resampling of these of its rows alone."""
        return replace(self, **{key: value[rows] for key, value in vars(self).items() if isinstance(value, np.ndarray)})

    def with_originals(self, rows: NDArray[np.int64], labels: NDArray[np.uint8]) -> Resampling:
        """The resampling with further faces as they are, behind its own rows."""
        n = len(rows)
        more = {"kind": np.full(n, Kind.ORIGINAL), "parent_a": rows, "parent_b": rows, "labels": labels}
        arrays = {key: value for key, value in vars(self).items() if isinstance(value, np.ndarray)}
        # Weight 0, and no transformation.
        ends = {key: more.get(key, np.zeros((n, *value.shape[1:]))) for key, value in arrays.items()}
        return replace(self, **{key: np.concatenate([value, ends[key]]) for key, value in arrays.items()})

    def counts(self) -> list[int]:
        """Rows of each class."""
        return np.bincount(self.labels, minlength=N_CLASSES).tolist()
