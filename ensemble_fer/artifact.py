"""One finished thing in a store: its folder, and what its manifest says.

A manifest is believed only if it is whole and the id it lies under follows from it; whatever else is there is named
with its path, so that a file that was cut off or edited by hand never looks like a defect of the program.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_fer.errors import StoreError
from ensemble_fer.files import MOST_JSON, load_arrays, read_file, sha256_of

MANIFEST = "manifest.json"
ID_LENGTH = 12
_KEYS: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "kind": str,
    "spec": dict,
    "inputs": list,
    "files": dict,
    "metrics": dict,
    "version": str,
    "created": str,
    "seconds": (int, float),
}
DIGEST = "digest"
"""Key of the sha256 of all else in a manifest; none where an earlier version has written it."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def artifact_id(kind: str, spec: dict, inputs: Iterable[str]) -> str:
    """The id of what ``spec`` makes from ``inputs``: 12 hexadecimal digits."""
    text = canonical({"kind": kind, "spec": spec, "inputs": list(inputs)})
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def sealed(manifest: dict) -> dict:
    """A manifest with the digest that tells whether anything in it has changed since."""
    plain = json.loads(json.dumps(manifest))
    return {**plain, DIGEST: _digest_of(plain)}


def _digest_of(manifest: dict) -> str:
    own = {key: value for key, value in manifest.items() if key != DIGEST}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Artifact:
    """One finished thing in the store: where it lies and what its manifest says."""

    id: str
    kind: str
    path: Path
    manifest: dict = field(repr=False)

    @property
    def spec(self) -> dict:
        return self.manifest["spec"]

    @property
    def inputs(self) -> list[str]:
        return self.manifest["inputs"]

    @property
    def metrics(self) -> dict:
        return self.manifest["metrics"]

    def file(self, name: str) -> Path:
        """Path of one of its files, checked against size and sha256 in the manifest.

        Raises
        ------
        StoreError
            The file is missing or its content has changed since it was written.
        """
        listed = self.manifest["files"].get(name)
        path = self.path / name
        advice = f"Remove {self.path} and make it again with the command that made it."
        if listed is None or not path.is_file():
            raise StoreError(f"{self.kind} {self.id} has no file {name!r}. {advice}")
        if path.stat().st_size != listed["size"] or sha256_of(path) != listed["sha256"]:
            raise StoreError(f"{path} is not what was written (size or sha256 differs). {advice}")
        return path

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of one npz file, read-only; objects are refused."""
        return load_arrays(self.file(name))


def load_artifact(kind: str, path: Path) -> Artifact | None:
    """The finished artifact in a folder that is named after its id; None if there is none.

    Raises
    ------
    StoreError
        The manifest cannot be read, lacks a key, or does not belong to this id.
    """
    file = path / MANIFEST
    manifest: Any = None
    try:
        manifest = json.loads(read_file(file, MOST_JSON).decode("utf-8"))
        problem = _problem_of(manifest, kind, path.name)
    except FileNotFoundError:
        return None
    except (ValueError, OSError, RecursionError) as error:
        problem = str(error)
    if problem:
        raise StoreError(
            f"{file} is no manifest of this {kind}: {problem}. "
            f"Remove {path} and make it again with the command that made it."
        )
    return Artifact(path.name, kind, path, manifest)


def _problem_of(manifest: Any, kind: str, identity: str) -> str:
    """What is wrong with what a manifest holds, in words; nothing if it is whole."""
    if not isinstance(manifest, dict):
        return f"it holds a {type(manifest).__name__}; expected an object"
    wrong = [key for key, types in _KEYS.items() if not isinstance(manifest.get(key), types)]
    if wrong:
        return f"{', '.join(wrong)} missing or of another type"
    for name, listed in manifest["files"].items():
        whole = isinstance(listed, dict) and isinstance(listed.get("size"), int)
        if not whole or not isinstance(listed.get("sha256"), str):
            return f"file {name!r} is listed without size or sha256"
        if name in ("", ".", "..") or not set("/\\\0").isdisjoint(name):
            return f"it lists {name!r}, which is no file of its folder"
    if not all(isinstance(each, str) for each in manifest["inputs"]):
        return "its inputs are no ids"
    own = artifact_id(manifest["kind"], manifest["spec"], manifest["inputs"])
    if (manifest["id"], manifest["kind"], own) != (identity, kind, identity):
        return f"kind, spec and inputs give {manifest['kind']} {own}; expected {kind} {identity}"
    unknown = sorted(manifest.keys() - _KEYS.keys() - {DIGEST})
    if unknown:
        return f"it holds {unknown[0]!r}, which no manifest has"
    if DIGEST in manifest and manifest[DIGEST] != _digest_of(manifest):
        return "what it holds has changed since it was written"
    return ""
