"""The path of the data in twelve commands, and what is in a store after each."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from ensemble_fer.data.synthetic import draw_expressions
from ensemble_fer.store import KINDS, Store
from ensemble_fer.types import N_CLASSES, OFFICIAL
from tests.trust.campaign import ALL

T = TypeVar("T")

SHORT = ("--epochs", 1, "--epoch-rows", 64, "--batch-size", 32, "--precision", "float32", "--threads", 1)

# One folder for what they read, and the same content in every process.
_GIVEN = Path(tempfile.mkdtemp(prefix="ensemble-fer-walk-"))
atexit.register(shutil.rmtree, _GIVEN, ignore_errors=True)

STUDY = """
title = "Little"
asks = "Does it end the same?"

[recipe]
model = "compact"
epochs = 1
epoch_rows = 64
batch_size = 32
precision = "float32"

[[stage]]
name = "drawn"
resample = [{ method = "none" }, { method = "ros" }]

[[ensemble]]
name = "both"
of = ["drawn/none", "drawn/ros"]

[scale.smoke]
data = "synthetic"
seeds = [0]
"""


def _kaggle() -> Path:
    """A csv of drawn faces."""
    rng = np.random.default_rng(0)
    labels = np.arange(60, dtype=np.uint8) % N_CLASSES
    faces = draw_expressions(labels, rng)
    usages = [OFFICIAL[0 if row < 40 else 1 if row < 50 else 2] for row in range(60)]
    lines = [
        f"{label},{' '.join(map(str, face.ravel()))},{usage}"
        for label, face, usage in zip(labels, faces, usages, strict=True)
    ]
    path = _GIVEN / "kaggle.csv"
    path.write_text("\n".join(["emotion,pixels,Usage", *lines, ""]))
    return path


def _study() -> Path:
    path = _GIVEN / "little.toml"
    path.write_text(STUDY)
    return path


TWELVE: dict[str, tuple[object, ...]] = {
    "synth": ("data", "synth", "--rows", 220),
    "audit": ("data", "audit"),
    "resample": ("resample", "--method", "smote"),
    "train": ("train", *SHORT, "--name", "a"),
    "train-2": ("train", *SHORT, "--seed", 1, "--name", "b"),
    "fuse": ("fuse", "a", "b", "--name", "pair"),
    "evaluate": ("evaluate", "pair"),
    "export": ("export", "pair", "--simplify"),
    "align": ("align",),
    "tune": (
        *("tune", "--space", "optimizer", "--trials", 2, "--name", "search", "--data", "synthetic"),
        *("--epochs", 1, "--epoch-rows", 64, "--set", "precision=float32", "--threads", 1),
    ),
    "study": ("study", "run", _study(), "--scale", "smoke", "--threads", 1),
    "import": ("data", "import", _kaggle(), "--name", "kaggle"),
}

# The first four are what a few cases need; the others take longer to walk than the cases themselves.
COMMANDS = TWELVE if ALL else dict(list(TWELVE.items())[:4])


def _told(recipe: Path) -> list[str]:
    """What a recipe says without its remarks, where the trial has a number: one that was broken off has one too."""
    return [line for line in recipe.read_text().splitlines() if not line.startswith("#")]


def content_of(root: Path) -> dict:
    """Ids and names in a store, and the digests of the files of each artifact that do not hold times."""
    store = Store(root)
    ids = {kind: store.ids(kind) for kind in KINDS}
    files = {
        identity: {
            name: listed["sha256"] if kind != "tuning" else _told(store.by_id(kind, identity).file(name))
            for name, listed in store.by_id(kind, identity).manifest["files"].items()
            if name.endswith((".npz", ".safetensors", ".toml", ".onnx"))
        }
        for kind in KINDS
        if kind != "predictions"  # which say how many looks came before: one that was broken off is one
        for identity in ids[kind]
    }
    return {"ids": ids, "refs": {kind: store.refs(kind) for kind in KINDS}, "files": files}


def walked(root: Path, do: Callable[[str, Path], T]) -> dict[str, tuple[Path, T, dict]]:
    """For each command the store before it, what ``do`` says of doing it, and what is in the store after it."""
    current = root / "store"
    current.mkdir()
    found = {}
    for name in COMMANDS:
        before = shutil.copytree(current, root / f"before-{name}")
        said = do(name, current)
        found[name] = (before, said, content_of(current))
    return found
