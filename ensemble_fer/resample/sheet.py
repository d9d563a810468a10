"""A picture of synthetic faces, each between its parents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ensemble_fer.data.contact_sheet import contact_sheet
from ensemble_fer.types import CLASSES, FaceSet, Kind, Resampling

if TYPE_CHECKING:
    from PIL import Image

EXAMPLES_A_CLASS = 3


def lineage_sheet(faces: FaceSet, resampling: Resampling) -> Image.Image | None:
    """One line a class of ``first parent, synthetic, second parent`` three times; None without synthetic rows.

    The examples lie evenly among the rows, so that the same resampling gives the same sheet.
    """
    pictures, captions, names = [], [], []
    for code, name in enumerate(CLASSES):
        made = np.flatnonzero((resampling.kind == Kind.SYNTHETIC) & (resampling.labels == code))
        if not len(made):
            continue
        shown = made[np.linspace(0, len(made) - 1, min(len(made), EXAMPLES_A_CLASS)).astype(int)]
        line: list = []
        text: list[str] = []
        for row, middle in zip(shown, resampling.pixels(faces.images, shown), strict=True):
            a, b = resampling.parent_a[row], resampling.parent_b[row]
            line += [faces.images[a], middle, faces.images[b]]
            text += [f"face {a}", f"row {row}\nw {resampling.weight[row]:.2f}", f"face {b}"]
        pictures.append(line)
        captions.append(text)
        names.append(name)
    if not pictures:
        return None
    title = f"{resampling.method}: each synthetic row between its first and its second parent"
    return contact_sheet(pictures, captions, scale=2, title=title, row_labels=names)
