"""Looking after a store: what is in it, whether it is whole, and taking things out."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from ensemble_fer.errors import EnsembleFerError, StoreError
from ensemble_fer.files import is_left_over
from ensemble_fer.locking import alone, remove_left
from ensemble_fer.looks import damage
from ensemble_fer.scoring import find_source
from ensemble_fer.store import KINDS, Artifact, Store, check_name

LISTED = ("run", "ensemble", "tuning")
# Goes with what it was made from.
DERIVED = ("predictions", "graph")
# A study that has left no result yet: only its database is there.
STUDY = "study"
STALE_HOURS = 24


def list_runs(store: Store) -> list[dict]:
    """Runs, ensembles and searches for a recipe, oldest first.

    Returns
    -------
    list of dict
        id, name, kind, model, resampling, split, seed, macro_f1 (of the select part, or None; a search's is that of
        its best trial), seconds, created. Of a study that has left no result yet name and time are known, id and the
        rest are None.
    """
    names = {kind: {identity: name for name, identity in store.refs(kind).items()} for kind in LISTED}
    rows: list[dict] = []
    for kind in LISTED:
        for artifact in store.all(kind):
            metrics, tuned = artifact.metrics, artifact.spec.get("tunes", {})
            recipe, best = artifact.spec.get("recipe", tuned), metrics.get("best") or {}
            rows.append(
                {
                    "id": artifact.id,
                    "name": names[kind].get(artifact.id, artifact.id),
                    "kind": kind,
                    "model": recipe.get("model"),
                    "resampling": recipe.get("resampling"),
                    "split": recipe.get("split"),
                    "seed": recipe.get("seed"),
                    "macro_f1": best.get("value") if tuned else (metrics.get("select") or {}).get("macro_f1"),
                    "seconds": metrics.get("trial_seconds") if tuned else artifact.manifest["seconds"],
                    "created": artifact.manifest["created"],
                }
            )
    for folder in _open_studies(store):
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(folder.stat().st_mtime))
        unknown = dict.fromkeys(("id", "model", "resampling", "split", "seed", "macro_f1", "seconds"))
        rows.append({**unknown, "name": folder.name, "kind": STUDY, "created": created})
    return sorted(rows, key=lambda row: (row["created"], row["id"] or ""))


def remove_source(store: Store, name: str) -> list[Artifact]:
    """Take a run or an ensemble out of the store, with the predictions and the graphs that were made from it.

    The log of looks at the test part keeps what it has.

    Raises
    ------
    StoreError
        Something else was made from it, such as an ensemble or a fine-tuned run; remove that first.
    """
    member = find_source(store, name)
    # Asked before anything is gone.
    made = [a for kind in KINDS if kind not in DERIVED for a in store.all(kind) if member.id in a.inputs]
    if made:
        names = ", ".join(f"{a.kind} {store.name_of(a)}" for a in made)
        raise StoreError(f"{member.kind} {store.name_of(member)} was used to make {names}. Remove that first.")
    gone = [a for kind in DERIVED for a in store.all(kind) if member.id in a.inputs]
    for artifact in gone:
        store.remove(artifact.kind, artifact.id)
    return [*gone, store.remove(member.kind, member.id)]


def remove_study(store: Store, name: str) -> tuple[list[Artifact], list[Path]]:
    """Take a study out of the store: all results of it, its database and the checkpoints of its trials.

    Runs that were trained with its best recipe stay, and so does what the log of looks has. A database that is not in
    the store (``--storage``) is left alone.

    Parameters
    ----------
    store : Store
    name : str
        Of the study.

    Returns
    -------
    list of Artifact, list of Path
        Results and folders that are gone.

    Raises
    ------
    EnsembleFerError
        A process on this machine is working on it.
    """
    check_name(name)  # it may come from a manifest that somebody else wrote, and folders are removed
    if _is_searched(store, name):
        raise EnsembleFerError(f"study {name} is being searched. Interrupt that first; nothing was removed.")
    results = [artifact for artifact in store.all("tuning") if artifact.spec.get("study") == name]
    for artifact in results:
        store.remove("tuning", artifact.id)
    here = [folder for folder in _study_folders(store, name) if folder.is_dir()]
    for folder in here:
        shutil.rmtree(folder)
    return results, here


def remove_listed(store: Store, name: str) -> tuple[list[Artifact], list[Path]]:
    """Take out what ``list_runs`` lists: a run or an ensemble (``remove_source``), or a study (``remove_study``).

    Parameters
    ----------
    store : Store
    name : str
        Reference or id, with its kind before it where several kinds have one of this name (``tuning:NAME``,
        ``study:NAME``).

    Raises
    ------
    UsageError
        There is none, or there are several of this name.
    EnsembleFerError
        It is still needed; see there.
    """
    own = name.removeprefix(f"{STUDY}:")
    begun = own in [folder.name for folder in _open_studies(store)]
    if begun and (own != name or not any(own in store.refs(kind) for kind in LISTED)):
        return remove_study(store, own)
    found = find_source(store, name, LISTED)
    if found.kind == "tuning":
        return remove_study(store, str(found.spec.get("study", "")))
    return remove_source(store, f"{found.kind}:{found.id}"), []


def check_store(store: Store) -> dict:
    """Read every file of every artifact and compare it with its manifest, and all trials with what they were told.

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
    problems += damage(store)
    problems += [problem for folder in _folders(store.root / "tune") for problem in _problems_of_search(store, folder)]
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


def _problems_of_search(store: Store, folder: Path) -> list[str]:
    """What is wrong with the database of a search for a recipe; one that has none yet is whole."""
    file = folder / "study.db"
    if not file.is_file():
        return []
    from ensemble_fer.tune.sealing import check_study_file

    try:
        check_study_file(file, folder.name, store.root)
    except EnsembleFerError as error:
        return [str(error)]
    return []


def clean_store(store: Store, *, unfinished: bool = False) -> dict:
    """Remove what interrupted writing has left.

    What is younger than a day stays: another process may be writing it.

    Parameters
    ----------
    unfinished : bool
        Also remove the checkpoints of runs that were not finished; these could go on otherwise. Those of a run or a
        study that a process is working on stay.

    Returns
    -------
    dict
        removed (folders and files), kept (of those: what is in use, or could not be removed) and bytes.
    """
    limit = time.time() - STALE_HOURS * 3600
    here = [*_entries(store.root / "tmp"), *(p for p in _hidden(store.root) if is_left_over(p))]
    found = {p: _remove(p) for p in here if _written(p) < limit}
    if unfinished:
        found |= {p: _remove_unfinished(store, p) for p in _entries(store.root / "unfinished")}
    found |= dict.fromkeys(remove_left(store.locks), 0)
    return {
        "removed": [str(p) for p, size in found.items() if size is not None],
        "kept": [str(p) for p, size in found.items() if size is None],
        "bytes": sum(size or 0 for size in found.values()),
    }


def _remove_unfinished(store: Store, folder: Path) -> int | None:
    """Remove a folder of checkpoints; its size, or None where somebody is working there."""
    study = folder.name.removeprefix("tune-")
    if study != folder.name:
        return None if _is_searched(store, study) else _remove(folder)
    try:
        with alone(store.locks / folder.name, _say_in_use):
            return _remove(folder)
    except _InUse:
        return None


class _InUse(Exception):
    """Another process holds the lock."""


def _say_in_use() -> None:
    raise _InUse


def _remove(path: Path) -> int | None:
    """Remove a folder with all that is in it, a file, or a link, not what it points to; its size, None if it stays."""
    try:
        if path.is_symlink() or not path.is_dir():
            size = path.lstat().st_size
            path.unlink()
        else:
            size = sum(p.lstat().st_size for p in path.rglob("*") if not p.is_dir())
            shutil.rmtree(path)
    except FileNotFoundError:
        return 0  # another process has just removed it
    except OSError:
        return None
    return size


def _written(path: Path) -> float:
    """When a folder, file or link itself was written; what is gone by now counts as new."""
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return time.time()


def _study_folders(store: Store, name: str) -> list[Path]:
    return [store.root / "tune" / name, store.root / "unfinished" / f"tune-{name}"]


def _is_searched(store: Store, name: str) -> bool:
    """Whether a process of this machine is working on a study."""
    from ensemble_fer.tune.storage import is_alive

    workers = [token for folder in _study_folders(store, name) for token in folder.glob("*workers/[!.]*")]
    return any(is_alive(token.parent, token.name) for token in workers)


def _open_studies(store: Store) -> list[Path]:
    """Folders of studies that have left no result yet."""
    done = {artifact.spec.get("study") for artifact in store.all("tuning")}
    return [folder for folder in _folders(store.root / "tune") if folder.name not in done]


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []


def _entries(root: Path) -> list[Path]:
    return sorted(root.iterdir()) if root.is_dir() else []


def _hidden(root: Path) -> list[Path]:
    """Hidden files anywhere in a folder; links are not followed."""
    return [Path(place) / name for place, _, names in os.walk(root) for name in names if name.startswith(".")]
