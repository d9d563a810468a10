"""Which faces of another set may be added to a set: those that show something, and no photograph of a test row.

Twins are looked for, and with a wider search copies that were cropped, cut out by a detector or turned.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.twins import FLAT, SIDE, among, find_twins
from ensemble_fer.data.warped import Warped, find_warped, joined
from ensemble_fer.types import USAGES, FaceSet, TwinMap

TESTS = ("PublicTest", "PrivateTest")


def fitted(images: NDArray[np.uint8], shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], int]:
    """Pictures of the size of a base's: the middle square, made smaller or larger, and gray.

    Parameters
    ----------
    images : uint8 [n, h, w] or [n, h, w, 3]
    shape : (h, w) or (h, w, 3)
        Of the base's pictures. Where these have colours, gray goes to all three.

    Returns
    -------
    uint8 [n, *shape], and how many had to be changed
    """
    from PIL import Image

    from ensemble_fer.data.readers import middle_square

    if images.shape[1:] == shape or not len(images):
        return images.reshape(-1, *shape), 0
    height, width = shape[:2]
    out = np.empty((len(images), height, width), np.uint8)
    for row, image in enumerate(images):
        gray = Image.fromarray(image).convert("L")
        if gray.size != (width, height):
            gray = gray.crop(middle_square(*gray.size)).resize((width, height), Image.Resampling.BILINEAR)
        out[row] = np.asarray(gray)
    return (np.stack([out] * 3, axis=3) if len(shape) == 3 else out), len(images)


def admitted(
    faces: FaceSet, images: NDArray[np.uint8], before: Warped, quiet: bool
) -> tuple[NDArray[np.int64], TwinMap, Warped, dict]:
    """Which of these pictures may join a set of faces, the twins of what comes out, and an account.

    Parameters
    ----------
    faces : FaceSet
    images : uint8 [m, ...]
        As large and coloured as the faces (see ``fitted``).
    before : Warped
        What the wider search found when faces were added to this set earlier.
    quiet : bool
        No progress bars.

    Returns
    -------
    int64 [k]
        Places of those that may, ascending.
    TwinMap
        Of the faces and these behind them.
    Warped
        What the wider search found among these.
    dict
        ``left_out``: ``flat`` (no face: less than one grey level of variation), ``twins_of_PublicTest``,
        ``twins_of_PrivateTest`` (a row may be both), ``warped`` (those that only the wider search found), ``rows`` in
        all. Of those that were added, ``twins_of_training`` show a photograph that is in the training rows of the
        base too, and ``copies`` equal an earlier row byte for byte.
    """
    n = len(faces)
    # One by one: all at once would hold every pixel as eight bytes.
    shown = np.flatnonzero([image.std() >= FLAT for image in images])
    joined_images = np.concatenate([faces.images, images[shown]])
    twins = find_twins(joined_images, quiet=quiet)
    added = np.arange(n, len(joined_images))
    tests = np.flatnonzero(np.isin(faces.usage, [USAGES.index(usage) for usage in TESTS]))
    plainly = twins.have_twin_in(added, tests)

    gray, _ = fitted(joined_images, (SIDE, SIDE))
    warped, asked = before, added[~plainly]
    # Where a split is ours, training rows test too. Test rows come by themselves: among all rows more look alike.
    for rows in (tests, np.setdiff1d(np.arange(n), tests)):
        found = find_warped(gray[rows], gray[asked], quiet=quiet)
        pairs = np.stack([rows[found.pairs[:, 0]], asked[found.pairs[:, 1]]], 1)
        warped = warped.followed_by(Warped(pairs, found.correlation, found.mirrored))
    twins = joined(twins, gray, warped)

    shows = {usage: twins.have_twin_in(added, faces.rows_of(usage)) for usage in TESTS}
    out = np.logical_or.reduce(list(shows.values()))
    kept = np.concatenate([np.arange(n), added[~out]])
    training = np.setdiff1d(np.arange(n), tests)
    seen: set[bytes] = {image.tobytes() for image in faces.images}
    copies = 0
    for image in joined_images[added[~out]]:
        content = image.tobytes()
        copies += content in seen
        seen.add(content)
    account = {
        "left_out": {
            "rows": len(images) - int((~out).sum()),
            "flat": len(images) - len(shown),
            **{f"twins_of_{usage}": int(found.sum()) for usage, found in shows.items()},
            "warped": int((out & ~plainly).sum()),
        },
        "twins_of_training": int(twins.have_twin_in(added[~out], training).sum()),
        "copies": copies,
    }
    return shown[~out], among(twins, kept), warped.among(kept, len(joined_images)), account


def reasons(account: dict) -> str:
    """Why pictures were left out, in words."""
    left_out = account["left_out"]
    shows = [f"{left_out[f'twins_of_{usage}']:,} show a photograph of {usage}" for usage in TESTS]
    return ", ".join([*shows, f"{left_out['flat']:,} show nothing"])
