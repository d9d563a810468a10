"""Which precision, how many threads and whose memory a training uses."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

from ensemble_fer.runtime import check_threads, cpu_count


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
    """Let torch use this many processor threads (all by default); the number it uses.

    Raises
    ------
    UsageError
        Many times more than there are processors: they would only wait for each other.
    """
    check_threads(threads)
    torch.set_num_threads(threads or cpu_count())
    return torch.get_num_threads()


def keep_freed_memory() -> bool:
    """Let the C library keep what tensors free for the next step's, where it is glibc; whether that was done.

    By default glibc gives a freed block of more than 32 MB back to the system, which hands it out again page by page
    and zeroed, at every step. That takes about a tenth of a step on the CPU; the peak is 4 % higher without it.
    """
    m_trim_threshold, m_mmap_max, most = -1, -4, 2**31 - 1
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or none that can be asked
        return False
    return bool(mallopt(m_mmap_max, 0) and mallopt(m_trim_threshold, most))
