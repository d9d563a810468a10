"""Looking after a store: what is in it, whether it is whole, and taking things out."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from ensemble_fer.errors import EnsembleFerError, StoreError
from ensemble_fer.report import find_source
from ensemble_fer.store import KINDS, Artifact, Store

SOURCES = ("run", "ensemble")
STALE_HOURS = 24


def list_runs(store: Store) -> list[dict]:
    """Runs and ensembles, oldest first.

    Returns
    -------
    list of dict
        id, name, kind, model, resampling, split, seed, macro_f1 (of the select part, or None),
        seconds, created.
    """
    names = {kind: {identity: name for name, identity in store.refs(kind).items()} for kind in SOURCES}
    rows = []
    for kind in SOURCES:
        for artifact in store.all(kind):
            recipe = artifact.spec.get("recipe", {})
            rows.append(
                {
                    "id": artifact.id,
                    "name": names[kind].get(artifact.id, artifact.id),
                    "kind": kind,
                    "model": recipe.get("model"),
                    "resampling": recipe.get("resampling"),
                    "split": recipe.get("split"),
                    "seed": recipe.get("seed"),
                    "macro_f1": artifact.metrics.get("select", {}).get("macro_f1"),
                    "seconds": artifact.manifest["seconds"],
                    "created": artifact.manifest["created"],
                }
            )
    return sorted(rows, key=lambda row: (row["created"], row["id"]))


def remove_source(store: Store, name: str) -> list[Artifact]:
    """Take a run or an ensemble out of the store, with the predictions that were made from it.

    The log of looks at the test part keeps what it has.

    Raises
    ------
    StoreError
        An ensemble was made from the run; remove that first.
    """
    member = find_source(store, name)
    users = [a for a in store.all("ensemble") if member.id in a.inputs]
    if users:
        names = ", ".join(store.name_of(a) for a in users)
        raise StoreError(f"run {name} is a member of ensemble {names}. Remove that first.")
    gone = [a for a in store.all("predictions") if member.id in a.inputs]
    for artifact in gone:
        store.remove("predictions", artifact.id)
    return [*gone, store.remove(member.kind, member.id)]


def check_store(store: Store) -> dict:
    """Read every file of every artifact and compare it with its manifest.

    Returns
    -------
    dict
        artifacts and bytes that were read, and ``problems``: one line each, empty if the store is whole.
    """
    known = {kind: store.ids(kind) for kind in KINDS}
    everything = {identity for ids in known.values() for identity in ids}
    size, problems = 0, []
    for kind, ids in known.items():
        for identity in ids:
            try:
                artifact = store.by_id(kind, identity)
                for name, listed in artifact.manifest["files"].items():
                    artifact.file(name)
                    size += listed["size"]
                missing = [i for i in artifact.inputs if i not in everything]
                if missing:
                    problems.append(f"{kind} {identity} was made from {', '.join(missing)}, not in this store")
            except (EnsembleFerError, OSError) as error:
                problems.append(str(error))
        lost = [p for p in _folders(store.root / kind) if p.name not in ids]
        problems += [f"{p} is no artifact: it has no manifest, or no id for a name. Remove it." for p in lost]
        problems += _problems_of_names(store, kind, ids)
    return {"artifacts": len(everything), "bytes": size, "problems": problems}


def _problems_of_names(store: Store, kind: str, ids: list[str]) -> list[str]:
    """References that mean nothing, and what lies among them and is none."""
    folder = store.root / "refs" / kind
    try:
        refs = store.refs(kind)
        # Hidden files are references that another process is writing.
        here = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".")] if folder.is_dir() else []
    except OSError as error:
        return [f"the names of kind {kind} cannot be read: {error}"]
    problems = [f"name {n!r} means {kind} {i[:40]}, which is gone" for n, i in refs.items() if i not in ids]
    return problems + [f"{p} is no reference. Remove it." for p in here if p.name not in refs]


def clean_store(store: Store, *, unfinished: bool = False) -> dict:
    """Remove what interrupted writing has left.

    Temporary folders younger than a day stay: another process may be writing there.

    Parameters
    ----------
    unfinished : bool
        Also remove the checkpoints of runs that were not finished; these could go on otherwise.

    Returns
    -------
    dict
        removed (folders) and bytes.
    """
    limit = time.time() - STALE_HOURS * 3600
    stale = [p for p in _folders(store.root / "tmp") if p.stat().st_mtime < limit]
    if unfinished:
        stale += _folders(store.root / "unfinished")
    size = 0
    for folder in stale:
        size += sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        shutil.rmtree(folder, ignore_errors=True)
    return {"removed": [str(p) for p in stale], "bytes": size}


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
