"""Artifacts on disk: written once, named by what they were made from, never changed.

``<root>/<kind>/<id>/manifest.json`` beside the files it lists; ``id`` is a hash of the kind, the spec
and the ids it was made from, so that the same request twice is answered from disk.
``<root>/refs/<kind>/<name>`` is one line: an id.
Writing goes to ``<root>/tmp``, is synced, and is renamed into place; a crash leaves no half artifact.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_fer import __version__
from ensemble_fer.errors import MissingError, StoreError, UsageError, unknown_name
from ensemble_fer.files import sha256_of, sync_folder, write_atomic

KINDS = ("data", "twins", "split", "resampling", "run", "predictions", "ensemble")
ID_LENGTH = 12
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}\Z")


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def artifact_id(kind: str, spec: dict, inputs: Iterable[str]) -> str:
    """The id of what ``spec`` makes from ``inputs``: 12 hexadecimal digits."""
    text = canonical({"kind": kind, "spec": spec, "inputs": list(inputs)})
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


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
        return self.manifest.get("metrics", {})

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
        """The arrays of one npz file; objects are refused."""
        with np.load(self.file(name), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}


class Store:
    """A folder of artifacts.

    Parameters
    ----------
    root : path
        Made on first write. Several processes may use it at once.
    """

    def __init__(self, root: str | Path = "artifacts") -> None:
        self.root = Path(root)

    def find(self, kind: str, spec: dict, inputs: Iterable[str] = ()) -> Artifact | None:
        """What this spec has made from these inputs before, or None."""
        return self._load(kind, artifact_id(kind, spec, inputs))

    def put(
        self,
        kind: str,
        spec: dict,
        inputs: Iterable[str],
        write: Callable[[Path], dict | None],
        *,
        name: str | None = None,
    ) -> Artifact:
        """The artifact of this spec, made by ``write`` unless it is there already.

        Parameters
        ----------
        kind : str
            One of ``KINDS``.
        spec : dict
            What was asked for; JSON values. Decides the id together with ``inputs``.
        inputs : ids of the artifacts it is made from
        write : callable
            Is given an empty folder, writes files into it, and may return metrics for the manifest.
        name : str, optional
            A reference to set.
        """
        if name is not None:
            check_name(name)
        inputs = list(inputs)
        made = self.find(kind, spec, inputs) or self._make(kind, spec, inputs, write)
        if name is not None:
            self.set_ref(kind, name, made.id)
        return made

    def _make(self, kind: str, spec: dict, inputs: list[str], write: Callable[[Path], dict | None]) -> Artifact:
        identity = artifact_id(kind, spec, inputs)
        final = self.root / kind / identity
        final.parent.mkdir(parents=True, exist_ok=True)
        folder = self._new_folder(kind)
        started = time.perf_counter()
        try:
            metrics = write(folder) or {}
            files = {
                str(p.relative_to(folder)): {"size": p.stat().st_size, "sha256": sha256_of(p)}
                for p in sorted(folder.rglob("*"))
                if p.is_file()
            }
            manifest = {
                "id": identity,
                "kind": kind,
                "spec": spec,
                "inputs": inputs,
                "files": files,
                "metrics": metrics,
                "version": __version__,
                "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "seconds": round(time.perf_counter() - started, 3),
            }
            write_atomic(folder / "manifest.json", json.dumps(manifest, indent=1))
            for path in folder.rglob("*"):
                if path.is_file():
                    with path.open("rb") as file:
                        os.fsync(file.fileno())
            try:
                folder.rename(final)
            except OSError:
                # Another process made the same thing first: its copy is as good as ours.
                if self._load(kind, identity) is None:
                    raise
            sync_folder(final.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        made = self._load(kind, identity)
        assert made is not None
        return made

    def _load(self, kind: str, identity: str) -> Artifact | None:
        path = self.root / kind / identity
        try:
            manifest = json.loads((path / "manifest.json").read_text())
        except FileNotFoundError:
            return None
        except (ValueError, OSError) as error:
            raise StoreError(f"{path / 'manifest.json'} cannot be read ({error}). Remove {path} and rerun.") from error
        return Artifact(identity, kind, path, manifest)

    def get(self, kind: str, name: str) -> Artifact:
        """The artifact with this reference, id, or beginning of an id (4 digits or more).

        Raises
        ------
        UsageError
            No such name, or several ids begin so.
        """
        _check_kind(kind)
        try:
            identity = (self.root / "refs" / kind / name).read_text().strip() if _NAME.match(name) else name
        except FileNotFoundError:
            identity = name
        known = self.ids(kind)
        matches = [i for i in known if i == identity] or [
            i for i in known if len(identity) >= 4 and i.startswith(identity)
        ]
        if len(matches) > 1:
            raise UsageError(f"{name!r} begins several {kind} ids: {', '.join(matches)}. Give more digits.")
        if not matches:
            raise unknown_name(f"{kind} (in store {self.root})", name, self.refs(kind) or known)
        found = self._load(kind, matches[0])
        assert found is not None
        return found

    def ids(self, kind: str) -> list[str]:
        """Ids of all finished artifacts of a kind, sorted."""
        folder = self.root / _check_kind(kind)
        return sorted(p.parent.name for p in folder.glob("*/manifest.json")) if folder.is_dir() else []

    def all(self, kind: str) -> list[Artifact]:
        """All finished artifacts of a kind, oldest first."""
        found = [a for a in (self._load(kind, i) for i in self.ids(kind)) if a is not None]
        return sorted(found, key=lambda a: (a.manifest["created"], a.id))

    def set_ref(self, kind: str, name: str, identity: str) -> None:
        """Let ``name`` mean this id from now on; warns if it meant another."""
        check_name(name)
        former = self.refs(kind).get(name, identity)
        if former != identity:
            warnings.warn(
                f"the {kind} name {name!r} now means {identity}; it meant {former}, which is still there by its id.",
                NameMoved,
                stacklevel=3,
            )
        write_atomic(self.root / "refs" / _check_kind(kind) / name, identity + "\n")

    def refs(self, kind: str) -> dict[str, str]:
        """Names of a kind with the ids they mean."""
        folder = self.root / "refs" / _check_kind(kind)
        if not folder.is_dir():
            return {}
        return {p.name: p.read_text().strip() for p in sorted(folder.iterdir()) if _NAME.match(p.name)}

    def name_of(self, artifact: Artifact) -> str:
        """The reference that means this artifact, or its id."""
        return next((n for n, i in self.refs(artifact.kind).items() if i == artifact.id), artifact.id)

    def remove(self, kind: str, name: str) -> Artifact:
        """Take an artifact and the references to it out of the store.

        Raises
        ------
        StoreError
            Something else was made from it.
        """
        artifact = self.get(kind, name)
        users = [f"{a.kind} {a.id}" for k in KINDS for a in self.all(k) if artifact.id in a.inputs]
        if users:
            raise StoreError(f"{kind} {artifact.id} was used to make {', '.join(users)}. Remove these first.")
        for ref, identity in self.refs(kind).items():
            if identity == artifact.id:
                (self.root / "refs" / kind / ref).unlink()
        trash = self._new_folder("removed")
        artifact.path.rename(trash / artifact.id)
        shutil.rmtree(trash, ignore_errors=True)
        return artifact

    def _new_folder(self, prefix: str) -> Path:
        folder = self.root / "tmp" / f"{prefix}-{uuid.uuid4().hex[:8]}"
        folder.mkdir(parents=True)
        return folder

    def working(self, kind: str, spec: dict, inputs: Iterable[str]) -> Path:
        """Folder for the unfinished state of one artifact (checkpoints), kept until it is finished."""
        folder = self.root / "unfinished" / f"{kind}-{artifact_id(kind, spec, inputs)}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


class NameMoved(UserWarning):
    """A reference means another artifact than before."""


def check_name(name: str) -> str:
    """The name itself if it can be a reference; long work asks before it begins."""
    if not _NAME.match(name):
        raise UsageError(
            f"{name!r} cannot be a name. Expected letters, digits and . _ + -, "
            "beginning with a letter or digit, at most 100 characters."
        )
    return name


def _check_kind(kind: str) -> str:
    if kind not in KINDS:
        raise unknown_name("kind of artifact", kind, KINDS)
    return kind


def need_data(store: Store, name: str | None) -> Artifact:
    """The imported set with this name; ``fer2013`` (or the only set there is) by default.

    Raises
    ------
    MissingError
        Nothing was imported yet.
    """
    refs = store.refs("data")
    if name is None:
        name = "fer2013" if "fer2013" in refs else next(iter(refs)) if len(refs) == 1 else None
    if not refs and not store.ids("data"):
        raise MissingError(
            f"no data set in store {store.root}. Import one:  ensemble-fer data import fer2013.csv\n"
            "or make synthetic faces:  ensemble-fer data synth"
        )
    if name is None:
        raise UsageError(f"several data sets here: {', '.join(refs)}. Name one with --data.")
    return store.get("data", name)
