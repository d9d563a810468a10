"""System D's balancing before training: transformed copies of the faces of small classes.

Pazos and Wang (system D) bring every training class to at least 4,500 faces with Keras's ``ImageDataGenerator``:
rotation by 15 degrees, shifts by 10 %, zoom by 10 %, mirroring. They save pictures; here the numbers are kept from
which the pictures are made. ``docs/methods/augment.md`` says what of it is ours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.resample.rows import Request, Rows

DEGREES, SHIFT, ZOOM = 15.0, 0.1, 0.1


def augment(request: Request) -> Rows:
    """Transformed copies behind the originals, until each class has at least the target.

    The faces of a class take turns, in an order drawn anew for each turn, so that none is used twice before all
    others were used once. A class draws from a generator of its own, whatever happens to the others.
    """
    target = request.target
    assert target is not None
    named = np.flatnonzero(request.counts) if request.classes is None else sorted(request.classes)
    rows = Rows.originals(request.labels)
    for code in named:
        wanted = target - int(request.counts[code])
        if wanted > 0:
            draw = np.random.default_rng([request.seed, int(code)])
            of_class = np.flatnonzero(request.labels == code)
            turns = [draw.permutation(of_class) for _ in range(-(-wanted // len(of_class)))]
            rows = rows.transformed(np.concatenate(turns)[:wanted], draw_transforms(wanted, draw))
    return rows


def draw_transforms(n: int, draw: np.random.Generator) -> NDArray[np.float32]:
    """Angle, dx, dy, zoom and flip of n copies, float32 [n, 5]; see ``types.warping.TRANSFORM``."""
    uniform = draw.uniform(-1, 1, (n, 4)) * [DEGREES, SHIFT, SHIFT, ZOOM]
    return np.column_stack([uniform, draw.integers(0, 2, n)]).astype(np.float32)
