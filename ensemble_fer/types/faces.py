"""Faces as bytes, and which of them show the same photograph."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import BadData

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
OFFICIAL = ("Training", "PublicTest", "PrivateTest")
INJECTED = "Injected"
"""Usage of rows that were added from another set: they train, and never select or test."""
USAGES = (*OFFICIAL, INJECTED)
N_CLASSES = len(CLASSES)

Array = NDArray[np.generic]


def frozen(array: NDArray, dtype: type | str) -> NDArray:
    """The array with the given dtype, C-ordered and read-only."""
    out = np.ascontiguousarray(array, dtype=dtype)
    if out is array and out.flags.writeable:
        out = out.view()
    out.flags.writeable = False
    return out


def digest(*arrays: NDArray) -> str:
    """sha256 over dtype, shape and bytes of the arrays, as 64 hexadecimal digits."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def gray_levels(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images [n, h, w] as they are; of [n, h, w, 3] the luma 0.299 R + 0.587 G + 0.114 B, rounded (ITU-R BT.601).

    In whole numbers, so that equal channels keep their level.
    """
    if images.ndim == 3:
        return images
    gray = np.empty(images.shape[:3], np.uint8)
    for start in range(0, len(images), 1024):
        red, green, blue = np.moveaxis(images[start : start + 1024].astype(np.uint32), 3, 0)
        gray[start : start + 1024] = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    return gray


@dataclass(frozen=True)
class FaceSet:
    """Faces with labels, as bytes.

    Parameters
    ----------
    images : uint8 [n, h, w] or [n, h, w, 3]
        Gray levels, or red, green and blue, 0 to 255. Never floats.
    labels : uint8 [n]
        Codes 0 to 6 in the order of ``CLASSES``.
    usage : uint8 [n]
        The usage of each row, an index into ``USAGES``: an official one, or that of rows added from another set.
    name : str
        What users call the set.

    Notes
    -----
    A row id is the position 0 to n-1 of a face in its set.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    usage: NDArray[np.uint8]
    name: str = "faces"

    def __post_init__(self) -> None:
        for key in ("images", "labels", "usage"):
            object.__setattr__(self, key, frozen(getattr(self, key), np.uint8))
        n = len(self.images)
        pictures = self.images.ndim == 3 or (self.images.ndim == 4 and self.images.shape[3] == 3)
        if not pictures or len(self.labels) != n or len(self.usage) != n:
            shapes = (self.images.shape, self.labels.shape, self.usage.shape)
            expected = "images [n,h,w] or [n,h,w,3], labels [n], usage [n]"
            raise BadData(self.name, [f"expected {expected}; found {shapes}"])
        if n and (self.labels.max() >= N_CLASSES or self.usage.max() >= len(USAGES)):
            raise BadData(self.name, ["a label above 6 or a usage above 3"])

    def __len__(self) -> int:
        return len(self.images)

    @property
    def fingerprint(self) -> str:
        """sha256 of pixels, labels and usage; the same faces in the same order give the same one."""
        return digest(self.images, self.labels, self.usage)

    def rows_of(self, usage: str) -> NDArray[np.int64]:
        """Row ids of one usage, ascending."""
        return np.flatnonzero(self.usage == USAGES.index(usage))

    def counts(self, rows: NDArray | None = None) -> list[int]:
        """Number of faces of each class among the rows (all by default)."""
        labels = self.labels if rows is None else self.labels[rows]
        return np.bincount(labels, minlength=N_CLASSES).tolist()

    def usage_counts(self) -> dict[str, list[int]]:
        """Number of faces of each class in each official usage, and among injected rows where there are any."""
        rows = {usage: self.rows_of(usage) for usage in USAGES}
        return {usage: self.counts(own) for usage, own in rows.items() if usage in OFFICIAL or len(own)}


@dataclass(frozen=True)
class TwinMap:
    """Which rows show the same photograph.

    Parameters
    ----------
    groups : int32 [n]
        Group of each row; a group is named by its smallest row, so a row alone has its own id.
    pairs : int32 [p, 2]
        The pairs that were found, smaller row first, ascending.
    correlation : float32 [p]
        Correlation of the mean-free pixels after alignment, -1 to 1.
    rms : float32 [p]
        Root mean square difference in grey levels of the unaligned pixels (mirrored if ``mirrored``).
    mirrored : bool [p]
        The two show the photograph mirrored.
    """

    groups: NDArray[np.int32]
    pairs: NDArray[np.int32]
    correlation: NDArray[np.float32]
    rms: NDArray[np.float32]
    mirrored: NDArray[np.bool_]

    def __post_init__(self) -> None:
        kinds = {"groups": np.int32, "pairs": np.int32, "correlation": np.float32, "rms": np.float32}
        for key, dtype in kinds.items():
            object.__setattr__(self, key, frozen(getattr(self, key), dtype))
        object.__setattr__(self, "mirrored", frozen(self.mirrored, np.bool_))

    def have_twin_in(self, rows: NDArray, others: NDArray) -> NDArray[np.bool_]:
        """For each of ``rows`` whether any *other* row of its group is among ``others``."""
        counts = np.bincount(self.groups[others], minlength=len(self.groups))
        own = np.isin(rows, others)
        return counts[self.groups[rows]] - own > 0
