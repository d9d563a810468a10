"""What goes wrong with the database of a study, in words: a driver that is missing, a full disk, a damaged file."""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.exceptions import StorageInternalError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from ensemble_fer.errors import EnsembleFerError, StoreError
from ensemble_fer.tune.storage import shown_url, sqlite_file

_PACKAGES = {"psycopg": '"psycopg[binary]"', "psycopg2": "psycopg2-binary", "mysqldb": "mysqlclient"}
"""What pip calls a driver, where that is not its own name."""
_OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
_FULL = ("disk is full", "no space left", "disk quota exceeded")
# What a sound file can meet too: its disk or the others who use it are to blame.
_PASSING = (*_FULL, "locked", "readonly", "read-only", "disk i/o error", "permission denied")
_DAMAGE = (
    *("malformed", "not a database", "no such table", "no such column"),
    *("defined enum values", "unknown distribution class", "codec can't decode"),  # what nobody has written
)
_DATABASE_ERRORS = (StorageInternalError, SQLAlchemyError, sqlite3.Error)
_ODD = (LookupError, ValueError)


def driver_hint(url: str) -> str:
    """How to get the driver that SQLAlchemy asks for with this address."""
    try:
        driver = make_url(url).get_driver_name()
    except NoSuchModuleError:
        return f"SQLAlchemy knows no database {make_url(url).get_backend_name()!r} without a package for it."
    return f"Get it:  pip install {_PACKAGES.get(driver, driver)}"


def way_out(url: str, study: str, store: Path) -> str:
    """What to do about a database that is past mending."""
    file = sqlite_file(url)
    if file is None:
        return "Give another --name or --storage."
    if file == store.absolute() / "tune" / study / "study.db":
        return f"Take the study out of the store, with its results, and search anew:  ensemble-fer runs remove {study}"
    return f"Move {file} away, or give another --storage."


def reason_of(error: BaseException) -> str:
    """The first line of what lies at the bottom: the message of a driver may go on with the whole address."""
    while True:
        deeper = getattr(error, "orig", None) or error.__cause__
        if not isinstance(deeper, BaseException):
            return (str(error) or type(error).__name__).splitlines()[0]
        error = deeper


def is_of_database(error: BaseException) -> bool:
    """Whether an error is one of the database, or of a disk that is full or fails, not of the training."""
    return isinstance(error, _DATABASE_ERRORS) or _is_of_disk(error)


def _is_of_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _OF_DISK:
        return True
    return any(words in reason_of(error).lower() for words in _FULL)


def unusable(error: BaseException, url: str, remedy: str) -> EnsembleFerError:
    """The error of a database that could not be opened.

    Parameters
    ----------
    error : exception
        What SQLAlchemy or Optuna raised.
    url : str
    remedy : str
        See ``way_out``.
    """
    file, reason = sqlite_file(url), reason_of(error).rstrip(".")
    said = f"the database {shown_url(url)} cannot be used: {reason}"
    elsewhere = file is None and not isinstance(error, RuntimeError)  # which says of another version of Optuna
    if elsewhere or _is_passing(reason) or (file and "unable to open" in reason and not file.is_dir()):
        return EnsembleFerError(f"{said}. The same command goes on when that is mended.")
    return StoreError(f"{said}. {remedy}")


@contextmanager
def explained(url: str, remedy: str) -> Iterator[None]:
    """Turn what a database raises while a study is worked on into errors that say which one, why, and what to do.

    Raises
    ------
    StoreError
        It is damaged.
    EnsembleFerError
        It could not be read or written; what was done before is kept.
    """
    try:
        yield
    except EnsembleFerError:
        raise
    except json.JSONDecodeError as error:
        place = sqlite_file(url) or shown_url(url)
        raise StoreError(f"{place} is damaged: a value in it is no JSON ({error}). {remedy}") from error
    except Exception as error:
        place = sqlite_file(url) or shown_url(url)
        reason = str(error).partition(". ")[0] if isinstance(error, _ODD) else reason_of(error)
        if isinstance(error, _DATABASE_ERRORS + _ODD) and any(words in reason.lower() for words in _DAMAGE):
            raise StoreError(f"{place} is damaged: {reason}. {remedy}") from error
        if not is_of_database(error):
            raise
        if not isinstance(error, _DATABASE_ERRORS):
            # A checkpoint; they lie in the store, as the database does unless it is told otherwise.
            place = getattr(error, "filename", None) or f"the disk of {place}"
        raise EnsembleFerError(
            f"{place} could not be written: {reason}. What was done before is kept; when there is room again, or "
            "whatever it was is mended, the same command goes on."
        ) from error


def refuse_emptied(url: str, remedy: str) -> None:
    """Refuse a file of nothing that was a study's: to be called under its lock, when nobody is about to fill it.

    A process that works on a study leaves a folder beside its file. Without that folder an empty file is a new one, or
    of a process that was killed before it had made the tables: nothing is lost.

    Raises
    ------
    StoreError
    """
    file = sqlite_file(url)
    if file is None or not file.is_file() or file.stat().st_size:
        return
    if file.with_name(f"{file.name}.workers").is_dir():
        raise StoreError(f"{file} is empty, though the study was begun: its trials are lost. {remedy}")


def _is_passing(reason: str) -> bool:
    return any(words in reason.lower() for words in _PASSING)
