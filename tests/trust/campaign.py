"""Many cases of one kind: a few in ``make test``, all of them in ``make trust``, which goes on where it was.

It begins again when all are done, or when the code has changed since.

Case N of a campaign has the same source of chance always, so that one that fails can be looked at alone::

    ENSEMBLE_FER_CASE=731 pytest tests/trust/test_pictures.py
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil

from ensemble_fer.errors import EnsembleFerError

ALL = os.environ.get("ENSEMBLE_FER_TRUST") == "all"
ONE = os.environ.get("ENSEMBLE_FER_CASE")
PROGRESS = Path(__file__).parents[2] / "build" / "trust"
EVERY = 20
"""Cases after which the number done is noted."""
_first: dict[str, int] = {}
T = TypeVar("T")


def cases(name: str, total: int, *, quick: int) -> Iterator[tuple[int, np.random.Generator]]:
    """Numbers of the cases to be done now, each with its source of chance.

    A case that fails ends the campaign, and is the first one of the next time.
    """
    path = PROGRESS / f"{name}.json"
    first, last = 0, quick
    if ONE is not None:
        first, last = int(ONE), int(ONE) + 1
    elif ALL:
        first, last = _done(path, total), total
    _first[name] = first
    for number in range(first, last):
        yield number, np.random.default_rng([zlib.crc32(name.encode()), number])
        if ALL and ONE is None and ((number + 1) % EVERY == 0 or number + 1 == last):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"done": number + 1, "of": total, "code": code()}))


def whole(name: str) -> bool:
    """Whether this run began with the first case: what is said of all together holds of all alone."""
    return ONE is None and _first[name] == 0


def _done(path: Path, total: int) -> int:
    """Cases that were done with the code as it is; 0 where all were."""
    if not path.is_file():
        return 0
    noted = json.loads(path.read_text())
    return noted["done"] if noted.get("code") == code() and noted["done"] < total else 0


@cache
def code() -> str:
    """Digest of the package and of these tests."""
    here = Path(__file__).parent
    found = hashlib.sha256()
    for file in sorted([*(here.parents[1] / "ensemble_fer").rglob("*.py"), *here.glob("*.py")]):
        found.update(file.read_bytes())
    return found.hexdigest()[:16]


def answered(work: Callable[[], T], *more: type[Exception]) -> T | None:
    """What the work gives, or None where it is refused with a reason; whatever else it raises is a failure.

    ``more`` are kinds of refusal that the caller of a library function is told to expect.
    """
    try:
        return work()
    except (EnsembleFerError, *more) as error:
        said = str(error)
        assert said.strip(), "a refusal without a reason"
        assert "Traceback" not in said
        return None


@contextmanager
def within_memory(megabytes: float = 1000) -> Iterator[None]:
    """Fail if this process had more resident memory inside than before, by so much."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = psutil.Process().memory_info().rss
    yield
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    assert peak - before < megabytes * 1e6, f"{(peak - before) / 1e6:.0f} MB more"


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with one to four accidents: bits, bytes, pieces lost, doubled, moved or put in, an end cut off."""
    out = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        size = len(out)
        at = int(rng.integers(size + 1))
        length = int(rng.integers(1, max(2, min(64, size + 1))))
        match int(rng.integers(8)):
            case 0 if size:
                out[at % size] ^= 1 << int(rng.integers(8))
            case 1 if size:
                out[at % size] = int(rng.integers(256))
            case 2:
                del out[at : at + length]
            case 3:
                out[at:at] = out[at : at + length]
            case 4:
                out[at:at] = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
            case 5:
                del out[at:]
            case 6:
                piece = out[at : at + length]
                del out[at : at + length]
                out += piece
            case _:
                out[at : at + length] = bytes([int(rng.choice([0, 0xFF, 0x20, 0x0A, 0x22, 0x2C]))]) * length
    return bytes(out)
