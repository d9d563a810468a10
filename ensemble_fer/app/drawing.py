"""What was said of faces, drawn into their picture or written into a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.readers import picture_limits, read_whole
from ensemble_fer.files import write_atomic
from ensemble_fer.types import CLASSES

if TYPE_CHECKING:
    from PIL import Image

COLOURS = dict(zip(CLASSES, ("#d7263d", "#7a9e1e", "#6f4e9c", "#e8a317", "#2f6fb3", "#e36f1e", "#6b7280"), strict=True))
STRONGEST = 0.85
FOR, AGAINST = (np.array(colour, np.float32) for colour in ((0.85, 0.08, 0.1), (0.1, 0.3, 0.85)))


def annotated(picture: NDArray[np.uint8], faces: Sequence[dict], *, enlarge: bool = True) -> Image.Image:
    """The picture with a box and a label with its probability for each face, RGB.

    Parameters
    ----------
    picture : uint8 [h, w] or [h, w, 3]
    faces : sequence of dict
        As ``predict`` gives them for it.
    enlarge : bool
        A small picture by a whole factor, so that there is room for words.
    """
    from PIL import Image, ImageDraw, ImageFont

    shown = Image.fromarray(picture).convert("RGB")
    small = max(1, min(round(256 / max(1, min(shown.size))), 2048 // max(shown.size))) if enlarge else 1
    if small > 1:
        shown = shown.resize((shown.width * small, shown.height * small), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(shown)
    size = max(12, round(min(shown.size) / 28))
    font = ImageFont.load_default(size)
    for face in faces:
        left, top, right, bottom = (value * small for value in face["box"])
        colour = COLOURS[face["label"]]
        text = f"{face['label']} {100 * face['probabilities'][face['label']]:.0f} %"
        text = f"({text})" if face["abstained"] else text
        draw.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=max(2, size // 8))
        wide, high = draw.textlength(text, font) + size // 2, size * 1.35
        x = min(max(0, left), max(0, shown.width - wide))
        y = top - high if top >= high else min(bottom, shown.height - high)
        draw.rectangle((x, y, x + wide, y + high), fill=colour)
        draw.text((x + size // 4, y + size * 0.1), text, fill="white", font=font)
    return shown


def save_annotated(path: str | Path, faces: Sequence[dict], out: str | Path) -> Path:
    """Write the annotated picture of a file as PNG."""
    with picture_limits():
        _, picture = read_whole(Path(path))
    buffer = io.BytesIO()
    annotated(picture, faces).save(buffer, format="PNG")
    write_atomic(Path(out), buffer.getvalue())
    return Path(out)


def overlay(face: NDArray[np.uint8], shown: NDArray[np.float32]) -> NDArray[np.float32]:
    """The face in gray with a map over it: red speaks for the class, blue against it. float32 [h, w, 3], 0 to 1."""
    gray = face.astype(np.float32) / 255
    gray = gray if gray.ndim == 2 else gray.mean(-1)
    # Single pixels of a gradient cannot be seen; a blur of one pixel shows where they gather.
    seen = _blurred(shown)
    strength = np.abs(seen)
    strength = (strength / max(float(strength.max()), 1e-12)) * STRONGEST
    colour = np.where((seen >= 0)[..., None], FOR, AGAINST)
    return (gray[..., None] * (1 - strength[..., None]) + colour * strength[..., None]).clip(0, 1).astype(np.float32)


def _blurred(shown: NDArray[np.float32]) -> NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(shown.astype(np.float32), 1.0), np.float32)


HEAD = ("path", "face", "x0", "y0", "x1", "y1", "found", "label", "abstained", *CLASSES, "problem")


def table_of(said: Sequence[dict]) -> str:
    """What ``predict`` gives as csv: a line for each face, and one for each picture without any."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEAD)
    for item in said:
        if not item["faces"]:
            table.writerow([item["path"], *[""] * (len(HEAD) - 2), item.get("problem", "")])
        for number, face in enumerate(item["faces"]):
            shares = [f"{face['probabilities'][name]:.6f}" for name in CLASSES]
            told = (face["found"], face["label"], face["abstained"])
            table.writerow([item["path"], number, *face["box"], *told, *shares, ""])
    return text.getvalue()
