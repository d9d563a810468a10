"""What each face has been used for in a store: scored as a test face, or asked which checkpoint to keep.

``<store>/looks.jsonl`` has one line for each use of a part and only grows; ``<store>/seen/<part>.npy`` holds the
digests of the faces of a part. Faces are told apart by their pixels, so that another split, or the same set imported
in another order, does not make faces new.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, repeat
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.artifact import canonical
from ensemble_fer.errors import StoreError
from ensemble_fer.files import UnfitFile, naming, opened_file, read_file, write_atomic
from ensemble_fer.store import Store
from ensemble_fer.types import Role

LOG, SEEN = "looks.jsonl", "seen"
_ROLES = (Role.SELECT, Role.TEST)
_LONGEST = 100_000  # bytes of a line; one of ours has 300
_PART = b'"part"'
_PARTS, _NAMED = 1000, 1000
_MOST_FACES = 100_000_000  # bytes, for twelve million faces


@dataclass(frozen=True)
class Look:
    """How a test part stands after a look.

    Parameters
    ----------
    looks : int
        Scores of test parts that share a face with it, this one included.
    chosen_on : int
        Faces of it on which another split of this store chose checkpoints.
    """

    looks: int
    chosen_on: int


def faces_of(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Digests of the faces of images [n, h, w] or [n, h, w, 3], uint64, ascending, each once.

    An image of one grey level, or of one colour, shows none. Equal channels are the gray image that they show.
    """
    low, high = images.min(axis=(1, 2)), images.max(axis=(1, 2))
    shown = images[(low < high).reshape(len(images), -1).any(axis=1)]
    if images.ndim == 4:
        gray = (shown == shown[..., :1]).all(axis=(1, 2, 3))
        shown = [image[..., 0] if same else image for image, same in zip(shown, gray, strict=True)]
    digests = [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in shown]
    return np.unique(np.frombuffer(b"".join(digests), np.uint64))


def note_choosing(store: Store, select: NDArray[np.uint8], source: str) -> None:
    """Record that the training ``source`` chooses its checkpoint on these faces; once for each training."""
    part = _keep(store, faces_of(select))
    if not any(line.get("source") == source and line.get("role") == Role.SELECT for line in _lines(store)):
        _append(store, {"part": part, "role": Role.SELECT, "source": source})


def count_look(
    store: Store, test: NDArray[np.uint8], select: NDArray[np.uint8], source: str, tta: str = "none"
) -> Look:
    """Record that ``source`` was scored on these test faces; how they stand, this look included.

    Parameters
    ----------
    test, select : uint8 [n, h, w]
        Both parts of the split. A face that lies in both (twins do, in the official split) does not count as chosen
        on: the split itself has it in both, and ``Protocol.twins_in_select`` counts it.
    source, tta : str
        What was scored, and how.
    """
    faces = faces_of(test)
    part = _keep(store, faces)
    _append(store, {"part": part, "role": Role.TEST, "source": source, "tta": tta})
    own = np.setdiff1d(faces, faces_of(select))
    looks, chosen_on = 0, np.zeros(len(own), bool)

    @lru_cache(maxsize=_PARTS)
    def known(name: str) -> NDArray[np.bool_]:
        return np.isin(own, _faces_of_part(store, name, own))

    for line in _lines(store):
        name = str(line.get("part"))
        # What is damaged may have said either.
        if line.get("role") != Role.TEST:
            chosen_on |= known(name)
        if line.get("role") != Role.SELECT:
            looks += name == part or bool(known(name).any())
    return Look(looks, int(chosen_on.sum()))


def damage(store: Store) -> list[str]:
    """What is damaged in the log of looks, a line each; it is counted as the worst that it can have said.

    A thousand lines and parts are named, and how many more there are.
    """
    found: dict[str, None] = {}
    more = 0
    lost = lru_cache(maxsize=_PARTS)(lambda name: _stored_faces(store, name) is None)

    def name_one(problem: str) -> None:
        nonlocal more
        if problem not in found and len(found) < _NAMED:
            found[problem] = None
        elif problem not in found:
            more += 1

    try:
        for number, line in _text(store):
            for one in _parsed(line):
                if one.get("role") not in _ROLES or "part" not in one:
                    name_one(f"{store.root / LOG} line {number}: damaged, and counted as a look and a choice")
                if "part" in one and lost(part := str(one["part"])):
                    name_one(f"{store.root / SEEN / part[:40]}.npy is not what was written: all faces count as seen")
    except StoreError as error:
        name_one(str(error))
    return [*found, *([f"{store.root / LOG}: {more:,} more"] if more else [])]


@contextmanager
def _log(store: Store) -> Iterator[BinaryIO | None]:
    """The log opened to be read; None where there is none.

    Raises
    ------
    StoreError
        Something that is no file has its place.
    """
    path = store.root / LOG
    try:
        with opened_file(path) as file:
            yield file
    except FileNotFoundError:
        yield None
    except UnfitFile as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}. It was put there by hand: take it away.") from error


def _text(store: Store) -> Iterator[tuple[int, str]]:
    """Lines of the log with their numbers. It grows without end, so that a line is held at a time.

    One that is longer than any of ours is given as an empty object for each that may stand in it.
    """
    with _log(store) as file:
        for number in count(1):
            line = file.readline(_LONGEST) if file is not None else b""
            if not line:
                return
            if len(line) == _LONGEST and not line.endswith(b"\n"):
                yield from repeat((number, "{}"), _held_by_the_rest(file, line))
            elif line.strip():
                yield number, line.decode("utf-8", "replace")


def _held_by_the_rest(file: BinaryIO | None, start: bytes) -> int:
    """How many objects may stand in a line, of which the start was read, and the rest is read in pieces here."""
    found, end, piece = 0, b"", start
    while file is not None and piece:
        seen = end + piece
        found, end = found + seen.count(_PART), seen[1 - len(_PART) :]
        piece = b"" if piece.endswith(b"\n") else file.readline(_LONGEST)
    return max(1, found)


def _lines(store: Store) -> Iterator[dict]:
    """The log. What cannot be read stands as lines that say nothing, which count as the worst."""
    return (one for _, line in _text(store) for one in _parsed(line))


def _parsed(line: str) -> list[dict]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        if line.rstrip().endswith("}"):  # maybe of two that run together
            return [{}] * max(1, line.count('"part"'))
        # What a kill has torn has no end, and is what was about to be.
        return [{"role": Role.SELECT if f'"{Role.SELECT}"' in line else Role.TEST}]
    return [found if isinstance(found, dict) else {}]


def _append(store: Store, line: dict) -> None:
    store.root.mkdir(parents=True, exist_ok=True)
    path = store.root / LOG
    # A line that a kill has torn stays a line of its own.
    with _log(store) as before:
        torn = before is not None and before.seek(0, os.SEEK_END) > 0
        if before is not None and torn:
            before.seek(-1, os.SEEK_END)
            torn = before.read(1) != b"\n"
    with naming(path), path.open("ab") as file:
        file.write(b"\n" * torn + canonical({**line, "time": round(time.time())}).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _keep(store: Store, faces: NDArray[np.uint64]) -> str:
    """The name of a part, which is a digest of its faces; their digests are on disk before a line names them."""
    name = _digest(faces)
    path = store.root / SEEN / f"{name}.npy"
    if not path.is_file():
        content = io.BytesIO()
        np.save(content, faces, allow_pickle=False)
        write_atomic(path, content.getvalue())
    return name


def _faces_of_part(store: Store, name: str, unreadable: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The faces of a part of the log; where they are lost, those to be taken for seen."""
    found = _stored_faces(store, name)
    return unreadable if found is None else found


def _stored_faces(store: Store, name: str) -> NDArray[np.uint64] | None:
    """Those of a part, if they are still what its name says, which is their digest."""
    try:
        content = read_file(store.root / SEEN / f"{name}.npy", _MOST_FACES)
        faces = np.load(io.BytesIO(content), allow_pickle=False)  # which takes no more memory than there is content
    except Exception:  # numpy raises whatever comes for a header that is damaged
        return None
    return faces if faces.dtype == np.uint64 and _digest(faces) == name else None


def _digest(faces: NDArray[np.uint64]) -> str:
    return hashlib.sha256(faces.tobytes()).hexdigest()[:16]
