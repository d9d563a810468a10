"""``resample``: checks a request, runs a method, and says which faces the rows come from."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ensemble_fer.errors import EnsembleFerError, SplitMisuse, UsageError, unknown_name
from ensemble_fer.resample.methods import METHODS, Method
from ensemble_fer.resample.rows import Find, Request, Rows, class_name
from ensemble_fer.resample.spaces import SearchOptions
from ensemble_fer.runtime import peak_mb
from ensemble_fer.types import CLASSES, INJECTED, USAGES, FaceSet, Kind, Part, Resampling, Role, Split

MOST_TIMES = 100
"""Most rows of a resampling for each training row: a larger target is a slip of the finger."""


class ResamplingWarning(UserWarning):
    """A method did something to a class that nobody would expect who only reads its name."""


@dataclass(frozen=True)
class Outcome:
    """A resampling with the account of how it came about.

    Parameters
    ----------
    resampling : Resampling
    account : dict
        ``method, counts_before [7], counts_after [7], rows, synthetic, duplicates, augmented, injected, removed,
        seconds, peak_mb, warnings [text]``. Injected are the faces of another set as they are; a copy or a mixture of
        one counts with the others.
    """

    resampling: Resampling
    account: dict


def resample(
    faces: FaceSet,
    part: Part,
    method: str,
    *,
    seed: int = 0,
    target: int | None = None,
    classes: Sequence[str] | None = None,
    neighbors: Find | None = None,
    options: SearchOptions = SearchOptions(),
    quiet: bool = True,
) -> Resampling:
    """Balance or clean the training rows of a set of faces.

    Parameters
    ----------
    faces : FaceSet
    part : Part
        Rows with role train.
    method : str
        A name of ``METHODS``.
    seed : int
        0 to 2^32 - 1. The same seed gives imbalanced-learn's choices.
    target : int, optional
        Rows each class is brought to; for ``hybrid`` and ``augment``, which need it.
    classes : list of str, optional
        Oversample only these classes; all by default.
    neighbors : callable, optional
        ``(points, k, queries=None) -> int64 [m, k]`` answers with the nearest points of each query, itself
        included, instead of the exact search on pixels: another space, or lists from elsewhere. Both are
        ``Mixtures``; without queries, every point is one. Methods that mix give as queries the rows from which
        mixtures start; borderline_smote and adasyn ask before that for whole classes among all rows.
    options : SearchOptions
        Of the search: another space than pixels, a cap of memory, a device.
    quiet : bool
        Draw no progress bar.

    Returns
    -------
    Resampling

    Raises
    ------
    SplitMisuse
        The part is not of role train.
    UsageError
        Unknown method or class, or a setting that the method does not have.
    EnsembleFerError
        Fewer than two classes, a class with too few rows for a neighbour search, or one in which adasyn finds
        nothing to do.

    Warns
    -----
    ResamplingWarning
        A class lost more than half of its rows, or gained none although borderline_smote was to fill it.

    Notes
    -----
    Rows, parents, weights and their order are those that imbalanced-learn decides on float64 pixels for the
    same seed and the same neighbour lists. See ``docs/resampling.md``.
    """
    asked = {"seed": seed, "target": target, "classes": list(classes) if classes is not None else None}
    outcome = run(faces, part, method, neighbors=neighbors, options=options, quiet=quiet, **asked)
    warn_of(outcome.account, stacklevel=3)
    return outcome.resampling


def run(
    faces: FaceSet,
    part: Part,
    method: str,
    *,
    seed: int = 0,
    target: int | None = None,
    classes: Sequence[str] | None = None,
    neighbors: Find | None = None,
    options: SearchOptions = SearchOptions(),
    quiet: bool = True,
) -> Outcome:
    """``resample`` with its account, without warnings being raised; they are in the account."""
    entry = check(method, seed=seed, target=target, classes=classes)
    if neighbors is not None and options.space is not None:
        raise UsageError("both neighbors and a space were given: who finds the neighbours? Give one of them.")
    part.require(Role.TRAIN, purpose=f"resampling with {method}")
    started = time.perf_counter()
    request = _request(faces, part, entry, seed, target, classes, neighbors, options, quiet)
    check_size(request.counts.tolist(), target, request.classes)
    rows = entry.run(request)
    foreign = faces.usage[part.rows[rows.a]] == USAGES.index(INJECTED)
    resampling = Resampling(
        method,
        np.where((rows.kind == Kind.ORIGINAL) & foreign, Kind.INJECTED, rows.kind).astype(np.uint8),
        part.rows[rows.a].astype(np.int32),
        part.rows[rows.b].astype(np.int32),
        rows.w,
        rows.labels,
        {
            "seed": seed,
            "target": target,
            "classes": list(classes) if classes is not None else None,
            **({"space": options.space.title} if options.space else {}),
        },
        rows.transform,
    )
    after = np.array(resampling.counts())
    full = request.counts + rows.made
    account = {
        "method": method,
        "counts_before": request.counts.tolist(),
        "counts_after": after.tolist(),
        "rows": len(resampling),
        "synthetic": int((resampling.kind == Kind.SYNTHETIC).sum()),
        "duplicates": int((resampling.kind == Kind.DUPLICATE).sum()),
        "augmented": int((resampling.kind == Kind.AUGMENTED).sum()),
        "injected": int((resampling.kind == Kind.INJECTED).sum()),
        "removed": int((full - after).sum()),
        "seconds": round(time.perf_counter() - started, 3),
        "peak_mb": peak_mb(),
        "warnings": _losses(entry, request, rows) + _left_alone(entry, request, rows),
    }
    return Outcome(resampling, account)


def check(method: str, *, seed: int, target: int | None, classes: Sequence[str] | None) -> Method:
    """The entry of the table, if these settings make sense for it.

    Raises
    ------
    UsageError
    """
    if method not in METHODS:
        raise unknown_name("resampling method", method, METHODS)
    entry = METHODS[method]
    if not 0 <= seed < 2**32:
        raise UsageError(f"seed is {seed}; expected 0 to {2**32 - 1}.")
    if entry.target and target is None:
        raise UsageError(f"method {method!r} needs a target: the rows that each class is brought to, e.g. 3000.")
    if not entry.target and target is not None:
        with_target = ", ".join(repr(name) for name, other in METHODS.items() if other.target)
        raise UsageError(f"method {method!r} has no target (found {target}). Leave it out, or use {with_target}.")
    if target is not None and target < 1:
        raise UsageError(f"target is {target}; expected at least 1 row a class.")
    if classes is not None:
        for name in classes:
            if name not in CLASSES:
                raise unknown_name("class", name, CLASSES)
        if not classes:
            raise UsageError("no class was named; expected at least one, or leave classes out for all.")
        if not entry.over:
            adding = ", ".join(name for name, other in METHODS.items() if other.over)
            raise UsageError(f"classes limits oversampling, but {method!r} adds no rows. Methods that do: {adding}.")
    return entry


def check_size(counts: Sequence[int], target: int | None, classes: Sequence[int] | None) -> None:
    """Refuse a target that makes a set which no training could use and no memory may hold.

    Parameters
    ----------
    counts : list of 7
        Training rows of each class.
    target : int or None
        Rows a class is brought to.
    classes : codes of the classes that may be oversampled, or None for all

    Raises
    ------
    UsageError
    """
    if target is None:
        return
    grown = range(len(counts)) if classes is None else classes
    rows = sum(target if code in grown else min(n, target) for code, n in enumerate(counts) if n)
    most = MOST_TIMES * sum(counts)
    if rows > most:
        raise UsageError(
            f"target {target:,} makes {rows:,} rows of {sum(counts):,} training rows; expected at most {MOST_TIMES} "
            f"times as many, {most:,}. Choose a smaller target."
        )


def check_lineage(resampling: Resampling, split: Split) -> None:
    """Prove that every parent of every row is a training row of the split.

    Raises
    ------
    SplitMisuse
        Naming how many rows have a parent elsewhere and the first of them.
    """
    parents = np.stack([resampling.parent_a, resampling.parent_b])
    foreign = ~np.isin(parents, split.train_rows)
    if foreign.any():
        bad = np.flatnonzero(foreign.any(axis=0))
        first = parents[:, bad[0]][foreign[:, bad[0]]][0]
        where = "test" if first in split.test_rows else "select" if first in split.select_rows else "no"
        raise SplitMisuse(
            f"{len(bad)} rows of this {resampling.method} resampling have a parent that is not a training row of "
            f"split {split.name!r}: row {bad[0]} shows face {first}, which is in the {where} part. "
            f"Resample the training part of {split.name!r} and use that."
        )


def warn_of(account: dict, *, stacklevel: int = 2) -> None:
    """Raise the warnings of an account as Python warnings."""
    for text in account["warnings"]:
        warnings.warn(text, ResamplingWarning, stacklevel=stacklevel)


def _request(
    faces: FaceSet,
    part: Part,
    entry: Method,
    seed: int,
    target: int | None,
    classes: Sequence[str] | None,
    neighbors: Find | None,
    options: SearchOptions,
    quiet: bool,
) -> Request:
    if not len(part):
        raise EnsembleFerError("the training part is empty; there is nothing to resample. Use another split.")
    labels = faces.labels[part.rows]
    codes = None if classes is None else tuple(sorted({CLASSES.index(name) for name in classes}))
    for code in codes or ():
        if not (labels == code).any():
            raise UsageError(f"class {class_name(code)!r} has no training row to oversample. Leave it out of classes.")
    present = np.unique(labels)
    if len(present) < 2 and entry.title != "none":
        raise EnsembleFerError(
            f"the training part holds only class {class_name(present[0])!r}; {entry.title} needs two classes or more. "
            "Use method none, or another split."
        )
    pixels = faces.images[:0]
    if entry.mixes or entry.cleans:
        # Rows in one piece, as FER2013 has its training part, are not copied.
        first, last = part.rows[0], part.rows[-1] + 1
        in_one = np.array_equal(part.rows, np.arange(first, last))
        pixels = faces.images.reshape(len(faces), -1)[slice(first, last) if in_one else part.rows]
    return Request(pixels, labels, seed, target, codes, neighbors or options.search(pixels, quiet=quiet))


def _losses(entry: Method, request: Request, rows: Rows) -> list[str]:
    """One line for each class that lost more than half of its rows, added ones included."""
    texts = []
    after = np.bincount(rows.labels, minlength=len(CLASSES))
    own = np.bincount(rows.labels[rows.kind == Kind.ORIGINAL], minlength=len(CLASSES))
    for code, full in enumerate(request.counts + rows.made):
        if after[code] * 2 >= full:
            continue
        added = f" ({own[code]:,} of its {request.counts[code]:,} originals)" if rows.made[code] else ""
        texts.append(
            f"{entry.title} keeps {after[code]:,} of {full:,} {class_name(code)} faces{added}: "
            "the class loses more than half of its rows"
            + (", because most of its faces have neighbours of other classes." if entry.cleans else ".")
        )
    return texts


def _left_alone(entry: Method, request: Request, rows: Rows) -> list[str]:
    """One line for each class that was to be filled with mixtures and gained none."""
    alone = [code for code, wanted in request.missing.items() if entry.mixes and wanted and not rows.made[code]]
    return [
        f"{entry.title} leaves the {request.counts[code]:,} {class_name(code)} faces as they are, "
        f"{request.missing[code]:,} short of the largest class: none of them has half or more of its neighbours in "
        "other classes, but not all. Use smote for this class."
        for code in alone
    ]
