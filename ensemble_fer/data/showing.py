"""What a data set looks like: some faces of each class on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.contact_sheet import contact_sheet
from ensemble_fer.data.derived import Alignment
from ensemble_fer.errors import UsageError, unknown_name
from ensemble_fer.types import CLASSES, USAGES, FaceSet

if TYPE_CHECKING:
    from PIL import Image

BOX, LANDMARK, MISSING, DOT = "deepskyblue", "yellow", "red", 2


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
    chosen, labels = _drawn(faces, classes, usage, columns, seed)
    return contact_sheet(
        [list(faces.images[own]) for own in chosen],
        [[str(row) for row in own] for own in chosen],
        scale=scale,
        title=f"{faces.name}{f', {usage}' if usage else ''}: faces with their row ids",
        row_labels=labels,
    )


def show_aligned(
    source: FaceSet,
    aligned: FaceSet,
    alignment: Alignment,
    *,
    classes: Sequence[str] | None = None,
    usage: str | None = None,
    columns: int = 6,
    seed: int = 0,
    side: int = 144,
) -> Image.Image:
    """Like `show_faces`, each picture with the face's box and landmarks in it, and beside it what was cut out.

    Where no face was found the picture is crossed out and the caption says so.

    Parameters
    ----------
    source, aligned : FaceSet
        The same rows before and after.
    alignment : Alignment
    classes, usage, columns, seed
        As for `show_faces`.
    side : int
        Pixels of the sheet for the longer side of a picture.
    """
    chosen, labels = _drawn(aligned, classes, usage, columns, seed)
    found = f"a face was found in {int(alignment.found.sum()):,} of {len(aligned):,} pictures"
    return contact_sheet(
        [[_before_and_after(source, aligned, alignment, row, side) for row in own] for own in chosen],
        [[f"{row}" if alignment.found[row] else f"{row}  NO FACE FOUND" for row in own] for own in chosen],
        scale=1,
        title=f"{aligned.name}{f', {usage}' if usage else ''}: {found}",
        row_labels=labels,
    )


def _before_and_after(
    source: FaceSet, aligned: FaceSet, alignment: Alignment, row: int, side: int
) -> NDArray[np.uint8]:
    """One picture with what was found drawn into it, and the aligned face, uint8 [side, 2 side, 3]."""
    from PIL import Image, ImageDraw

    def enlarged(image: NDArray[np.uint8]) -> Image.Image:
        height, width = image.shape[:2]
        scale = side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        return Image.fromarray(image).convert("RGB").resize(size, Image.Resampling.NEAREST)

    before, after = enlarged(source.images[row]), enlarged(aligned.images[row])
    draw, scale = ImageDraw.Draw(before), side / max(source.images.shape[1:3])
    if alignment.found[row]:
        left, top, right, bottom = (alignment.boxes[row] * scale).tolist()
        draw.rectangle((left, top, right, bottom), outline=BOX)
        for x, y in (alignment.landmarks[row] * scale).tolist():
            draw.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), fill=LANDMARK)
    else:
        draw.line((0, 0, before.width, before.height), fill=MISSING, width=2)
        draw.line((0, before.height, before.width, 0), fill=MISSING, width=2)
    both = Image.new("RGB", (2 * side + 2, side), "white")
    both.paste(before, (0, 0))
    both.paste(after, (side + 2, 0))
    return np.asarray(both)


def _drawn(
    faces: FaceSet, classes: Sequence[str] | None, usage: str | None, columns: int, seed: int
) -> tuple[list[NDArray[np.int64]], list[str]]:
    """Random rows of each class, ascending, and the labels of the lines: name and number of the class."""
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
    return chosen, labels
