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
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
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
    # Six times 96 MB are 140,625 pages of 4 kB, or fewer faults where the system hands out larger ones. Where in memory
    # the library puts a block is its own affair, so one of the six may be new.
    assert taken["give back"] > 50
    assert taken["keep"] < taken["give back"] / 3
