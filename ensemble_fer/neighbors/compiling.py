"""Loops compiled on their first call, and kept as machine code.

numba compiles a loop for the processor and for the types it is called with (``compiler.py``). Kept is what the
processor runs and nothing else, so that later processes load it in a few milliseconds: without numba, whose start takes
longer than many searches, and without unpickling, on which numba's own cache rests.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from functools import lru_cache
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ensemble_fer.errors import EnsembleFerError
from ensemble_fer.files import write_atomic

_NUMBERS = {"i": ctypes.c_int64, "f": ctypes.c_double}
_DIGEST = 32  # bytes before the machine code: their sum, since torn code would end the process
_COMPILER = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from ensemble_fer.neighbors.compiler import main; main()"
)
_linking = threading.Lock()


class Loop:
    """A loop of ``loops.py``.

    Called with C-contiguous arrays, numbers, and tuples of these. It returns nothing: what it makes it writes to
    arrays. Python's lock is free meanwhile.

    Parameters
    ----------
    name : str

    Raises
    ------
    EnsembleFerError
        It is not kept, and cannot be compiled.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._loaded: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __call__(self, *arguments: Any) -> None:
        values: list[Any] = []
        kinds = _kinds(arguments, values)
        made = self._loaded.get(kinds)
        if made is None:
            with self._lock:
                made = self._loaded[kinds] = self._loaded.get(kinds) or _load(self.name, kinds)
        made(*values)

    def is_kept(self, *arguments: Any) -> bool:
        """Whether a call with such arguments need not wait for a compiler."""
        kinds = _kinds(arguments, [])
        return kinds in self._loaded or _kept(_stem(self.name, kinds)) is not None


def _kinds(arguments: tuple, values: list[Any]) -> str:
    """The kinds of arguments, ``u1:2`` an array of bytes with two dimensions; what C takes of them joins the values."""
    return ",".join(_kind(argument, values) for argument in arguments)


def _kind(argument: Any, values: list[Any]) -> str:
    if isinstance(argument, tuple):
        return f"({_kinds(argument, values)})"
    if isinstance(argument, np.ndarray):
        if not (argument.flags.c_contiguous and argument.dtype.isnative):
            raise TypeError("loops take arrays whose rows follow each other, in the order of bytes of this machine")
        values.append(argument.ctypes.data)
        values.extend(argument.shape)
        return f"{argument.dtype.str[1:]}:{argument.ndim}"
    values.append(argument)
    return "i" if isinstance(argument, int | np.integer) else "f"


def _load(name: str, kinds: str) -> Any:
    stem = _stem(name, kinds)
    code = _kept(stem)
    if code is None:
        code = _compiled(name, kinds)
        _keep(stem, code)
    import llvmlite.binding as llvm

    with _linking:
        library = llvm.JITLibraryBuilder().add_object_img(code).add_current_process().export_symbol(name)
        linked = library.link(_linker(), stem)
    types: list[Any] = []
    for kind in kinds.replace("(", "").replace(")", "").split(","):
        types += [_NUMBERS[kind]] if kind in _NUMBERS else [ctypes.c_void_p] + [ctypes.c_int64] * int(kind[-1])
    made: Any = ctypes.CFUNCTYPE(None, *types)(linked[name])
    made.library = linked  # the code lives as long as this does
    return made


@lru_cache(maxsize=1)
def _linker() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.create_lljit_compiler()


def _compiled(name: str, kinds: str) -> bytes:
    settings = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")}
    command = [sys.executable, "-c", _COMPILER, json.dumps(sys.path), name, kinds]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, env=settings)
        said = done.stderr.decode(errors="replace").strip()
        if done.returncode == 0 and done.stdout:
            return done.stdout
    except OSError as problem:
        said = str(problem)
    raise EnsembleFerError(
        f"the neighbour search could not be compiled: {(said or 'nothing was said').splitlines()[-1]}\n"
        "It needs numba as it is installed with this package. Install it again: pip install --force-reinstall numba"
    )


@lru_cache(maxsize=1)
def _made_by() -> bytes:
    """What machine code depends on, beside the types."""
    import llvmlite
    import llvmlite.binding as llvm

    found = find_spec("numba")  # its version, without the time its start takes
    version = Path(found.origin).with_name("_version.py") if found and found.origin else Path()
    sources = [Path(__file__).with_name(file) for file in ("loops.py", "constants.py", "compiler.py", "compiling.py")]
    parts = [path.read_bytes() for path in (*sources, version) if path.is_file()]
    parts += [llvmlite.__version__.encode(), llvm.get_host_cpu_name().encode()]
    return b"\0".join([*parts, llvm.get_host_cpu_features().flatten().encode()])


def _stem(name: str, kinds: str) -> str:
    return f"{name}-{hashlib.sha256(_made_by() + name.encode() + kinds.encode()).hexdigest()[:16]}"


def _folders() -> list[Path]:
    """Where code is kept: beside its source as Python keeps its own, or in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [Path(cache_from_source(__file__)).parent, cache / "ensemble-fer"]


def _kept(stem: str) -> bytes | None:
    for folder in _folders():
        with suppress(OSError):
            content = (folder / f"{stem}.o").read_bytes()
            if hashlib.sha256(content[_DIGEST:]).digest() == content[:_DIGEST]:
                return content[_DIGEST:]
    return None


def _keep(stem: str, code: bytes) -> None:
    for folder in _folders():
        # No room, or no right to write there: the next process compiles again.
        with suppress(OSError):
            return write_atomic(folder / f"{stem}.o", hashlib.sha256(code).digest() + code)
