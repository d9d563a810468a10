"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import io
import math
import os
import re
import stat
import uuid
import zipfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from ensemble_fer.errors import StoreError, UsageError, some_of

MOST_JSON = 24_000_000
"""Bytes of a manifest or a table in a store: a line for each of 200,000 rows that were left out. Once it is read, JSON
takes up to thirty times as much."""
_PIECE = 8 << 20  # bytes
_BEING_WRITTEN = re.compile(r"\.(.+\.[0-9a-f]{8}|[0-9a-f]{8}(\.\w+)?)\Z")
_MOST_PACKED = 1032  # times as large as packed: the most that deflate reaches
_NOT_WAITING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say which file it was where a write to one that was open already fails: for want of room, perhaps."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


class UnfitFile(OSError):
    """A path that is no regular file, or a file larger than any that is meant; ``strerror`` is the reason."""


@contextmanager
def opened_file(path: str | Path, most: int | None = None) -> Iterator[io.BufferedReader]:
    """A regular file of at most so many bytes, open to be read; its size is looked at before anything is read.

    All files of others, and all of a store, are opened here: a pipe would be waited for, a device has no end, and a
    file that is not there but for its length takes as much memory as it says.

    Parameters
    ----------
    most : int, optional
        Bytes; with none, the caller reads piece by piece.

    Raises
    ------
    UnfitFile
        It is a pipe, a device or the like, or has more bytes.
    OSError
        It is a folder, is not there, or may not be read.
    """
    handle = os.open(path, _NOT_WAITING)
    try:
        found = os.fstat(handle)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(found.st_mode):
            raise UnfitFile(errno.EINVAL, "it is a pipe, a device or the like; expected a file on disk", str(path))
        if most is not None and found.st_size > most:
            raise UnfitFile(errno.EFBIG, f"it has {found.st_size:,} bytes; expected at most {most:,}", str(path))
        file = os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise
    with file:
        yield file


def read_file(path: str | Path, most: int) -> bytes:
    """Content of a regular file of at most so many bytes; raises as ``opened_file``."""
    with opened_file(path, most) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that it is either the old one or the whole new one, synced to disk.

    A link stays one: what it points to is written. Who may read and write it stays, too.
    """
    path = _followed(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are for their owner alone, ours have the permissions that others have here.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with naming(path), temporary.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        _take_place(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def partial_file(path: str | Path | None) -> Iterator[Path | None]:
    """A name beside ``path`` to write a file under that others write piece by piece; it gets its own at the end.

    On an error nothing is left of it, and what was at ``path`` before stays. None for None. A link stays one: what it
    points to is written. Who may read and write it stays, too.
    """
    if path is None:
        yield None
        return
    path = _followed(Path(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        with naming(path):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        _take_place(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def is_left_over(path: Path) -> bool:
    """Whether a file has a name that only files have which are being written, or whose writer was killed."""
    return bool(_BEING_WRITTEN.match(path.name))


def _take_place(temporary: Path, path: Path) -> None:
    """Rename a file over another, whose permissions it gets."""
    if path.exists():
        temporary.chmod(stat.S_IMODE(path.stat().st_mode))
    temporary.replace(path)


def _followed(path: Path) -> Path:
    """What a path means, links followed; raises OSError where they lead in a circle."""
    found = Path(os.path.realpath(path))
    if found.is_symlink():
        raise OSError(errno.ELOOP, "links lead in a circle", str(path))
    return found


def check_outputs(
    outputs: Iterable[tuple[str, str | Path | None]],
    inputs: Iterable[str | Path] = (),
    kept: Iterable[str | Path] = (),
) -> None:
    """Raise, before the work, unless each file can be written where it was asked for; None was not asked for.

    Parameters
    ----------
    outputs : iterable of (str, path)
        What the place was called by who asked, and the place.
    inputs : iterable of paths
        What is read, and must not be written over.
    kept : iterable of paths
        Files and folders of a store, in which nothing else is written.

    Raises
    ------
    UsageError
        A folder or a device is there, nothing can be written there, it is the place of an input or another output, or
        lies in what is kept.
    """
    owned = [Path(os.path.realpath(path)) for path in kept]
    taken = {os.path.realpath(path): f"what is read, {path}" for path in inputs}
    for called, place in outputs:
        if place is None:
            continue
        path = Path(os.path.realpath(place))
        if not str(place).strip() or path.is_dir():
            raise UsageError(f"{called} {place}: a folder is there; expected the name of a file.")
        # A pipe has no path of its own, and what a circle of links means is there for nobody.
        if path.is_symlink() or (Path(place).exists() and not path.is_file()):
            raise UsageError(f"{called} {place} is no file that can be replaced. Choose another place.")
        for own in owned:
            if path.is_relative_to(own):
                raise UsageError(
                    f"{called} {place} lies in {own}, where the store keeps its own. Choose another place."
                )
        folder = path.parent
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise UsageError(f"{called} {place} cannot be written: {folder} is no folder to write to.")
        if str(path) in taken:
            raise UsageError(f"{called} {place} would be written over {taken[str(path)]}. Choose another place.")
        taken[str(path)] = f"{called} {place}"


def sync_folder(folder: Path) -> None:
    with naming(folder):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256_of(path: Path, most: int | None = None) -> str:
    """Of a regular file of at most so many bytes, in pieces; raises as ``opened_file``."""
    with opened_file(path, most) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write a compressed npz without objects."""
    for key, value in arrays.items():
        if value.dtype.hasobject:
            raise StoreError(f"array {key!r} holds objects; only numbers and text are stored.")
    np.savez_compressed(path, allow_pickle=False, **arrays)


def load_arrays(path: Path, only: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an npz file, read-only; each is what lies in the file, not a copy of it in pieces.

    With ``only``, those of these names that there are; the others are not looked at.

    ``numpy.load`` reads members of an archive a quarter of a megabyte at a time, which takes twice as long.

    Raises
    ------
    StoreError
        A member is no array, holds objects, or is not as large as it says; or the file is no archive.
    """
    arrays: dict[str, np.ndarray] = {}
    member = ""
    try:
        with opened_file(path) as file, zipfile.ZipFile(file) as archive:
            on_disk = os.fstat(file.fileno()).st_size
            for entry in archive.infolist():
                member, key = f": {some_of([entry.filename])}", entry.filename.removesuffix(".npy")
                if only is not None and key not in only:
                    continue
                if key in arrays:
                    raise ValueError("its name comes twice")
                with archive.open(entry) as packed:
                    shape, by_columns, dtype = _HEADERS[npy.read_magic(packed)](packed)
                    # Before anything large is read: what is packed may be much larger than the file.
                    if dtype.hasobject or min(shape, default=0) < 0:
                        raise ValueError(f"it has shape {shape} of {dtype}")
                    size = math.prod(shape) * dtype.itemsize
                    if packed.tell() + size != entry.file_size:
                        raise ValueError(f"it has {entry.file_size:,} bytes for shape {shape} of {dtype}")
                    if entry.file_size > _MOST_PACKED * min(entry.compress_size, on_disk) + _PIECE:
                        raise ValueError(f"it says {entry.file_size:,} bytes, more than {on_disk:,} on disk can hold")
                    # An array of numpy's own lies in large pages, in which rows here and there are found sooner.
                    found, place = np.empty(size, np.uint8), 0
                    while piece := packed.read(_PIECE):
                        found[place : place + len(piece)] = np.frombuffer(piece, np.uint8)
                        place += len(piece)
                if place != size:
                    raise ValueError(f"it ends after {place:,} bytes of {size:,}")
                found.flags.writeable = False
                arrays[key] = found.view(dtype).reshape(shape, order="F" if by_columns else "C")
    except MemoryError:
        raise
    except Exception as error:  # zipfile and numpy raise many kinds for a file that somebody has made up
        # That a disk or a folder fails is no fault of the file; that a place in it is not there, is.
        if isinstance(error, OSError) and not isinstance(error, UnfitFile) and error.errno not in (None, errno.EINVAL):
            raise
        raise StoreError(f"{path}{member} is no array of numbers or text: {error}.") from None
    return arrays
