"""Which device and which precision a training uses."""

from __future__ import annotations

from pathlib import Path

import torch

from ensemble_fer.errors import MissingError, UsageError
from ensemble_fer.runtime import cpu_count


def choose_device(name: str = "auto") -> torch.device:
    """The named device; with ``auto`` a GPU where torch finds one.

    Raises
    ------
    MissingError
        ``cuda`` or ``mps`` was asked for and is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device {name!r}. Expected auto, cpu, cuda, cuda:1 or mps.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise MissingError("torch finds no CUDA GPU here. Use:  --device cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise MissingError("torch finds no Apple GPU here. Use:  --device cpu")
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """bfloat16 where asked for, or by ``auto`` where the hardware multiplies it; else float32."""
    if name == "auto":
        fast = torch.cuda.is_bf16_supported(False) if device.type == "cuda" else _cpu_multiplies_bfloat16()
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def _cpu_multiplies_bfloat16() -> bool:
    """Elsewhere torch emulates bfloat16 on the CPU, many times slower than float32."""
    try:
        return any(flag in Path("/proc/cpuinfo").read_text() for flag in ("avx512_bf16", "amx_bf16"))
    except OSError:
        return False


def set_threads(threads: int | None) -> int:
    """Let torch use this many processor threads (all by default); the number it uses."""
    torch.set_num_threads(threads or cpu_count())
    return torch.get_num_threads()
