"""Faults planted among synthetic faces: twins, label conflicts, constant images."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.face_drawing import SIDE
from ensemble_fer.errors import unknown_name
from ensemble_fer.types import OFFICIAL

# Shares of rows. FER2013 has 13.9 % of its test rows twinned with Training; fewer here, as fewer are needed.
TWINS_IN_TEST, TWINS_IN_TRAINING, TWINS_IN_SELECT = 0.08, 0.015, 0.01
CONFLICTS, CONSTANTS = 0.005, 0.001
TWIN_KINDS = ("identical", "jpeg", "brightness", "watermark", "crop", "mirrored")


def plant(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], usage: NDArray[np.uint8], rng: np.random.Generator
) -> dict:
    """Overwrite some rows of ``images`` with twins of others and with constants; say which.

    Each photograph is used for one pair at most, so that every twin group has exactly two rows.
    """
    training, select, test = (np.flatnonzero(usage == code) for code in range(len(OFFICIAL)))
    constant = rng.choice(training, max(2, round(CONSTANTS * len(images))), replace=False)
    levels = [0, 255, *(1 + rng.choice(254, len(constant) - 2, replace=False))]  # each its own: they are no twins
    images[constant] = np.array(levels, np.uint8)[:, None, None]
    used = np.zeros(len(images), bool)
    used[constant] = True
    stamps = watermarks()
    twins: list[dict] = []

    def pair(row: int, among: NDArray[np.int64], conflict: bool) -> None:
        """Let ``row`` show an unused photograph of another row, with the same label or with another."""
        used[row] = True
        sources = among[~used[among] & ((labels[among] != labels[row]) == conflict)]
        if len(sources):
            of = int(rng.choice(sources))
            kind = TWIN_KINDS[len(twins) % len(TWIN_KINDS)]
            images[row] = twin_of(images[of], kind, rng, stamps)
            used[of] = True
            twins.append({"row": int(row), "of": of, "kind": kind})

    plan = (
        (select, training, TWINS_IN_TEST, True),
        (test, training, TWINS_IN_TEST, True),
        (test, select, TWINS_IN_SELECT, False),
        (training, training, TWINS_IN_TRAINING, True),
    )
    for rows, among, share, with_conflicts in plan:
        chosen = rng.choice(rows[~used[rows]], max(len(TWIN_KINDS), round(share * len(rows))), replace=False)
        conflicts = max(1, round(CONFLICTS * len(rows))) if with_conflicts else 0
        for number, row in enumerate(chosen):
            if not used[row]:  # it may have become the source of an earlier one
                pair(row, among, conflict=number < conflicts)
    differ = [[t["row"], t["of"]] for t in twins if labels[t["row"]] != labels[t["of"]]]
    return {"twins": twins, "conflicts": differ, "constant": sorted(int(row) for row in constant)}


def twin_of(
    image: NDArray[np.uint8], kind: str, rng: np.random.Generator, stamps: NDArray[np.float32] | None = None
) -> NDArray[np.uint8]:
    """The same photograph as it comes back from elsewhere, uint8 [48, 48].

    Parameters
    ----------
    image : uint8 [48, 48]
    kind : str
        ``identical`` (within 1 grey level rms), ``jpeg``, ``brightness``, ``watermark``, ``crop`` (a pixel or two
        of shift, a few per cent larger) or ``mirrored``; all but the first with JPEG noise on top.
    """
    from PIL import Image

    if kind not in TWIN_KINDS:
        raise unknown_name("kind of twin", kind, TWIN_KINDS)
    if kind == "identical":
        noise = rng.integers(-1, 2, image.shape)
        return np.clip(image + noise, 0, 255).astype(np.uint8)
    if kind == "brightness":
        image = np.clip(image * rng.uniform(0.8, 1.15) + rng.uniform(-20, 20), 0, 255).astype(np.uint8)
    elif kind == "watermark":
        image = stamped(image, watermarks() if stamps is None else stamps, rng)
    elif kind == "crop":
        left, top = rng.uniform(0, 1.5, 2)
        side = SIDE - rng.uniform(0.5, 1.5)
        box = (left, top, min(left + side, SIDE), min(top + side, SIDE))
        image = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box))
    elif kind == "mirrored":
        image = image[:, ::-1]
    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "JPEG", quality=int(rng.integers(75, 92)))
    return np.asarray(Image.open(file))


def watermarks() -> NDArray[np.float32]:
    """Watermarks as coverage 0 to 1, float32 [k, 48, 48]: short words and strokes."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default()
    sheets = []
    for word, at in (
        ("photo", (6, 18)),
        ("stock", (10, 30)),
        ("(c) 2012", (2, 36)),
        ("PIX", (28, 2)),
        ("free", (4, 8)),
    ):
        picture = Image.new("L", (SIDE, SIDE))
        ImageDraw.Draw(picture).text(at, word, fill=255, font=font)
        sheets.append(picture)
    for line in ((0, 40, 47, 8), (0, 10, 47, 40)):
        picture = Image.new("L", (SIDE, SIDE))
        ImageDraw.Draw(picture).line(line, fill=255, width=2)
        sheets.append(picture)
    return np.stack([np.asarray(sheet, np.float32) for sheet in sheets]) / np.float32(255)


def stamped(image: NDArray[np.uint8], stamps: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The image under one faint watermark, light or dark."""
    cover = stamps[rng.integers(len(stamps))] * rng.uniform(0.2, 0.4)
    return np.rint(image + cover * (rng.choice([0.0, 255.0]) - image)).astype(np.uint8)
