"""A processor that lacks instructions this one has gives the same answers; they are limited in processes of their own.

That whole numbers are right without VNNI is in ``tests/export/test_variants.py``.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__
from safetensors.numpy import load_file

from ensemble_fer.evaluate.predictions import load_predictions
from ensemble_fer.store import Artifact, Store
from tests.trust.campaign import ALL

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="an instruction set of x86 is limited"),
]

# SMOTE's neighbours and a training in both precisions: what has loops of its own for some processors.
WORK = """
import sys
from ensemble_fer.config import Recipe
from ensemble_fer.data.synthetic import synth_data
from ensemble_fer.resample import make_resampling
from ensemble_fer.store import Store
from ensemble_fer.train import train

store = Store(sys.argv[1])
make_resampling(store, synth_data(store, rows=400, seed=1), method="smote", quiet=True)
for precision in ("float32", "bfloat16"):
    recipe = Recipe(model="resnet14", epochs=1, epoch_rows=64, batch_size=32, resampling="smote", precision=precision)
    train(store, recipe, name=precision, threads=1, quiet=True)
"""


# For a Python that finds it: loops of ours are compiled for a processor of 2013, in whichever process.
OF_2013 = """
import llvmlite.binding as llvm

found = llvm.get_host_cpu_features()
for name in found:
    found[name] = found[name] and not name.startswith(("avx512", "avx10", "avxvnni", "avxifma", "amx"))
llvm.get_host_cpu_name = lambda: "haswell"
llvm.get_host_cpu_features = lambda: found
"""

LIMITED = """
import sys
import llvmlite.binding as llvm
import torch
from numpy._core._multiarray_umath import __cpu_dispatch__ as loops, __cpu_features__ as numpys

assert llvm.get_host_cpu_name() == "haswell"
assert not [name for name in loops if numpys[name] and name.startswith(("AVX512", "X86_V4"))], numpys
assert torch.backends.cpu.get_cpu_capability() == "AVX2"
"""


def worked(root: Path, *before: str, first: str = "", path: str = "", **limits: str) -> Store:
    """A store in which the work was done by a processor with these limits; loops that are kept are for this one."""
    environment = {**os.environ, **limits, "PYTHONPATH": os.pathsep.join([*([path] if path else []), *sys.path])}
    command = [*before, sys.executable, "-c", first + WORK, str(root)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Store(root)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return worked(tmp_path_factory.mktemp("here"))


def resampled(store: Store) -> Artifact:
    (identity,) = store.ids("resampling")
    return store.by_id("resampling", identity)


def says_the_same(here: Store, there: Store) -> None:
    """The same resampling to the bit; networks that differ by no more than their precision rounds."""
    made = [resampled(store) for store in (here, there)]
    for name in (name for name in made[0].manifest["files"] if name.endswith(".npz")):
        for key, values in made[0].arrays(name).items():
            assert np.array_equal(values, made[1].arrays(name)[key]), (name, key)
    for precision, near in (("float32", 2e-3), ("bfloat16", 5e-2)):
        runs = [store.get("run", precision) for store in (here, there)]
        weights = [load_file(run.file("weights.safetensors")) for run in runs]
        said = [load_predictions(run.file("select.npz")).logits for run in runs]
        off = max(float(np.abs(value - weights[1][key]).max()) for key, value in weights[0].items())
        assert off < near, (precision, off)
        assert np.abs(said[0] - said[1]).max() < 10 * near, precision


def test_without_avx_512_and_amx(here: Store, tmp_path: Path) -> None:
    """By the libraries' own switches: torch, oneDNN, MKL, numpy, OpenBLAS, and the compiler of the loops of ours."""
    (tmp_path / "sitecustomize.py").write_text(OF_2013)
    limits = {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": " ".join(n for n in __cpu_dispatch__ if n.startswith(("AVX512", "X86_V4"))),
    }
    says_the_same(here, worked(tmp_path / "store", first=LIMITED, path=str(tmp_path), **limits))


@pytest.mark.skipif(not ALL, reason="an emulated processor takes minutes: make trust")
@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="qemu-user limits the instruction set; it is not here")
def test_an_emulated_processor_of_2013(here: Store, tmp_path: Path) -> None:
    """AVX2 and nothing newer, for all that runs; the compiler of the loops too, which is a process of its own."""
    emulated = ("qemu-x86_64", "-cpu", "Haswell")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {" ".join(emulated)} "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    first = f"import sys\nsys.executable = {str(python)!r}\n"
    # Code that is kept for such a processor was made by no other.
    own = {"PYTHONPYCACHEPREFIX": str(tmp_path / "cache")}
    says_the_same(here, worked(tmp_path / "store", *emulated, first=first, **own))
