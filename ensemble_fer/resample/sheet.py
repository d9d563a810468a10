"""A picture of rows that are no training faces as they are: each beside what it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.contact_sheet import contact_sheet
from ensemble_fer.types import CLASSES, FaceSet, Kind, Resampling

if TYPE_CHECKING:
    from PIL import Image

EXAMPLES_A_CLASS = 3
Cells = tuple[list[NDArray[np.uint8]], list[str]]


def lineage_sheet(faces: FaceSet, resampling: Resampling) -> Image.Image | None:
    """Lines for each class: synthetic rows between their parents, augmented ones behind theirs, injected ones alone.

    The examples lie evenly among the rows, so that the same resampling gives the same sheet. None if there is no such
    row.
    """
    pictures, captions, names = [], [], []
    for kind, what, cells_of in (
        (Kind.SYNTHETIC, "", _between),
        (Kind.AUGMENTED, "", _behind),
        (Kind.INJECTED, "injected\n", _alone),
    ):
        for code, name in enumerate(CLASSES):
            made = np.flatnonzero((resampling.kind == kind) & (resampling.labels == code))
            if not len(made):
                continue
            shown = made[np.linspace(0, len(made) - 1, min(len(made), EXAMPLES_A_CLASS)).astype(int)]
            cells = [
                cells_of(faces, resampling, row, picture)
                for row, picture in zip(shown, resampling.pixels(faces.images, shown), strict=True)
            ]
            pictures.append([picture for line, _ in cells for picture in line])
            captions.append([text for _, texts in cells for text in texts])
            names.append(what + name)
    if not pictures:
        return None
    kinds = {
        Kind.SYNTHETIC: "each synthetic row between its first and its second parent",
        Kind.AUGMENTED: "each augmented row behind its face",
        Kind.INJECTED: "faces of another set",
    }
    title = "; ".join(text for kind, text in kinds.items() if (resampling.kind == kind).any())
    return contact_sheet(pictures, captions, scale=2, title=f"{resampling.method}: {title}", row_labels=names)


def _between(faces: FaceSet, resampling: Resampling, row: int, picture: NDArray[np.uint8]) -> Cells:
    a, b = resampling.parent_a[row], resampling.parent_b[row]
    texts = [f"face {a}", f"row {row}\nw {resampling.weight[row]:.2f}", f"face {b}"]
    return [faces.images[a], picture, faces.images[b]], texts


def _behind(faces: FaceSet, resampling: Resampling, row: int, picture: NDArray[np.uint8]) -> Cells:
    assert resampling.transform is not None
    a = resampling.parent_a[row]
    angle, dx, dy, zoom, flip = resampling.transform[row]
    how = f"{angle:+.0f}° {100 * dx:+.0f} {100 * dy:+.0f}\nzoom {100 * zoom:+.0f}{' mirrored' if flip else ''}"
    return [faces.images[a], picture], [f"face {a}", f"row {row}\n{how}"]


def _alone(faces: FaceSet, resampling: Resampling, row: int, picture: NDArray[np.uint8]) -> Cells:
    return [picture], [f"face {resampling.parent_a[row]}"]
