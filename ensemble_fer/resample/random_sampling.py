"""Methods that copy and drop rows without looking at pixels: none, ros, rus, hybrid.

Rows are drawn with the generator and in the order of imbalanced-learn's ``RandomOverSampler`` and
``RandomUnderSampler``, so that one seed gives the same rows in both.
"""

from __future__ import annotations

import numpy as np

from ensemble_fer.resample.rows import Request, Rows


def keep_all(request: Request) -> Rows:
    """Every row once, as it is."""
    return Rows.originals(request.labels)


def random_oversample(request: Request) -> Rows:
    """Copies of random rows of each class, until it is as large as the largest."""
    return _over(Rows.originals(request.labels), request.missing, request.seed)


def random_undersample(request: Request) -> Rows:
    """Random rows of each class without repetition, as many as the rarest class has."""
    fewest = int(request.counts[request.rarest])
    wanted = {int(c): fewest for c in np.flatnonzero(request.counts) if c != request.rarest}
    return _under(Rows.originals(request.labels), wanted, request.seed)


def hybrid(request: Request) -> Rows:
    """Classes above the target lose random rows, then classes below it gain copies, to exactly the target.

    imbalanced-learn's under-sampler and then its over-sampler, each with a dictionary of counts and the
    same seed.
    """
    target = request.target
    assert target is not None
    above = {int(c): target for c in np.flatnonzero(request.counts > target)}
    named = range(len(request.counts)) if request.classes is None else sorted(request.classes)
    below = {c: target - int(request.counts[c]) for c in named if 0 < request.counts[c] < target}
    return _over(_under(Rows.originals(request.labels), above, request.seed), below, request.seed)


def _over(rows: Rows, missing: dict[int, int], seed: int) -> Rows:
    draw = np.random.RandomState(seed)  # the reference's generator
    chosen = [draw.choice(np.flatnonzero(rows.labels == c), size=n, replace=True) for c, n in missing.items()]
    return rows.duplicated(np.concatenate([np.empty(0, np.int64), *chosen]))


def _under(rows: Rows, wanted: dict[int, int], seed: int) -> Rows:
    """Class by class; a class that loses nothing keeps the order of its rows, the others are shuffled."""
    draw = np.random.RandomState(seed)
    kept = []
    for code in np.unique(rows.labels):
        of_class = np.flatnonzero(rows.labels == code)
        if code in wanted:
            of_class = of_class[draw.choice(len(of_class), size=wanted[code], replace=False)]
        kept.append(of_class)
    return rows.take(np.concatenate(kept))
