"""Artifacts on disk: written once, named by what they were made from, never changed.

``<root>/<kind>/<id>/manifest.json`` beside the files it lists; ``id`` is a hash of the kind, the spec
and the ids it was made from, so that the same request twice is answered from disk.
``<root>/refs/<kind>/<name>`` is one line: an id.
Writing goes to ``<root>/tmp``, is synced, and is renamed into place; a crash leaves no half artifact.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from ensemble_fer import __version__
from ensemble_fer.artifact import ID_LENGTH, MANIFEST, Artifact, artifact_id, load_artifact, sealed
from ensemble_fer.errors import MissingError, StoreError, UsageError, unknown_name
from ensemble_fer.files import naming, opened_file, sha256_of, sync_folder, write_atomic
from ensemble_fer.locking import alone

KINDS = ("data", "twins", "votes", "split", "resampling", "run", "predictions", "ensemble", "graph", "tuning")
_OTHERS = ("refs", "locks", "tmp", "unfinished", "tune", "studies", "seen", "looks.jsonl")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}\Z")
_MOST_REFERENCE = 1000  # bytes; an id has 12
_ID = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}\Z")


class Store:
    """A folder of artifacts.

    Parameters
    ----------
    root : path
        Made on first write. Several processes may use it at once.
    """

    def __init__(self, root: str | Path = "artifacts") -> None:
        self.root = Path(root)

    @property
    def locks(self) -> Path:
        """Folder of the files of ``locking.alone``: one for each artifact that is being made."""
        return self.root / "locks"

    @property
    def own_places(self) -> list[Path]:
        """Files and folders that are written here alone, whether they are there yet or not."""
        return [self.root / name for name in (*KINDS, *_OTHERS)]

    def find(self, kind: str, spec: dict, inputs: Iterable[str] = ()) -> Artifact | None:
        """What this spec has made from these inputs before, or None."""
        return load_artifact(kind, self.root / kind / artifact_id(kind, spec, inputs))

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

        While another process makes the same one, this one waits (with the warning ``MadeElsewhere``) and takes that.

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
        made = self.find(kind, spec, inputs)
        if made is None:
            identity = artifact_id(kind, spec, inputs)
            with alone(self.locks / f"{kind}-{identity}", lambda: _say_elsewhere(kind, identity)):
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
            with naming(final):
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
                    "created": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
                    "seconds": round(time.perf_counter() - started, 3),
                }
                write_atomic(folder / MANIFEST, json.dumps(sealed(manifest), indent=1))
                for path in folder.rglob("*"):
                    if path.is_file():
                        with path.open("rb") as file:
                            os.fsync(file.fileno())
            try:
                folder.rename(final)
            except OSError:
                # Where no locks are known another process may have made it first: its copy is as good as ours.
                if load_artifact(kind, final) is None:
                    raise
            sync_folder(final.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return self.by_id(kind, identity)

    def get(self, kind: str, name: str) -> Artifact:
        """The artifact with this id, reference, or beginning of an id (4 digits or more), looked for in this order.

        Raises
        ------
        UsageError
            No such name, or several ids begin so.
        MissingError
            The reference is there and what it means is gone.
        StoreError
            The reference or the manifest is damaged.
        """
        known, refs = self.ids(kind), self.refs(kind)
        if name in known:
            return self.by_id(kind, name)
        if name in refs:
            return self._meant_by(kind, name, refs[name])
        matches = [i for i in known if len(name) >= 4 and i.startswith(name)]
        if len(matches) > 1:
            raise UsageError(f"{name!r} begins several {kind} ids: {', '.join(matches)}. Give more digits.")
        if not matches:
            raise unknown_name(f"{kind} (in store {self.root})", name, refs or known)
        return self.by_id(kind, matches[0])

    def by_id(self, kind: str, identity: str) -> Artifact:
        """The artifact with exactly this id; no reference and no beginning of an id is taken for it.

        Raises
        ------
        MissingError
            It is gone.
        StoreError
            Its manifest is damaged.
        """
        found = load_artifact(kind, self.root / _check_kind(kind) / identity)
        if found is None:
            raise MissingError(
                f"{kind} {identity} is gone from store {self.root}. The command that made it makes it again, under "
                "the same id. What else is missing says:  ensemble-fer store check"
            )
        return found

    def _meant_by(self, kind: str, name: str, identity: str) -> Artifact:
        path = self.root / "refs" / kind / name
        if not _ID.match(identity):
            raise StoreError(
                f"{path} is a damaged reference: it holds {identity[:40]!r}; expected one id. Remove the file, "
                f"and name the {kind} again with --name."
            )
        try:
            return self.by_id(kind, identity)
        except MissingError:
            raise MissingError(
                f"the {kind} name {name!r} means {identity}, which is gone from this store ({self.root}). "
                f"Make it again with the command that made it, or remove {path}."
            ) from None

    def ids(self, kind: str) -> list[str]:
        """Ids of all finished artifacts of a kind, sorted."""
        folder = self.root / _check_kind(kind)
        found = folder.glob(f"*/{MANIFEST}") if folder.is_dir() else []
        return sorted(p.parent.name for p in found if _ID.match(p.parent.name))

    def all(self, kind: str) -> list[Artifact]:
        """All finished artifacts of a kind, oldest first; a damaged one is left out with a warning."""
        found = []
        for identity in self.ids(kind):
            try:
                found.append(self.by_id(kind, identity))
            except StoreError as error:
                warnings.warn(f"left out: {error}", DamagedArtifact, stacklevel=2)
            except MissingError:
                continue  # another process has just removed it
        return sorted(found, key=lambda a: (a.manifest["created"], a.id))

    def set_ref(self, kind: str, name: str, identity: str) -> None:
        """Let ``name`` mean this id from now on; warns if it meant another."""
        check_name(name)
        former = self.refs(kind).get(name, identity)
        if former != identity:
            warnings.warn(
                f"the {kind} name {name!r} now means {identity}; it meant {former}"
                f"{', which is still there by its id' if former in self.ids(kind) else ''}.",
                NameMoved,
                stacklevel=3,
            )
        write_atomic(self.root / "refs" / _check_kind(kind) / name, identity + "\n")

    def refs(self, kind: str) -> dict[str, str]:
        """Names of a kind with the ids they mean."""
        folder = self.root / "refs" / _check_kind(kind)
        if not folder.is_dir():
            return {}
        files = [p for p in sorted(folder.iterdir()) if _NAME.match(p.name) and p.is_file()]
        return {p.name: _held_by(p) for p in files}

    def name_of(self, artifact: Artifact) -> str:
        """The reference that means this artifact, or its id. A reference that looks like an id means nothing."""
        refs = self.refs(artifact.kind)
        return next((n for n, i in refs.items() if i == artifact.id and not _ID.match(n)), artifact.id)

    def remove(self, kind: str, name: str) -> Artifact:
        """Take an artifact and the references to it out of the store.

        Raises
        ------
        StoreError
            Something else was made from it, or a manifest that could say so is damaged.
        """
        artifact = self.get(kind, name)
        # Not all(): what a damaged manifest was made from cannot be known, so nothing is removed beside one.
        others = [self.by_id(other, identity) for other in KINDS for identity in self.ids(other)]
        users = [f"{a.kind} {a.id}" for a in others if artifact.id in a.inputs]
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


class MadeElsewhere(UserWarning):
    """Another process is making the same artifact; this one waits for it."""


class NameMoved(UserWarning):
    """A reference means another artifact than before."""


class DamagedArtifact(UserWarning):
    """An artifact is left out of a list because its manifest cannot be used."""


def _say_elsewhere(kind: str, identity: str) -> None:
    warnings.warn(
        f"another process is making {kind} {identity}: waiting for it to end, and taking what it has made.",
        MadeElsewhere,
        stacklevel=7,
    )


def _held_by(reference: Path) -> str:
    """What a reference holds; of what is longer than any, enough to be seen to be none."""
    with opened_file(reference) as file:
        text = file.read(_MOST_REFERENCE + 1).decode("utf-8", "replace")
    return text.removesuffix("\n") if len(text) <= _MOST_REFERENCE else text


def check_name(name: str) -> str:
    """The name itself if it can be a reference; long work asks before it begins."""
    if not _NAME.match(name):
        raise UsageError(
            f"{name!r} cannot be a name. Expected letters, digits and . _ + -, "
            "beginning with a letter or digit, at most 100 characters."
        )
    if _ID.match(name.lower()):
        raise UsageError(f"{name!r} cannot be a name: {ID_LENGTH} hexadecimal digits are an id. Choose another name.")
    return name


def _check_kind(kind: str) -> str:
    if kind not in KINDS:
        raise unknown_name("kind of artifact", kind, KINDS)
    return kind


def need_data(store: Store, name: str | None) -> Artifact:
    """The set with this name; by default ``fer2013``, or the only one that was not made from another.

    Raises
    ------
    MissingError
        Nothing was imported yet.
    """
    refs = store.refs("data")
    if name is None:
        given = ["fer2013"] if "fer2013" in refs else _not_made_from_another(store, refs)
        name = given[0] if len(given) == 1 else None
    if not refs and not store.ids("data"):
        raise MissingError(
            f"no data set in store {store.root}. Import one:  ensemble-fer data import fer2013.csv\n"
            "or make synthetic faces:  ensemble-fer data synth"
        )
    if name is None:
        raise UsageError(f"several data sets here: {', '.join(refs)}. Name one with --data.")
    return store.get("data", name)


def _not_made_from_another(store: Store, refs: dict[str, str]) -> list[str]:
    """Of several sets those that an aligned or joined one is made from: its name is asked for, theirs is understood."""
    if len(refs) == 1:
        return list(refs)
    found = {name: load_artifact("data", store.root / "data" / identity) for name, identity in refs.items()}
    return [name for name, data in found.items() if data is None or not data.inputs]
