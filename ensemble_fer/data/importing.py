"""Bring a set of faces into the store, whatever layout it comes in. All rows or none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.csv_reader import read_csv
from ensemble_fer.data.derived import source_of
from ensemble_fer.data.folders import read_folders
from ensemble_fer.data.npz import read_npz
from ensemble_fer.data.readers import Rows, count_left_out
from ensemble_fer.errors import BadData, MissingError, UsageError
from ensemble_fer.store import Artifact, Store
from ensemble_fer.types import USAGES, FaceSet

CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")
SKIP_HINT = "Nothing was imported. Correct these, or leave them out with --skip-bad-rows (skip_bad_rows=True)."


def import_data(
    store: Store, source: str | Path, *, name: str = "fer2013", skip_bad_rows: bool = False, quiet: bool = False
) -> Artifact:
    """Read a Kaggle csv, image folders or an npz, check every row, and store the faces as 48 x 48 gray pixels.

    Parameters
    ----------
    store : Store
    source : path
        A csv file, an npz file, or a folder (with class folders, or with one of Kaggle's csv files in it).
    name : str
        The reference to set.
    skip_bad_rows : bool
        Import the good rows and record the bad ones in the metrics, instead of refusing.
    quiet : bool
        No progress bar.

    Returns
    -------
    Artifact
        Of kind ``data`` with ``faces.npz``. Its id is decided by pixels, labels, usages and their order, and
        by which bad rows were left out; where none was, by the faces alone.
        Metrics: ``name`` (of the first import), ``layout``, ``source``, ``rows``, ``usage`` {usage: [7]},
        ``converted``, ``dropped`` (rows of classes beside the seven, {"contempt": 120}), ``skipped`` (the bad rows
        left out, one line each), ``left_out`` (their number by usage:
        {Training, PublicTest, PrivateTest, unknown}), ``notes``.

    Raises
    ------
    MissingError
        There is nothing at ``source``.
    UsageError
        It is not a layout that is known.
    BadData
        Bad rows, all of them listed, or no good one. Nothing is stored.
    """
    path = Path(source)
    rows = _reader(path)(path, quiet)
    if rows.problems and not skip_bad_rows:
        raise BadData(str(path), rows.problems, SKIP_HINT)
    if not len(rows.labels):
        others = [f"{count:,} rows of {name}, none of the seven classes" for name, count in rows.dropped.items()]
        raise BadData(str(path), [*rows.problems, *others, "there is no good row"], "Nothing was imported.")
    metrics = {
        "layout": rows.layout,
        "source": path.name,
        "converted": rows.converted,
        "dropped": rows.dropped,
        "skipped": rows.problems,
        "left_out": rows.left_out,
        "notes": rows.notes,
    }
    return store_faces(store, rows.faces(name), metrics, skipped=rows.problems)


def store_faces(
    store: Store,
    faces: FaceSet,
    metrics: dict,
    *,
    also: Callable[[Path], None] | None = None,
    skipped: Sequence[str] = (),
    leaks: Sequence[str] = (),
) -> Artifact:
    """Store a FaceSet under its own name; the same faces get the same id, unless rows were left out.

    Parameters
    ----------
    store : Store
    faces : FaceSet
    metrics : dict
        For the manifest, beside rows and counts.
    also : callable, optional
        Is given the folder to write further files into.
    skipped : lines
        The bad rows that were left out. They decide the id too: a set that lost rows must not be taken
        for a clean one with the same faces, nor the other way round.
    leaks : sequence of str
        What makes every score on this set worthless as an estimate: only the leak simulator makes such sets. They
        decide the id too, and are in the stamp of each run that is trained on the set or on one made from it.
    """
    spec: dict = {"fingerprint": faces.fingerprint}
    if leaks:
        spec["leaks"] = list(leaks)
    if skipped:
        digest = hashlib.sha256("\n".join(skipped).encode(errors="surrogateescape")).hexdigest()
        spec["skipped"] = {"lines": len(skipped), "sha256": digest, "left_out": metrics["left_out"]}

    def write(folder: Path) -> dict:
        # Not compressed: packing 83 MB takes longer than reading the csv, and every command unpacks it again.
        np.savez(folder / "faces.npz", images=faces.images, labels=faces.labels, usage=faces.usage)
        if also is not None:
            also(folder)
        counts = faces.usage_counts()
        return {"name": faces.name, "rows": len(faces), "usage": counts, "left_out": count_left_out(), **metrics}

    return store.put("data", spec, [], write, name=faces.name)


def load_faces(artifact: Artifact) -> FaceSet:
    """The faces of a stored set, checked against their sha256.

    Raises
    ------
    UsageError
        The artifact is of another kind.
    StoreError
        A file is missing or has changed.
    """
    if artifact.kind != "data":
        raise UsageError(f"{artifact.kind} {artifact.id} holds no faces; expected an artifact of kind data.")
    arrays = artifact.arrays("faces.npz")
    images = arrays["images"]
    if "channels" in arrays:
        # Kept once where red, green and blue are equal.
        images = np.repeat(images[..., None], int(arrays["channels"]), axis=3)
    return FaceSet(images, arrays["labels"], arrays["usage"], artifact.metrics.get("name", artifact.id))


def _reader(path: Path) -> Callable[[Path, bool], Rows]:
    """The reader for what lies at a path."""
    if not path.exists():
        raise MissingError(
            f"there is nothing at {path}. Expected fer2013.csv or icml_face_data.csv, a folder train|test/<class>/…, "
            "or an npz.\nFER2013 is on Kaggle (msambare/fer2013 as folders; the challenge of 2013 as csv). "
            "Without it:  ensemble-fer data synth"
        )
    if path.is_dir():
        within = next((path / n for n in CSV_NAMES if (path / n).is_file()), None)
        if within is not None and not any(p.is_dir() for p in path.iterdir()):
            return lambda _, quiet: read_csv(within, quiet=quiet)
        return lambda folder, quiet: read_folders(folder, quiet=quiet)
    if not path.is_file():
        raise UsageError(f"{path} is a pipe, a device or the like; expected a .csv or .npz file or a folder.")
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return lambda file, quiet: read_csv(file, quiet=quiet)
    if suffix == ".npz":
        return lambda file, _: read_npz(file)
    advice = (
        "Unpack it first and import what is in it." if suffix in (".zip", ".gz", ".tar", ".7z", ".rar", ".tgz") else ""
    )
    raise UsageError(f"cannot tell what {path.name} is; expected a .csv or .npz file or a folder. {advice}".rstrip())


def identity_images(store: Store, data: Artifact) -> NDArray[np.uint8]:
    """The pictures by which looks at faces are counted: those of the set that a set was made from, row for row.

    An aligned test face is the source's test face, however it was cut.
    """
    return load_faces(source_of(store, data)).images


def rows_left_out(data: Artifact, faces: FaceSet, rows: NDArray[np.int64]) -> int:
    """Bad rows that the import left out of the usages of these rows."""
    missing = data.metrics.get("left_out", {})
    usages = [USAGES[code] for code in np.unique(faces.usage[rows])]
    return sum(missing.get(usage, 0) for usage in [*usages, "unknown"])
