"""``Predictions`` as one compressed npz of numbers and text: about 100 KB for 3,589 rows.

A file can be scored alone, anywhere: it carries logits, labels, row ids, twin groups and the protocol stamp.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np

from ensemble_fer.errors import BadData, StoreError, some_of
from ensemble_fer.files import load_arrays, write_atomic
from ensemble_fer.types import N_CLASSES, Predictions, Protocol, Role

_ARRAYS = {
    "logits": np.dtype(np.float32),
    "labels": np.dtype(np.uint8),
    "rows": np.dtype(np.int64),
    "groups": np.dtype(np.int32),
    "twin_in_train": np.dtype(np.bool_),
}
_TEXTS = ("role", "source", "protocol")
_ADVICE = "Expected a file written by save_predictions; make it again with the command that made it."


def save_predictions(path: str | Path, p: Predictions) -> None:
    """Write predictions to one npz, whole or not at all. Equal predictions give equal bytes.

    Raises
    ------
    BadData
        The predictions are not what ``load_predictions`` would accept.
    """
    problems = _problems_of(p)
    if problems:
        raise BadData(f"predictions of {p.source}, not written to {path}", problems)
    arrays = {key: getattr(p, key) for key in _ARRAYS}
    texts = {
        "role": np.array(str(p.role)),
        "source": np.array(p.source),
        "protocol": np.array(json.dumps(p.protocol.to_dict(), sort_keys=True)),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays, **texts)
    write_atomic(Path(path), buffer.getvalue())


def load_predictions(path: str | Path) -> Predictions:
    """Read and check a file of ``save_predictions``.

    Raises
    ------
    StoreError
        No such file, or it is not an npz, is torn, or lacks an array.
    BadData
        An array has another type or shape, a logit is not finite, a label is above 6, a row comes twice,
        or the protocol is not one.
    """
    found = _read(Path(path), (*_ARRAYS, *_TEXTS))
    problems = [
        f"{key}: expected {dtype}, found {found[key].dtype}"
        for key, dtype in _ARRAYS.items()
        if found[key].dtype != dtype
    ]
    problems += [f"{key}: expected one text" for key in _TEXTS if found[key].dtype.kind != "U" or found[key].ndim]
    if problems:
        raise BadData(str(path), problems, _ADVICE)
    role = str(found["role"])
    if role not in list(Role):
        raise BadData(str(path), [f"role {role!r}; expected one of {', '.join(Role)}"], _ADVICE)
    p = Predictions(
        **{key: found[key] for key in _ARRAYS},
        role=Role(role),
        source=str(found["source"]),
        protocol=protocol_from_json(str(found["protocol"]), str(path)),
    )
    problems = _problems_of(p)
    if problems:
        raise BadData(str(path), problems, _ADVICE)
    return p


def load_protocol(path: str | Path) -> Protocol:
    """Only the protocol stamp of a predictions file; a fraction of the time of reading it all."""
    return protocol_from_json(str(_read(Path(path), ("protocol",))["protocol"]), str(path))


def protocol_from_json(text: str, source: str) -> Protocol:
    """The ``Protocol`` whose ``to_dict`` was written as this JSON.

    Raises
    ------
    BadData
        Not JSON, a field missing or unknown.
    """
    try:
        given = json.loads(text)
        given.pop("leaky", None)
        given["leaks"] = tuple(given.get("leaks", ()))
        unknown = sorted(set(given) - {f.name for f in fields(Protocol)})
        if unknown:
            raise ValueError(f"unknown fields {', '.join(unknown)}")
        return Protocol(**given)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadData(source, [f"protocol: {error}"], _ADVICE) from error


def _read(path: Path, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The named arrays of an npz; objects are refused, and whatever is wrong is said in words."""
    try:
        if not zipfile.is_zipfile(_existing(path)):
            raise StoreError(f"{path} is not a whole npz archive. {_ADVICE}")
        found = load_arrays(path, keys)
        if missing := [key for key in keys if key not in found]:
            with zipfile.ZipFile(path) as archive:
                there = some_of(name.removesuffix(".npy") for name in archive.namelist())
            raise StoreError(
                f"{path} is no predictions file: it lacks {', '.join(missing)} (it has {there}). {_ADVICE}"
            )
        return found
    except StoreError as error:
        if _ADVICE in str(error) or not path.is_file():
            raise
        raise StoreError(f"{error} {_ADVICE}") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read as predictions ({error}). {_ADVICE}") from error


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise StoreError(f"there is no predictions file {path}.")
    return path


def _problems_of(p: Predictions) -> list[str]:
    """What is wrong with shapes and values, one line each."""
    m = len(p)
    shapes = {key: (m, N_CLASSES) if key == "logits" else (m,) for key in _ARRAYS}
    problems = [
        f"{key}: expected shape {shape}, found {getattr(p, key).shape}"
        for key, shape in shapes.items()
        if getattr(p, key).shape != shape
    ]
    if problems:
        return problems
    if not np.isfinite(p.logits).all():
        bad = int((~np.isfinite(p.logits)).any(axis=1).sum())
        problems.append(f"logits: {bad} of {m} rows are not finite")
    if m and p.labels.max() >= N_CLASSES:
        problems.append(f"labels: expected 0 to {N_CLASSES - 1}, found {p.labels.max()}")
    if len(np.unique(p.rows)) != m:
        problems.append(f"rows: {m - len(np.unique(p.rows))} row ids come more than once")
    if m and (p.rows.min() < 0 or p.groups.min() < 0):
        problems.append("rows or groups: an id below 0")
    if p.protocol.role != p.role:
        problems.append(f"role {str(p.role)!r} but the protocol says {str(p.protocol.role)!r}")
    return problems
