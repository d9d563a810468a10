"""A set of faces becomes one of aligned faces: the same rows, each cut to 96 x 96 around the face that was found."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.align.cutting import SIDE, cut, scaled, visible
from ensemble_fer.align.detection import LOOKING, detect
from ensemble_fer.align.weights import DIGESTS, PACKAGE, VERSION
from ensemble_fer.data.derived import ALIGNMENT, DROPS
from ensemble_fer.data.importing import load_faces
from ensemble_fer.detector.cascade import Settings
from ensemble_fer.devices import CPU_OR_CUDA, choose_device
from ensemble_fer.errors import BadData, StoreError, UsageError, unknown_name
from ensemble_fer.files import load_arrays, save_arrays, write_atomic
from ensemble_fer.runtime import progress
from ensemble_fer.store import Artifact, Store, artifact_id, check_name
from ensemble_fer.types import USAGES, FaceSet

# Raised when the same settings cut other faces than before: old sets are not taken for new ones.
ALIGN_VERSION = 1
# Faces that are kept together while the work is under way, so that a kill costs seconds.
PIECE = 1024
FACES = "faces.npz"


def align(
    store: Store,
    data: Artifact,
    *,
    name: str | None = None,
    drop_faceless: str | None = None,
    settings: Settings = Settings(),
    device: str = "auto",
    quiet: bool = False,
) -> Artifact:
    """Find the face in each picture of a set and cut it out; answered from disk the second time.

    The pictures are those of the set: what an import has stored is gray and 48 x 48, whatever size and colours the
    files had. They are enlarged or shrunk to 96 pixels for the search. Where several faces are found the largest
    counts. A row without a face, or of whose box the picture has not one pixel, shows the middle of its picture and is
    flagged.

    Parameters
    ----------
    store : Store
    data : Artifact
        A set that is not aligned.
    name : str, optional
        The reference to set; by default ``<data>-aligned``, or ``<data>-aligned-drop-train`` and ``-drop-all``. The set
        with all rows, which these are made from, gets its own default name if it was not there.
    drop_faceless : str, optional
        ``train`` keeps rows without a face out of the training part of every split, ``all`` out of every part. The
        test is easier then, and every score of it says so.
    settings : Settings
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    quiet : bool
        Draw no progress.

    Returns
    -------
    Artifact
        Of kind data, made from ``data``: ``faces.npz`` (RGB, uint8 [n, 96, 96, 3]; labels, usages and row ids are the
        source's) and ``alignment.npz`` (see ``Alignment``). Its metrics are those of an import, with ``found`` and
        ``several`` (pictures with more than one face), counts of each usage.

    Raises
    ------
    UsageError
        The set is aligned already, or an unknown name, device or choice of rows to drop.
    MissingError
        The detector's weights or the device are not here.
    KeyboardInterrupt
        Interrupted; the same call goes on from what is done.
    """
    if drop_faceless is not None and drop_faceless not in DROPS:
        raise unknown_name("choice of rows to drop", drop_faceless, DROPS)
    source = store.name_of(data)
    if "align" in data.spec:
        raise UsageError(f"{source} is aligned already. Align {store.name_of(store.by_id('data', data.inputs[0]))}.")
    automatic = f"{source[:80]}-aligned"
    name = check_name(name or automatic + (f"-drop-{drop_faceless}" if drop_faceless else ""))
    if name == store.name_of(data):
        raise UsageError(f"{name!r} is what the set that goes in is called. Give the new set a name of its own.")
    choose_device(device, CPU_OR_CUDA, LOOKING)
    spec = {
        "align": {**settings.to_dict(), "side": SIDE, "weights": DIGESTS, "version": ALIGN_VERSION},
        "drop_faceless": None,
    }
    whole = store.find("data", spec, [data.id])
    if whole is None:
        own = _free_name(store, automatic, artifact_id("data", spec, [data.id])) if drop_faceless else name
        whole = _aligned(store, data, spec, own, settings, device, quiet)
        if drop_faceless:
            store.set_ref("data", own, whole.id)
    if drop_faceless is None:
        store.set_ref("data", name, whole.id)
        return whole

    def write(folder: Path) -> dict:
        for file in (FACES, ALIGNMENT):
            _share(whole.file(file), folder / file)
        return {**whole.metrics, "name": name}

    return store.put("data", {**spec, "drop_faceless": drop_faceless}, [data.id], write, name=name)


def _free_name(store: Store, name: str, identity: str) -> str:
    """The name, or one that says which set it is where the name means another."""
    return name if store.refs("data").get(name, identity) == identity else f"{name}-{identity[:6]}"


def _aligned(
    store: Store, data: Artifact, spec: dict, name: str, settings: Settings, device: str, quiet: bool
) -> Artifact:
    """The set with all its rows in all parts; goes on from the pieces that are done."""
    faces = load_faces(data)
    if 0 in faces.images.shape:
        raise BadData(faces.name, [f"images have the shape {list(faces.images.shape)}"], "There is nothing to align.")
    working = store.working("data", spec, [data.id])

    def write(folder: Path) -> dict:
        pieces = _pieces(faces.images, working, settings, device, quiet)
        whole = {key: np.concatenate([getattr(piece, key) for piece in pieces]) for key in vars(pieces[0])}
        images = whole.pop("images")
        kept: dict[str, NDArray] = {"images": images, "labels": faces.labels, "usage": faces.usage}
        if images.ndim == 3:
            # Of gray pictures red, green and blue are equal and kept once.
            kept["channels"] = np.array(3, np.uint8)
        np.savez(folder / FACES, allow_pickle=False, **kept)
        save_arrays(folder / ALIGNMENT, **whole)
        return {
            "name": name,
            "layout": "aligned",
            "source": data.id,
            "rows": len(faces),
            "usage": faces.usage_counts(),
            **{key: data.metrics[key] for key in ("left_out", "skipped") if key in data.metrics},
            "detector": f"MTCNN, weights of {PACKAGE} {VERSION}",
            "found": counts_of(faces, whole["found"]),
            "several": counts_of(faces, whole["count"] > 1),
        }

    made = store.put("data", spec, [data.id], write)
    shutil.rmtree(working, ignore_errors=True)
    return made


def counts_of(faces: FaceSet, rows: NDArray[np.bool_]) -> dict[str, int]:
    """How many of each usage are among the rows; usages that the set has none of are left out."""
    return {u: int(rows[faces.rows_of(u)].sum()) for u in USAGES if len(faces.rows_of(u))}


@dataclass(frozen=True)
class _Piece:
    """Aligned faces of some rows in their order; gray ones [n, 96, 96]."""

    images: NDArray[np.uint8]
    found: NDArray[np.bool_]
    landmarks: NDArray[np.float32]
    boxes: NDArray[np.float32]
    score: NDArray[np.float32]
    count: NDArray[np.int32]


def _pieces(images: NDArray[np.uint8], working: Path, settings: Settings, device: str, quiet: bool) -> list[_Piece]:
    """All rows in pieces, those from the folder that are done and whole, the others made and written there."""
    starts = range(0, len(images), PIECE)
    done = {start: piece for start in starts if (piece := _read(working, start, images)) is not None}
    with progress(len(images), "aligning", quiet=quiet) as advance:
        advance(sum(len(piece.found) for piece in done.values()))
        for start in starts:
            if start not in done:
                done[start] = _made(images[start : start + PIECE], settings, device, advance)
                content = io.BytesIO()
                np.savez(content, allow_pickle=False, **vars(done[start]))
                write_atomic(_path(working, start), content.getvalue())
    return [done[start] for start in starts]


def _made(images: NDArray[np.uint8], settings: Settings, device: str, advance: Callable[[int], None]) -> _Piece:
    shown, across, down = scaled(images)
    faces = detect(shown, settings, device=device, advance=advance)
    scale = np.array([across, down], np.float32)
    boxes, landmarks = faces.boxes / np.tile(scale, 2), faces.landmarks / scale
    # A box of which the picture has next to nothing is no face that could be cut out.
    found = faces.found & visible(boxes, *images.shape[1:3])
    score, count = faces.score.copy(), faces.count.copy()
    for array in (landmarks, boxes, score, count):
        array[~found] = 0
    return _Piece(cut(images, boxes, found), found, landmarks, boxes, score, count)


def _path(working: Path, start: int) -> Path:
    return working / f"rows-{start:07d}.npz"


def _read(working: Path, start: int, images: NDArray[np.uint8]) -> _Piece | None:
    """A piece that was done before; one that cannot be read, or is of another length, is made again."""
    path = _path(working, start)
    if not path.is_file():
        return None
    try:
        piece = _Piece(**load_arrays(path))
    except (StoreError, TypeError):
        return None
    many = min(PIECE, len(images) - start)
    return piece if all(len(array) == many for array in vars(piece).values()) else None


def _share(file: Path, to: Path) -> None:
    """The same file under another name where the disk can do that: what is stored never changes."""
    try:
        os.link(file, to)
    except OSError:
        shutil.copyfile(file, to)


def report_of(aligned: Artifact) -> list[dict]:
    """Rows and faces found of each usage, for a table: ``usage, rows, found, share, several``."""
    metrics = aligned.metrics
    rows = {usage: sum(counts) for usage, counts in metrics["usage"].items()}
    return [
        {
            "usage": usage,
            "rows": rows[usage],
            "found": found,
            "share": found / rows[usage],
            "several": metrics["several"][usage],
        }
        for usage, found in metrics["found"].items()
    ]
