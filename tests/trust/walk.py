"""The path of the data in eight commands, and what is in a store after each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ensemble_fer.store import KINDS, Store
from tests.trust.campaign import ALL

T = TypeVar("T")

SHORT = ("--epochs", 1, "--epoch-rows", 64, "--batch-size", 32, "--precision", "float32", "--threads", 1)
EIGHT: dict[str, tuple[object, ...]] = {
    "synth": ("data", "synth", "--rows", 220),
    "audit": ("data", "audit"),
    "resample": ("resample", "--method", "smote"),
    "train": ("train", *SHORT, "--name", "a"),
    "train-2": ("train", *SHORT, "--seed", 1, "--name", "b"),
    "fuse": ("fuse", "a", "b", "--name", "pair"),
    "evaluate": ("evaluate", "pair"),
    "export": ("export", "pair", "--simplify"),
}

# The first four are what a few cases need; the others take longer to walk than the cases themselves.
COMMANDS = EIGHT if ALL else dict(list(EIGHT.items())[:4])


def content_of(root: Path) -> dict:
    """Ids and names in a store, and the digests of the files of each artifact that do not hold times."""
    store = Store(root)
    ids = {kind: store.ids(kind) for kind in KINDS}
    files = {
        identity: {
            name: listed["sha256"]
            for name, listed in store.by_id(kind, identity).manifest["files"].items()
            if name.endswith((".npz", ".safetensors", ".toml"))
        }
        for kind in ("data", "split", "twins", "resampling", "run")
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
