"""What a data set looks like: some faces of each class on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ensemble_fer.data.contact_sheet import contact_sheet
from ensemble_fer.errors import UsageError, unknown_name
from ensemble_fer.types import CLASSES, USAGES, FaceSet

if TYPE_CHECKING:
    from PIL import Image


def show_faces(
    faces: FaceSet,
    *,
    classes: Sequence[str] | None = None,
    usage: str | None = None,
    columns: int = 12,
    seed: int = 0,
    scale: int = 2,
) -> Image.Image:
    """A row of randomly drawn faces for each class, captioned with their row ids.

    Parameters
    ----------
    faces : FaceSet
    classes : sequence of str, optional
        Names of ``CLASSES``; all by default.
    usage : str, optional
        Only faces of this official usage, one of ``USAGES``.
    columns : int
        Faces of a class, 1 or more; fewer where the class has fewer.
    seed : int
        The same seed draws the same faces.
    scale : int
        Pixels of the sheet for one pixel of a face.

    Returns
    -------
    PIL.Image.Image

    Raises
    ------
    UsageError
        An unknown class or usage, or no face is left.
    """
    if usage is not None and usage not in USAGES:
        raise unknown_name("usage", usage, USAGES)
    rows = np.arange(len(faces)) if usage is None else faces.rows_of(usage)
    rng = np.random.default_rng(seed)
    chosen, labels = [], []
    for name in CLASSES if classes is None else classes:
        if name not in CLASSES:
            raise unknown_name("class", name, CLASSES)
        own = rows[faces.labels[rows] == CLASSES.index(name)]
        if len(own):
            chosen.append(np.sort(rng.choice(own, min(columns, len(own)), replace=False)))
            labels.append(f"{name}\n{len(own):,}")
    if not chosen:
        raise UsageError(f"no face of {', '.join(classes or CLASSES)} in {usage or faces.name}; nothing to show.")
    return contact_sheet(
        [list(faces.images[own]) for own in chosen],
        [[str(row) for row in own] for own in chosen],
        scale=scale,
        title=f"{faces.name}{f', {usage}' if usage else ''}: faces with their row ids",
        row_labels=labels,
    )
