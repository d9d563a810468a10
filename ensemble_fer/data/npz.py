"""npz archives: ``images`` uint8 [n, 48, 48], ``labels`` [n], ``usage`` [n]."""

from __future__ import annotations

import difflib
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.data.labels import class_advice, class_code, eighth_class, usage_advice, usage_code
from ensemble_fer.data.readers import PIXELS, SIDE, Rows, as_face, count_left_out
from ensemble_fer.errors import BadData, UsageError, some_of

KEYS = ("images", "labels", "usage")
# 4 GB unpacked are 1.8 million faces; a small archive can declare far more.
LARGEST = 4_000_000_000
# Faces do not pack better than this many times; memory grows with the file, and not with what it declares.
MOST_PACKED, SMALL = 50, 64_000_000
HINT = "Write it with numpy.savez(path, images=…, labels=…, usage=…)."


def read_npz(path: Path) -> Rows:
    """Read and check an archive.

    Parameters
    ----------
    path : Path
        ``images`` as uint8 [n, 48, 48], [n, 48, 48, 1] or [n, 2304]; other sizes and [n, h, w, 3] are converted;
        other number types if they hold whole numbers 0 to 255. ``labels`` as codes or class names,
        ``usage`` as text (``Training``, …) or codes 0 to 2. Pickled objects are never loaded.

    Returns
    -------
    Rows
        Bad rows are named in ``problems`` by their position, counted from 0.

    Raises
    ------
    BadData
        It is no such archive; the reason says what is expected.
    UsageError
        An array is missing.
    """
    arrays = _load(path)
    images = _shaped(str(path), arrays["images"])
    lengths = {key: len(arrays[key]) for key in KEYS}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{count:,} {key}" for key, count in lengths.items())
        raise BadData(str(path), [f"{found}; expected as many of each"])
    faces: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    usages: list[int] = []
    problems: list[str] = []
    left_out: list[int | None] = []
    dropped: Counter[str] = Counter()
    converted = 0
    given = zip(images, arrays["labels"].tolist(), arrays["usage"].tolist(), strict=True)
    for row, (image, label_text, usage_text) in enumerate(given):
        label, usage = class_code(_word(label_text)), _usage(usage_text)
        other = eighth_class(_word(label_text))
        if label is None and other:
            dropped[other] += 1
            continue
        reasons = [f"label {class_advice(str(label_text))}"] if label is None else []
        reasons += [usage_advice(str(usage_text))] if usage is None else []
        reasons += _not_levels(image)
        if reasons or label is None or usage is None:
            problems.append(f"row {row}: {'; '.join(reasons)}")
            left_out.append(usage)
            continue
        face, changed = _face(image)
        faces.append(face)
        labels.append(label)
        usages.append(usage)
        converted += changed
    out = count_left_out(left_out)
    more = {"left_out": out, "converted": converted, "dropped": dict(dropped)}
    return Rows.of("npz", faces, labels, usages, problems=problems, **more)


def _load(path: Path) -> dict[str, NDArray]:
    source = str(path)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        most = min(LARGEST, max(SMALL, MOST_PACKED * path.stat().st_size))
        if size > most:
            raise BadData(source, [f"{size:,} bytes unpacked; expected at most {most:,} in a file of this size"])
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in KEYS if key not in archive.files]
            if missing:
                raise _incomplete(source, missing, archive.files)
            arrays = {key: archive[key] for key in KEYS}
    except (BadData, UsageError):
        raise
    # zipfile, its decompressors and numpy raise whatever comes: zlib.error, RuntimeError for an encrypted member,
    # NotImplementedError for an unknown compression, MemoryError for a shape that cannot be, …
    except Exception as error:
        if "allow_pickle" in str(error):
            reason = "holds Python objects, which are never loaded; expected arrays of numbers or text"
        else:
            reason = f"not an npz archive, or a damaged one ({error})"
        raise BadData(source, [reason], HINT) from None
    # numpy gives a member that is no npy file as bytes.
    foreign = [key for key in KEYS if not isinstance(arrays[key], np.ndarray)]
    if foreign:
        raise BadData(source, [f"{', '.join(foreign)}: not stored as a numpy array"], HINT)
    for key in ("labels", "usage"):
        if arrays[key].ndim != 1:
            raise BadData(source, [f"{key} has the shape {list(arrays[key].shape)}; expected [n]"])
    return arrays


def _incomplete(source: str, missing: list[str], here: list[str]) -> UsageError:
    # Of a hundred short names: one that was mistyped is among few, and comparing many long ones takes minutes.
    others = [key for key in here[:100] if key not in KEYS and len(key) < 40]
    near = {key: difflib.get_close_matches(key, others, n=1) for key in missing}
    guesses = "".join(f" Did you mean {found[0]!r} to be {key!r}?" for key, found in near.items() if found)
    advice = " Usage says which rows train, select and test: Training, PublicTest, PrivateTest."
    return UsageError(
        f"{source} has no array {' and no '.join(map(repr, missing))}; it holds {some_of(here)}. "
        f"Expected {', '.join(KEYS)}.{guesses}{advice if 'usage' in missing else ''}"
    )


def _shaped(source: str, images: NDArray) -> NDArray:
    """As [n, h, w] or [n, h, w, 3]."""
    if images.dtype.kind not in "uif":
        raise BadData(source, [f"images of type {images.dtype}; expected uint8"])
    if images.dtype.kind == "f" and images.size and not np.array_equal(images, np.rint(images)):
        low, high = float(np.min(images)), float(np.max(images))
        hint = "Write np.rint(images * 255).astype(np.uint8)." if low >= 0 and high <= 1 else ""
        problem = (
            f"images are {images.dtype} between {low:.4g} and {high:.4g} with fractions; expected grey levels 0 to 255"
        )
        raise BadData(source, [problem], hint)
    if images.ndim == 2 and images.shape[1] == PIXELS:
        return images.reshape(-1, SIDE, SIDE)
    if images.ndim == 4 and images.shape[3] == 1:
        return images[..., 0]
    if (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)) and 0 not in images.shape[1:]:
        return images
    expected = "expected [n, 48, 48], [n, 2304], [n, h, w] or [n, h, w, 3]"
    raise BadData(source, [f"images have the shape {list(images.shape)}; {expected}"])


def _not_levels(image: NDArray) -> list[str]:
    """Why an image does not hold bytes; nothing if it does."""
    if image.dtype == np.uint8:
        return []
    low, high = image.min(), image.max()
    return [] if low >= 0 and high <= 255 else [f"levels between {low:g} and {high:g}; expected 0 to 255"]


def _face(image: NDArray) -> tuple[NDArray[np.uint8], bool]:
    levels = image.astype(np.uint8)
    if levels.shape == (SIDE, SIDE):
        return levels, False
    from PIL import Image

    return as_face(Image.fromarray(levels))


def _word(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _usage(value: object) -> int | None:
    word = _word(value)
    return int(word) if word in ("0", "1", "2") else usage_code(word)
