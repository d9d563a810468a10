"""Which device torch works on. torch is imported by name, so that rooms without torch may ask too."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ensemble_fer.errors import MissingError, UsageError, unknown_name

if TYPE_CHECKING:
    import torch

KINDS = ("cpu", "cuda", "mps")
# What needs float64 or operations that Apple's GPUs do not have.
CPU_OR_CUDA = ("cpu", "cuda")


def check_device(name: str, kinds: tuple[str, ...] = KINDS, what: str = "this") -> str:
    """The name itself if it can be a device; whether it is here only torch knows, which takes seconds to import.

    Parameters
    ----------
    name : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    kinds : tuple of str
        Those that the work can be done on.
    what : str
        The work, for the message.

    Raises
    ------
    UsageError
        Another name, or a device that the work cannot be done on.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise unknown_name("device", name, _names(kinds))
    if name != "auto" and name.partition(":")[0] not in kinds:
        raise UsageError(f"{what} cannot be done on device {name!r}. Expected one of {', '.join(_names(kinds))}.")
    return name


def choose_device(name: str = "auto", kinds: tuple[str, ...] = KINDS, what: str = "this") -> torch.device:
    """The named device; with ``auto`` a GPU where torch finds one that the work can be done on.

    Parameters
    ----------
    name, kinds, what
        See ``check_device``.

    Raises
    ------
    UsageError
        See ``check_device``.
    MissingError
        The device is not here. Names those that are.
    """
    check_device(name, kinds, what)
    torch = import_module("torch")
    here = [device for device in _devices(torch) if device.partition(":")[0] in kinds]
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if kind in here))
    # Numbers may be written with zeros in front. torch is not asked: it takes no more than 64 bits of one.
    plain = re.sub(r":0*(?=\d)", ":", name)
    if plain not in here:
        said = f"device {name[:40]} is not here; torch finds {', '.join(here)}"
        raise MissingError(f"{said}. Use one of them:  --device cpu")
    return torch.device(plain)


def _devices(torch: Any) -> list[str]:
    """Names of all devices here that torch can use."""
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return ["cpu", *(["cuda"] if gpus else []), *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]


def _names(kinds: tuple[str, ...]) -> list[str]:
    return ["auto", *(name for kind in kinds for name in (("cuda", "cuda:N") if kind == "cuda" else (kind,)))]
