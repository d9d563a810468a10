"""What a training asks of the machine it runs on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ensemble_fer.train.device import keep_freed_memory

FAULTS = """
import resource, sys, torch
from ensemble_fer.train.device import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def step():
    for _ in range(2):
        torch.ones(24_000_000)  # 96 MB, of which every page is written
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_memory_of_one_step_is_there_for_the_next() -> None:
    if not keep_freed_memory():
        pytest.skip("another C library than glibc")
    taken = {}
    for how in ("keep", "give back"):
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        taken[how] = int(done.stdout)
    # 96 MB are 23,438 pages of 4 kB, or fewer faults where the system hands out larger ones.
    assert taken["keep"] < 50 < taken["give back"]
