"""Members of one's own: ``FILE.py:FUNCTION`` makes a module, and running it runs the code in that file."""

from __future__ import annotations

import hashlib
import inspect
import linecache
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ensemble_fer.errors import EnsembleFerError, MissingError, UsageError, unknown_name
from ensemble_fer.models.member import FACE, Member
from ensemble_fer.models.transfer import one_line
from ensemble_fer.types import N_CLASSES

MARK = ".py:"
EXPECTED = f"a module that maps float32 [n, 1, {FACE}, {FACE}] to logits [n, {N_CLASSES}], or a Member"


def build(dropout: float, name: str) -> Member:
    """The member that a function of one's own makes. **Runs the code in that file**, with all it may do.

    Parameters
    ----------
    dropout : float
        Given to the function if it has a parameter of that name, or one without a default.
    name : str
        ``FILE.py:FUNCTION``; the function gives a ``Member``, or a module that maps float32 [n, 1, 48, 48], gray from
        -2 to 2, to logits [n, 7]. Files beside it can be imported.

    Raises
    ------
    MissingError
        There is no such file.
    UsageError
        It has no such function, or the function gives something else.
    EnsembleFerError
        The code in the file failed.
    """
    file, function = split_name(name)
    module = _run(file)
    made = getattr(module, function, None)
    if not callable(made):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise unknown_name(f"function in {file}", function, known)
    body = _guarded(file, f"{function}()", lambda: made(**_arguments(made, dropout)))
    if not isinstance(body, nn.Module):
        raise UsageError(f"{name} gave a {type(body).__name__}; expected {EXPECTED}.")
    member = body if isinstance(body, Member) else Member(body, FACE)
    faces = torch.zeros(2, FACE, FACE, dtype=torch.uint8)

    def scored() -> Any:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return member.eval()(faces)

    logits = _guarded(file, "a batch of two faces", scored)
    if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != (2, N_CLASSES) or logits.dtype != torch.float32:
        found = f"{logits.dtype} {list(logits.shape)}" if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UsageError(f"{name} gave {found} for two faces; expected {EXPECTED} in float32.")
    return member.train()


def split_name(name: str) -> tuple[Path, str]:
    """File and function of ``FILE.py:FUNCTION``; the path may have colons of its own.

    Raises
    ------
    UsageError
        One of both is missing.
    """
    path, _, function = name.rpartition(":")
    if not path.endswith(".py") or not function.isidentifier():
        raise UsageError(f"model {name!r}: expected FILE.py:FUNCTION, for instance my_network.py:build.")
    return Path(path).expanduser(), function


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise MissingError(
            f"there is no file {file} to read ({error.strerror}). Give FILE.py:FUNCTION, the path as seen from here."
        ) from error


def _run(file: Path) -> ModuleType:
    """The file as a module, read anew each time: a changed file is another network."""
    source = _read(file)
    name = f"ensemble_fer_own_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]}"
    module = ModuleType(name)
    module.__file__ = str(file)
    sys.modules[name] = module  # dataclasses look there
    linecache.checkcache(str(file))
    beside = str(file.resolve().parent)
    sys.path.insert(0, beside)
    try:
        _guarded(file, "the file", lambda: exec(compile(source, str(file), "exec"), vars(module)))
    finally:
        if beside in sys.path:
            sys.path.remove(beside)
    return module


def _guarded(file: Path, what: str, work: Any) -> Any:
    """What ``work`` gives; whatever it raises becomes one line that names the line in the file."""
    try:
        return work()
    except (Exception, SystemExit) as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        where = f", line {line}" if line else ""
        raise EnsembleFerError(f"{file}{where}: {what} failed: {one_line(error)}. Expected {EXPECTED}.") from error


def _arguments(function: Any, dropout: float) -> dict[str, Any]:
    """``dropout`` by name, if the function has it or needs one argument."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return {}
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    wanted = [p.name for p in named if p.name == "dropout"] or [p.name for p in named if p.default is p.empty][:1]
    return dict.fromkeys(wanted, dropout)
