"""Loops as they are compiled, kept and loaded."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ensemble_fer.errors import EnsembleFerError
from ensemble_fer.neighbors import Mixtures, compiling, kernels, nearest
from ensemble_fer.neighbors.compiling import Loop
from tests.neighbors.reference import photographs

MIX_ONE = """
import resource, sys
if sys.argv[1] == "full":
    # Every write to a file fails, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
import numpy as np
from ensemble_fer.neighbors import compiling, kernels
compiled, made = compiling._compiled, []
compiling._compiled = lambda *given: made.append(given) or compiled(*given)
rows, out = np.arange(2), np.zeros((2, 3), np.float32)
points = np.zeros((2, 4), np.uint8), rows, rows[::-1].copy(), np.array([0.25, 0.5])
kernels.mixed(np.array([[0, 4, 8], [4, 4, 4]], np.float32), points, 0, 2, out)
assert out.tolist() == [[1, 4, 7], [2, 4, 6]], out
print(len(made), "numba" in sys.modules)
"""


def test_code_is_kept_and_where_it_cannot_be_kept_or_read_it_is_compiled_again(tmp_path):
    kept = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "other")}

    def mix_one(disk: str, *, compiled: int) -> list[Path]:
        done = subprocess.run([sys.executable, "-c", MIX_ONE, disk], env=kept, capture_output=True, text=True)
        assert (done.returncode, done.stdout.split()) == (0, [str(compiled), "False"]), done.stderr
        return list(tmp_path.rglob("mixed-*.o"))

    assert not mix_one("full", compiled=1)
    (file,) = mix_one("room", compiled=1)
    mix_one("full", compiled=0)
    whole = file.read_bytes()
    foreign = b"no code of any machine"
    stamped = hashlib.sha256(foreign).digest() + foreign
    for torn in (whole[:40], whole[:-1] + bytes([whole[-1] ^ 1]), stamped):
        file.write_bytes(torn)
        mix_one("full", compiled=1)
    mix_one("room", compiled=1)
    assert file.read_bytes() == whole


def test_code_of_other_sources_types_or_processors_is_not_taken(monkeypatch):
    stem = compiling._stem("mixed", "f4:2,i")
    assert stem != compiling._stem("mixed", "f4:2,f")
    assert stem != compiling._stem("gaps", "f4:2,i")
    import llvmlite
    import llvmlite.binding as llvm
    import numba

    for part in (
        "def settle(",
        "def squared_distance(",
        "def machine_code(",
        "MOST_BYTES =",
        numba.__version__,
        llvmlite.__version__,
        llvm.get_process_triple(),
        llvm.get_host_cpu_name(),
        llvm.get_host_cpu_features().flatten(),
    ):
        assert part.encode() in compiling._made_by()
    monkeypatch.setattr(compiling, "_made_by", lambda: b"another processor")
    assert stem != compiling._stem("mixed", "f4:2,i")


def test_settings_of_numba_that_users_have_for_their_own_loops_are_not_ours(tmp_path):
    kept = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path), "NUMBA_DISABLE_JIT": "1", "NUMBA_BOUNDSCHECK": "1"}
    done = subprocess.run([sys.executable, "-c", MIX_ONE, "room"], env=kept, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "False"], done.stderr


def test_what_cannot_be_compiled_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(EnsembleFerError, match=r"compiled: .*no attribute 'nothing'[\s\S]*install it again"):
        Loop("nothing")(1)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(EnsembleFerError, match=r"could not be compiled: .*no-python"):
        Loop("nothing")(1)
    assert not list(tmp_path.iterdir())


def test_arrays_that_loops_would_misread_are_refused():
    table = np.zeros((4, 6), np.float32)
    for wrong in (table[:, ::2], table.T, table.astype(">f4")):
        with pytest.raises(TypeError, match="rows follow each other"):
            Loop("mixed")(wrong)


def test_prepared_loops_are_those_that_a_search_calls(monkeypatch):
    """Or its first call would compile them once more."""
    for loop in (kernels._gaps, kernels._mixed, kernels._settle, kernels._squared_distances, kernels._summed):
        monkeypatch.setattr(loop, "_loaded", {})
    kernels.prepare()
    asked, load = [], compiling._load
    monkeypatch.setattr(compiling, "_load", lambda *given: asked.append(given) or load(*given))
    pixels = photographs(0, 1500)
    rows = np.arange(1500)
    nearest(Mixtures(pixels, rows, rows[::-1].copy(), np.linspace(0, 1, 1500)), 3)
    nearest(Mixtures.faces(pixels), 3, queries=Mixtures.faces(pixels, rows[:50]))
    assert not asked


def test_modules_in_the_folder_of_the_user_are_not_run(tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    (tmp_path / ".numba_config.yaml").write_text("disable_jit: 1")
    settings = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path / "kept"), "PYTHONSAFEPATH": "1"}
    settings["PYTHONPATH"] = os.pathsep.join([str(Path(compiling.__file__).parents[2]), str(tmp_path / "site")])
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("print('hello')")
    command = [sys.executable, "-c", MIX_ONE, "room"]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == ["hello", "1", "False"], done.stderr


FORK = """
import os, sys
import numpy as np
from ensemble_fer.neighbors import Mixtures, compiling, nearest, search
pixels = np.random.default_rng(0).integers(0, 256, (1500, 2304)).astype(np.uint8)
nearest(Mixtures.faces(pixels), 2)
held = [search._finding, *compiling._locks.values()]
for lock in held:
    lock.acquire()
child = os.fork()
if child == 0:
    nearest(Mixtures.faces(pixels.astype(float)), 2)
    os._exit(7)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_while_another_thread_loads_or_searches_does_not_wait_for_it():
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=120)
    assert done.returncode == 7, done.stderr


INTERRUPTED = """
import os, signal, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from ensemble_fer.neighbors import compiling, kernels
seen = []
def interrupt():
    while not compiling._compilers:
        time.sleep(0.01)
    seen.extend(compiling._compilers)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
try:
    kernels.prepare()
except KeyboardInterrupt:
    print([process.returncode for process in seen])
"""


def test_ctrl_c_kills_the_compilers_instead_of_waiting_for_them(tmp_path):
    kept = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "other")}
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], env=kept, capture_output=True, text=True)
    assert done.stdout.strip() in ("[-9]", "[-9, -9]"), done.stderr
    assert not list(tmp_path.rglob("*.o")), "nothing was compiled to its end"
