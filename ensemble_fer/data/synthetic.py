"""Synthetic faces: a drawn stand-in for FER2013, with its class shares and its faults planted on purpose.

They let every command and test run where the real set is absent. They say nothing about real faces.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.face_drawing import LOOKS, MUSCLES, SIDE, Floats, draw_batch
from ensemble_fer.data.planting import plant, stamped, watermarks
from ensemble_fer.errors import UsageError
from ensemble_fer.store import Artifact, Store
from ensemble_fer.types import CLASSES, N_CLASSES, OFFICIAL, FaceSet, frozen

ROWS = 4000
FEWEST, MOST = 200, 1_000_000
# FER2013's rows of each class in Training, and its usages.
TRAINING_COUNTS = (3995, 436, 4097, 7215, 4830, 3171, 4965)
USAGE_SHARES = (0.8, 0.1, 0.1)
# SMOTE needs a row and five neighbours; a small set still gets a few more than that in Training.
FEWEST_OF_A_CLASS = (8, 2, 2)
BATCH = 16  # a layer of 16 faces in float32 is 147 KB and stays in the cache of a core

# What each face does, as mean contraction of the muscles that take part. A class with two entries shows
# either. Neighbours in the table share muscles, so weak ones are mistaken for each other as in life.
EXPRESSIONS: tuple[tuple[dict[str, float], ...], ...] = (
    (  # angry: silent, and shouting
        {"brow_lower": 1.0, "lid_raise": 0.35, "lid_tight": 0.4, "press": 0.9, "corner_down": 0.25},
        {"brow_lower": 1.0, "lid_raise": 0.4, "jaw_drop": 0.45, "teeth": 0.9, "stretch": 0.3, "lip_raise": 0.3},
    ),
    (  # disgust
        {"nose_wrinkle": 1.0, "lip_raise": 0.85, "brow_lower": 0.45, "lid_tight": 0.3, "corner_down": 0.35,
         "teeth": 0.3},
    ),
    (  # fear
        {"inner_raise": 0.85, "outer_raise": 0.35, "brow_lower": 0.35, "lid_raise": 0.9, "stretch": 0.9,
         "jaw_drop": 0.35, "teeth": 0.55},
    ),
    (  # happy: smiling, and laughing
        {"corner_pull": 0.9, "cheek_raise": 0.6},
        {"corner_pull": 1.0, "cheek_raise": 0.8, "jaw_drop": 0.35, "teeth": 0.9, "lip_raise": 0.15},
    ),
    ({"inner_raise": 0.75, "brow_lower": 0.25, "corner_down": 0.95, "lid_raise": -0.4},),
    ({"inner_raise": 0.9, "outer_raise": 0.95, "lid_raise": 0.85, "jaw_drop": 0.9},),
    ({},),
)  # fmt: skip
WEAKEST, SPREAD, IDLE = 0.55, 0.12, 0.07

GLASSES, WATERMARKS, BLURRED = 0.15, 0.12, 0.25


@dataclass(frozen=True)
class SyntheticFaces:
    """Drawn faces and what was planted among them.

    Parameters
    ----------
    images : uint8 [n, 48, 48]
    labels : uint8 [n]
    usage : uint8 [n]
        Index into ``OFFICIAL``; the rows of a usage lie together, in that order.
    planted : dict
        ``twins``: list of ``{"row", "of", "kind"}`` (row shows the photograph of row ``of``);
        ``conflicts``: those pairs ``[row, of]`` whose labels differ; ``constant``: rows of one grey level.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    usage: NDArray[np.uint8]
    planted: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("images", "labels", "usage"):
            object.__setattr__(self, key, frozen(getattr(self, key), np.uint8))

    def faces(self, name: str = "synthetic") -> FaceSet:
        """The same as a FaceSet."""
        return FaceSet(self.images, self.labels, self.usage, name)


def class_counts(rows: int) -> NDArray[np.int64]:
    """Rows of each usage and class, [3, 7], in FER2013's shares and summing to ``rows``."""
    shares = np.array(TRAINING_COUNTS) / sum(TRAINING_COUNTS)
    counts = np.floor(rows * np.outer(USAGE_SHARES, shares)).astype(np.int64)
    counts = np.maximum(counts, np.array(FEWEST_OF_A_CLASS)[:, None])
    counts[0, 3] += rows - counts.sum()  # what rounding leaves belongs to the commonest, happy in Training
    return counts


def muscles_of(labels: NDArray[np.uint8], rng: np.random.Generator) -> dict[str, Floats]:
    """Contraction of each muscle for faces of these classes: a draw around the expression, float32 [n]."""
    n = len(labels)
    means = np.zeros((n, len(MUSCLES)), np.float32)
    which = rng.random(n)
    for code, modes in enumerate(EXPRESSIONS):
        for number, mode in enumerate(modes):
            rows = (labels == code) & (np.floor(which * len(modes)) == number)
            for muscle, mean in mode.items():
                means[rows, MUSCLES.index(muscle)] = mean
    strength = rng.uniform(WEAKEST, 1.1, (n, 1)).astype(np.float32)
    values = means * strength * (1 + SPREAD * rng.standard_normal(means.shape, dtype=np.float32))
    values += IDLE * np.abs(rng.standard_normal(means.shape, dtype=np.float32))  # no face is quite at rest
    return dict(zip(MUSCLES, np.clip(values, -0.6, 1.25).T, strict=True))


def looks_of(n: int, rng: np.random.Generator) -> dict[str, Floats]:
    """Identity, pose, light and camera of ``n`` faces, float32 [n] each; independent of the expression."""
    looks = {key: rng.uniform(low, high, n).astype(np.float32) for key, (low, high) in LOOKS.items()}
    return {**looks, "glasses": (rng.random(n) < GLASSES).astype(np.float32)}


def draw_expressions(labels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A face of its own for each label, uint8 [n, 48, 48]."""
    images = np.empty((len(labels), SIDE, SIDE), np.uint8)
    stamps = watermarks()
    for start in range(0, len(labels), BATCH):
        part = labels[start : start + BATCH]
        drawn = draw_batch(muscles_of(part, rng), looks_of(len(part), rng), rng)
        soft = np.flatnonzero(rng.random(len(part)) < BLURRED)
        drawn[soft] = _blurred(drawn[soft])
        for row in np.flatnonzero(rng.random(len(part)) < WATERMARKS):
            drawn[row] = stamped(drawn[row], stamps, rng)
        images[start : start + BATCH] = drawn
    return images


def draw_faces(rows: int = ROWS, seed: int = 0) -> SyntheticFaces:
    """Draw a set of faces with planted twins, label conflicts and constant images.

    Parameters
    ----------
    rows : int
        Faces in all, 200 or more. 80 % are Training, 10 % PublicTest, 10 % PrivateTest.
    seed : int
        The same rows and seed give the same faces.

    Raises
    ------
    UsageError
        Too few rows for every class to be in every usage, or more than are drawn at once.
    """
    if rows < FEWEST:
        raise UsageError(f"{rows} synthetic faces are too few; expected {FEWEST} or more, so that every split has all.")
    if rows > MOST:
        raise UsageError(
            f"{rows:,} synthetic faces are too many; expected at most {MOST:,}, thirty times FER2013: all are in "
            "memory at once, 2.3 GB for the pixels alone."
        )
    rng = np.random.default_rng([seed, rows])
    counts = class_counts(rows)
    labels = np.concatenate([rng.permutation(np.repeat(np.arange(N_CLASSES), c)) for c in counts]).astype(np.uint8)
    usage = np.repeat(np.arange(len(OFFICIAL), dtype=np.uint8), counts.sum(axis=1))
    images = draw_expressions(labels, rng)
    return SyntheticFaces(images, labels, usage, plant(images, labels, usage, rng))


def synth_data(store: Store, *, rows: int = ROWS, seed: int = 0, name: str = "synthetic") -> Artifact:
    """Draw faces and store them like an imported set; ``planted.json`` lies beside them.

    Parameters
    ----------
    store : Store
    rows, seed : int
        As for ``draw_faces``.
    name : str
        The reference to set.

    Returns
    -------
    Artifact
        Of kind ``data``, its id decided by the faces.
    """
    from ensemble_fer.data.importing import store_faces

    drawn = draw_faces(rows, seed)
    metrics = {
        "layout": "synthetic",
        "seed": seed,
        "planted": {key: len(value) for key, value in drawn.planted.items()},
    }

    def also(folder: Path) -> None:
        (folder / "planted.json").write_text(json.dumps(drawn.planted))

    return store_faces(store, drawn.faces(name), metrics, also=also)


def _blurred(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Smoothed by 1-2-1 in both directions, as a picture enlarged from a small one."""
    wide = np.pad(images.astype(np.uint16), ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
    return ((rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:] + 8) // 16).astype(np.uint8)


assert len(EXPRESSIONS) == len(CLASSES)
