"""Files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import io
import math
import os
import uuid
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from ensemble_fer.errors import StoreError


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that it is either the old one or the whole new one, synced to disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are for their owner alone, ours have the permissions that others have here.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write a compressed npz without objects."""
    for key, value in arrays.items():
        if value.dtype.hasobject:
            raise StoreError(f"array {key!r} holds objects; only numbers and text are stored.")
    np.savez_compressed(path, allow_pickle=False, **arrays)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file, read-only; each is what lies in the file, not a copy of it in pieces.

    ``numpy.load`` reads members of an archive a quarter of a megabyte at a time, which takes twice as long.

    Raises
    ------
    StoreError
        A member is no array, or holds objects.
    """
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            content = archive.read(member)
            start = io.BytesIO(content)
            try:
                read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(start)]
                shape, by_columns, dtype = read(start)
                if dtype.hasobject:
                    raise ValueError("it holds objects")
                found = np.frombuffer(content, dtype, math.prod(shape), start.tell())
                found = found.reshape(shape, order="F" if by_columns else "C")
            except (KeyError, ValueError) as error:
                raise StoreError(f"{path}: {member.filename} is no array of numbers or text: {error}.") from None
            arrays[member.filename.removesuffix(".npy")] = found
    return arrays
