"""Loops compiled on their first call, and kept as machine code.

numba compiles a loop for the processor and for the types it is called with (``compiler.py``). Kept is what the
processor runs and nothing else, so that later processes load all of it in a tenth of a second: without numba, whose
start takes longer than many searches, and without unpickling, on which numba's own cache rests.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import pkgutil
import subprocess
import sys
import threading
from contextlib import suppress
from functools import lru_cache
from importlib.util import cache_from_source, find_spec
from itertools import count
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
MARK = b"\n--- machine code ---\n"  # before it, whatever a Python prints at its start
_SOURCES = ("loops.py", "distances.py", "constants.py", "compiler.py", "compiling.py")
_locks = {"linking": threading.Lock()}  # and one for each loop, under its name
_numbers = count()


def _renew() -> None:
    """A lock that another thread held when this process was forked would never be free."""
    _locks.update({name: threading.Lock() for name in _locks})


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


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
        _locks.setdefault(name, threading.Lock())

    def __call__(self, *arguments: Any) -> None:
        values: list[Any] = []
        kinds = _kinds(arguments, values)
        made = self._loaded.get(kinds)
        if made is None:
            with _locks[self.name]:
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
    kept, linked = _kept(stem), None
    if kept is not None:
        with suppress(RuntimeError):  # what is kept is no code of this machine: compiled again
            linked = _linked(name, kept)
    if linked is None:
        made = _compiled(name, kinds)
        linked = _linked(name, made)
        _keep(stem, made)
    types: list[Any] = []
    for kind in kinds.replace("(", "").replace(")", "").split(","):
        types += [_NUMBERS[kind]] if kind in _NUMBERS else [ctypes.c_void_p] + [ctypes.c_int64] * int(kind[-1])
    loop: Any = ctypes.CFUNCTYPE(None, *types)(linked[name])
    loop.library = linked  # the code lives as long as this does
    return loop


def _linked(name: str, code: bytes) -> Any:
    import llvmlite.binding as llvm

    with _locks["linking"]:
        library = llvm.JITLibraryBuilder().add_object_img(code).add_current_process().export_symbol(name)
        return library.link(_linker(), f"{name}-{next(_numbers)}")


@lru_cache(maxsize=1)
def _linker() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.create_lljit_compiler()


_compilers: set[subprocess.Popen] = set()


def stop_compilers() -> None:
    """Kill the compilers at work: Ctrl-C reaches the first thread alone, and others would wait for theirs."""
    for process in list(_compilers):
        process.kill()


def _compiled(name: str, kinds: str) -> bytes:
    settings = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")}
    # This package first, wherever the user's process found it; and nothing from the folder the user is in, where
    # numba's settings and modules of any name may lie.
    package = str(Path(__file__).resolve().parents[2])
    path = [package, *(str(Path(folder).absolute()) for folder in sys.path if isinstance(folder, str) and folder)]
    command = [str(sys.executable), "-P", "-c", _COMPILER, json.dumps(path), name, kinds]
    try:
        root = Path(__file__).absolute().anchor
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL, env=settings, cwd=root
        ) as done:
            _compilers.add(done)
            try:
                code, errors = done.communicate()
            except BaseException:
                done.kill()
                raise
            finally:
                _compilers.discard(done)
        if done.returncode == 0 and MARK in code:
            return code.rpartition(MARK)[2]
        said = errors.decode(errors="replace").strip().splitlines()
        said = f"{said[-1] if said else 'nothing was said'} (exit {done.returncode})"
    except OSError as problem:
        said = str(problem)
    raise EnsembleFerError(
        f"the neighbour search could not be compiled: {said}\n"
        "It needs a Python that can be started with numba in it. If numba works otherwise, report this; else install "
        "it again: pip install --force-reinstall numba"
    )


@lru_cache(maxsize=1)
def _made_by() -> bytes:
    """What machine code depends on, beside the types; nothing where that cannot be read."""
    import llvmlite
    import llvmlite.binding as llvm

    try:
        sources = [pkgutil.get_data(__name__.rpartition(".")[0], file) or b"" for file in _SOURCES]
    except OSError:
        return b""
    found = find_spec("numba")  # its version, without the time its start takes
    version = Path(found.origin).with_name("_version.py") if found and found.origin else Path()
    parts = [*sources, version.read_bytes() if version.is_file() else b"", llvmlite.__version__.encode()]
    machine = [llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
    return b"\0".join([*parts, *(part.encode() for part in machine)])


def _stem(name: str, kinds: str) -> str:
    return f"{name}-{hashlib.sha256(_made_by() + name.encode() + kinds.encode()).hexdigest()[:16]}"


def _folders() -> list[Path]:
    """Where code is kept: beside its source as Python keeps its own, or in the user's cache."""
    if not _made_by():
        return []
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111 - needs no home
    folders = [Path(cache_from_source(__file__)).parent, cache / "ensemble-fer"]
    return [folder for folder in folders if folder.is_absolute()]


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
