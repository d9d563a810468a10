"""Members of one's own: ``FILE.py:FUNCTION`` makes a module, and running it runs the code in that file."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import linecache
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ensemble_fer.errors import EnsembleFerError, MissingError, UsageError, unknown_name
from ensemble_fer.files import UnfitFile, read_file
from ensemble_fer.models.member import FACE, Member
from ensemble_fer.models.paths import typed_path
from ensemble_fer.models.transfer import one_line
from ensemble_fer.models.trial import learn_a_batch
from ensemble_fer.types import N_CLASSES

MARK = ".py:"
MOST_CODE = 10_000_000
"""Bytes of a file of code; nobody writes as many."""
EXPECTED = f"a module that maps float32 [n, 1, {FACE}, {FACE}] to logits [n, {N_CLASSES}], or a Member"


@dataclass(frozen=True)
class Code:
    """A file of one's own.

    Parameters
    ----------
    file : Path
        What is read and run.
    shown : Path
        What errors name: where the file was copied from, if it is a copy.
    """

    file: Path
    shown: Path

    @property
    def alone(self) -> bool:
        """Whether it is a copy, without what lies beside the original."""
        return self.file != self.shown


def build(dropout: float, name: str, *, shown: Path | None = None, training: bool = True) -> Member:
    """The member that a function of one's own makes. **Runs the code in that file**, with all it may do.

    What the code prints goes to stderr.

    Parameters
    ----------
    dropout : float
        Given to the function if it has a parameter of that name, or one without a default.
    name : str
        ``FILE.py:FUNCTION``; the function gives a ``Member``, or a module that maps float32 [n, 1, 48, 48], gray from
        -2 to 2, to logits [n, 7]. Files beside it can be imported.
    shown : Path, optional
        What errors name in place of the file, where it is a copy.
    training : bool
        Try a step of training as well, which changes neither the member nor torch's random numbers.

    Raises
    ------
    MissingError
        There is no such file.
    UsageError
        It has no such function, or the function gives something else, or what cannot be trained; or the file is a
        copy, and needs others that lie beside the original.
    EnsembleFerError
        The code in the file failed.
    """
    file, function = split_name(name)
    code = Code(file, shown or file)
    module = _run(code)
    made = getattr(module, function, None)
    if not callable(made):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise unknown_name(f"function in {code.shown}", function, known)
    name = f"{code.shown}:{function}"
    body = _guarded(code, f"{function}()", lambda: made(**_arguments(made, dropout)))
    if not isinstance(body, nn.Module):
        raise UsageError(f"{name} gave a {type(body).__name__}; expected {EXPECTED}.")
    member = body if isinstance(body, Member) else Member(body, FACE)
    member.hold_frozen()
    for count, words in ((2, "two faces"), (1, "one face")):
        logits = _guarded(code, f"a batch of {words}", lambda: _scored(member, count))  # noqa: B023 - called at once
        if not _is_logits(logits, count):
            found = (
                f"{logits.dtype} {list(logits.shape)}" if isinstance(logits, torch.Tensor) else type(logits).__name__
            )
            raise UsageError(f"{name} gave {found} for {words}; expected {EXPECTED} in float32.")
    if training and (problem := _guarded(code, "a step of training", lambda: learn_a_batch(member))):
        raise UsageError(f"{name} cannot be trained: {problem}. Expected {EXPECTED}.")
    return member.train()


def _scored(member: Member, count: int) -> Any:
    """What a member gives for so many black faces; torch's random numbers stay as they were."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        return member.eval()(torch.zeros(count, FACE, FACE, dtype=torch.uint8))


def _is_logits(given: Any, count: int) -> bool:
    return isinstance(given, torch.Tensor) and given.shape == (count, N_CLASSES) and given.dtype == torch.float32


def split_name(name: str) -> tuple[Path, str]:
    """File and function of ``FILE.py:FUNCTION``; the path may have colons of its own.

    Raises
    ------
    UsageError
        One of both is missing.
    MissingError
        The path begins with the home folder of nobody here.
    """
    path, _, function = name.rpartition(":")
    if not path.endswith(".py") or not function.isidentifier():
        raise UsageError(f"model {name!r}: expected FILE.py:FUNCTION, for instance my_network.py:build.")
    return typed_path(path), function


def _read(file: Path) -> bytes:
    try:
        return read_file(file, MOST_CODE)
    except UnfitFile as error:
        raise UsageError(f"{file} cannot be read as a module: {error.strerror}.") from error
    except OSError as error:
        raise MissingError(
            f"there is no file {file} to read ({error.strerror}). Give FILE.py:FUNCTION, the path as seen from here."
        ) from error


def _run(code: Code) -> ModuleType:
    """The file as a module, read anew each time, with what it imports from its folder: a changed file is another
    network."""
    file = code.file
    source = _read(file)
    name = f"ensemble_fer_own_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]}"
    module = ModuleType(name)
    module.__file__ = str(file)
    sys.modules[name] = module  # dataclasses look there
    linecache.checkcache(str(file))
    beside = str(file.resolve().parent)
    before = set(sys.modules)
    sys.path.insert(0, beside)
    try:
        _guarded(code, "the file", lambda: exec(compile(source, str(file), "exec"), vars(module)))
    finally:
        if beside in sys.path:
            sys.path.remove(beside)
        _forget(set(sys.modules) - before, Path(beside))
    return module


def _forget(names: set[str], folder: Path) -> None:
    """Forget imported modules that lie in a folder, so that they are found again only where they can be found."""
    for name in names:
        top = name.partition(".")[0]
        origin = getattr(sys.modules.get(top), "__file__", None)
        if origin and Path(origin).resolve() in (folder / f"{top}.py", folder / top / "__init__.py"):
            for each in [n for n in names if n.partition(".")[0] == top]:
                sys.modules.pop(each, None)


def _guarded(code: Code, what: str, work: Any) -> Any:
    """What ``work`` gives; whatever it raises becomes one line that names the line in the file.

    What it prints goes to stderr: stdout may be read by a program.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return work()
    except (Exception, SystemExit) as error:
        raise _told(code, what, error, _line_in(code, error)) from error


@contextlib.contextmanager
def running(code: Code | None, what: str) -> Iterator[None]:
    """Let code of one's own work inside: what it prints goes to stderr, what it raises names the line in its file.

    What is raised elsewhere, and what this package raises, stays what it is. Nothing is done for no code.

    Parameters
    ----------
    code : Code, optional
    what : str
        What is being done, for the error.

    Raises
    ------
    EnsembleFerError
        The code failed.
    """
    if code is None:
        yield
        return
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (EnsembleFerError, MemoryError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:
        if (line := _line_in(code, error)) is None:
            raise
        raise _told(code, what, error, line) from error


def _line_in(code: Code, error: BaseException) -> int | None:
    """The line of a file at which an error came up, if it did there."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(code.file)]
    return error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None


def _told(code: Code, what: str, error: BaseException, line: int | None) -> EnsembleFerError:
    """The error in words."""
    where = f"{code.shown}{f', line {line}' if line else ''}"
    if code.alone and _missed(code, error):
        return UsageError(
            f"{where}: {what} failed: {one_line(error)}. Only this one file is kept with a run, and trained: put "
            "all that it takes from its folder into it."
        )
    return EnsembleFerError(f"{where}: {what} failed: {one_line(error)}. Expected {EXPECTED}.")


def _missed(code: Code, error: BaseException) -> bool:
    """Whether an error comes from what lies beside the original of a copy, and not beside the copy."""
    if isinstance(error, ImportError) and error.name:
        top = code.shown.absolute().parent / error.name.partition(".")[0]
        return top.is_dir() or top.with_name(f"{top.name}.py").is_file()
    if not isinstance(error, FileNotFoundError) or not error.filename:
        return False
    wanted = Path(str(error.filename))
    if wanted.is_relative_to(code.file.parent):
        wanted = wanted.relative_to(code.file.parent)
    return (code.shown.absolute().parent / wanted).exists()


def _arguments(function: Any, dropout: float) -> dict[str, Any]:
    """``dropout`` by name, if the function has it or needs one argument."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return {}
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    wanted = [p.name for p in named if p.name == "dropout"] or [p.name for p in named if p.default is p.empty][:1]
    return dict.fromkeys(wanted, dropout)
