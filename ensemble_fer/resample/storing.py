"""Resamplings in the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ensemble_fer.errors import SplitMisuse, UsageError
from ensemble_fer.files import save_arrays
from ensemble_fer.neighbors import prepare
from ensemble_fer.resample.methods import METHODS
from ensemble_fer.resample.planning import Plan, plan
from ensemble_fer.resample.resampling import check, check_lineage, check_size, run, warn_of
from ensemble_fer.resample.spaces import SearchOptions, Space
from ensemble_fer.store import Artifact, Store, check_name
from ensemble_fer.types import CLASSES, Resampling

# Raised when a method decides otherwise than before: old results are not taken for new ones.
VERSION = 1


def make_resampling(
    store: Store,
    data: Artifact,
    *,
    method: str,
    split: str = "official",
    seed: int = 0,
    target: int | None = None,
    classes: Sequence[str] | None = None,
    dry_run: bool = False,
    name: str | None = None,
    options: SearchOptions = SearchOptions(),
    quiet: bool = False,
) -> Artifact | Plan:
    """Resample the training part of a split and keep the result; answered from disk the second time.

    Neighbours of an aligned set are looked for among the pixels of the set it was made from, which has the same rows:
    what is alike is a matter of the photographs, and 96 x 96 x 3 enlarged pixels say no more than 48 x 48. What is
    mixed are the aligned faces.

    Parameters
    ----------
    store : Store
    data : Artifact
        An imported set.
    method, seed, target, classes
        As for ``resample``.
    split : str
        Name of the split; its seed is 0.
    dry_run : bool
        Only say what would come out and what it would cost. The split is made and kept, and so are the twins if it
        needs them; they are not in the cost.
    name : str, optional
        Reference to set; by default ``automatic_name``.
    options : SearchOptions
        As for ``resample``. The space is part of what is asked for; memory and device change nothing.
    quiet : bool
        Draw no progress bar.

    Returns
    -------
    Artifact
        Kind ``resampling``: ``rows.npz``, and ``sheet.png`` where there are synthetic, augmented or injected rows.
        Its metrics are the account of ``Outcome``. With ``dry_run`` a ``Plan``.

    Raises
    ------
    UsageError, EnsembleFerError
        As ``resample``.

    Warns
    -----
    ResamplingWarning
        As ``resample``, also when the answer comes from disk.
    """
    from ensemble_fer.data.derived import source_of
    from ensemble_fer.data.importing import load_faces
    from ensemble_fer.data.splits import split_of
    from ensemble_fer.resample.sheet import lineage_sheet

    check(method, seed=seed, target=target, classes=classes)
    searches = METHODS[method].mixes or METHODS[method].cleans
    if options.space is not None and not searches:
        raise UsageError(f"method {method!r} looks for no neighbours, so that it has no space. Leave space out.")
    if name in METHODS:
        raise UsageError(f"{name!r} is a method, so it cannot name one resampling. Choose another name.")
    if name is not None:
        check_name(name)
    faces = load_faces(data)
    split_artifact, parts = split_of(store, data, split, faces=faces, quiet=quiet)
    space = options.space
    source = source_of(store, data)
    if source.id != data.id and space is not None and space.split is not None:
        raise UsageError(
            f"{store.name_of(data)} is aligned: neighbours are looked for among the pictures that it was made from, "
            f"those of {store.name_of(source)}, which the member of {space.title} was not trained on. "
            "Use the space pixels or pca:50."
        )
    compared = faces if source.id == data.id else load_faces(source)
    if space is not None and space.split not in (None, split_artifact.id):
        raise SplitMisuse(
            f"space {space.title} was learned on the training part of another split than {split!r}: rows that are test "
            "or select here may have trained it. Give a run of this split."
        )
    named = None if classes is None else sorted(set(classes), key=CLASSES.index)
    if dry_run:
        codes = None if named is None else tuple(CLASSES.index(c) for c in named)
        counts = faces.counts(parts.train.rows)
        check_size(counts, target, codes)
        return plan(counts, method, pixels=compared.images[0].size, target=target, classes=codes, memory=options.memory)

    def write(folder: Path) -> dict:
        if searches:
            prepare(quiet=quiet)
            if space is not None:
                prepare(np.float64, quiet=quiet)
        outcome = run(
            compared, parts.train, method, seed=seed, target=target, classes=named, options=options, quiet=quiet
        )
        made = outcome.resampling
        check_lineage(made, parts)
        arrays = ("kind", "parent_a", "parent_b", "weight", "labels")
        more = {} if made.transform is None else {"transform": made.transform}
        save_arrays(folder / "rows.npz", **{key: getattr(made, key) for key in arrays}, **more)
        sheet = lineage_sheet(faces, made)
        if sheet is not None:
            sheet.save(folder / "sheet.png")
        return outcome.account

    params = {"seed": seed, "target": target, "classes": named}
    if space is not None:
        params["space"] = space.title
    spec = {"method": method, "params": params, "version": VERSION}
    automatic = automatic_name(
        store.name_of(data), method, split=split, seed=seed, target=target, classes=named, space=space
    )
    made = store.put(
        "resampling",
        spec,
        [data.id, split_artifact.id, *(space.inputs if space else ())],
        write,
        name=name or automatic,
    )
    warn_of(made.metrics, stacklevel=3)
    return made


def automatic_name(
    data: str,
    method: str,
    *,
    split: str,
    seed: int,
    target: int | None,
    classes: Sequence[str] | None,
    space: Space | None = None,
) -> str:
    """``<data>-<method>[-<target>][-<classes>][-<space>]-s<seed>[-<split> unless official]``, as a name may be."""
    parts = [data, method]
    if target is not None:
        parts.append(str(target))
    if classes is not None:
        parts.append("+".join(classes))
    if space is not None:
        parts.append(space.title.replace(":", ""))
    parts.append(f"s{seed}")
    if split != "official":
        parts.append(split.replace(":", "-").replace(",", "-"))
    return "-".join(parts)[:100]


def load_resampling(artifact: Artifact) -> Resampling:
    """The resampling of a stored artifact; its files are checked against the manifest."""
    spec = artifact.spec
    return Resampling(spec["method"], **artifact.arrays("rows.npz"), params=spec["params"])
