"""Where a study is kept: an SQLite file in the store, or a database server that many machines share.

On one machine a lock of the file system makes what several processes do with a study one after another, and tells at
once which of them are alive: the kernel lets go of a lock when its holder ends, however it ends. Between machines there
are only the database's own guarantees and heartbeats.
"""

from __future__ import annotations

import fcntl
import os
import urllib.parse
import uuid
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any

from optuna.storages import RDBStorage

from ensemble_fer.errors import MissingError, UsageError

_NETWORK = ("nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "fuse.sshfs")
_MOUNTS = Path("/proc/self/mounts")
_BUSY_SECONDS = 120


def sqlite_url(path: Path) -> str:
    """The address of an SQLite file."""
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=str(path.absolute())).render_as_string(hide_password=False)


def shown_url(url: str) -> str:
    """The address without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        raise UsageError(
            f"--storage {url!r} is no address of a database. Expected for instance sqlite:///study.db or "
            "postgresql://USER:PASSWORD@HOST/DATABASE."
        ) from None


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite address; None for a server.

    Raises
    ------
    UsageError
        The database would be in memory, where no other process finds it, or on a network disk, where SQLite's locks
        do not hold; or the address is none of a database.
    """
    from sqlalchemy.engine import make_url

    kind = shown_url(url).partition(":")[0].partition("+")[0]
    if kind in ("redis", "journal", "grpc", "http", "https", "file"):
        raise UsageError(f"--storage {shown_url(url)}: expected a database; only these have heartbeats.")
    if kind != "sqlite":
        return None
    database = make_url(url).database or ""
    if database.startswith("file:"):
        database = urllib.parse.unquote(database.removeprefix("file:").partition("?")[0])
    if database in ("", ":memory:"):
        raise UsageError(f"--storage {url}: a database in memory is gone with its process. Name a file.")
    path = Path(database).absolute()
    network = _network_disk(path)
    if network:
        raise UsageError(
            f"{path} lies on a network disk ({network}), where the locks of SQLite do not hold and trials get lost. "
            "Give a local file, --storage sqlite:////local/study.db, or a server, --storage postgresql://…"
        )
    return path


def _network_disk(path: Path) -> str:
    """Kind of the network file system that a path lies on, or nothing."""
    try:
        lines = _MOUNTS.read_text().splitlines()
    except OSError:
        return ""
    mounts = {parts[1].replace("\\040", " "): parts[2] for line in lines if len(parts := line.split()) > 2}
    real = path.resolve()
    for folder in (real, *real.parents):
        if str(folder) in mounts:
            return mounts[str(folder)] if mounts[str(folder)] in _NETWORK else ""
    return ""


def open_storage(url: str, *, interval: int, grace: int, create: bool, remedy: str = "") -> RDBStorage:
    """The database of a study.

    Parameters
    ----------
    url : str
        Address as SQLAlchemy takes it.
    interval, grace : int
        Seconds between heartbeats of a running trial, and after how many without one it counts as dead.
    create : bool
        Make the tables where they are missing; one process does that before the others come.
    remedy : str
        What to do about a database that is damaged.

    Raises
    ------
    MissingError
        No driver for it is installed.
    EnsembleFerError
        It cannot be used.
    """
    from sqlalchemy.event import listen
    from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

    from ensemble_fer.tune.trouble import driver_hint, unusable

    file = sqlite_file(url)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that heartbeats are an experimental feature of Optuna
            storage = RDBStorage(
                url.replace("{", "{{").replace("}", "}}"),  # Optuna fills in braces
                engine_kwargs={"connect_args": {"timeout": _BUSY_SECONDS}} if file is not None else None,
                heartbeat_interval=interval,
                grace_period=grace,
                skip_table_creation=not create,
            )
        if file is not None:
            listen(storage.engine, "connect", _set_up_sqlite)
            storage.engine.dispose()  # connections that were made before
            storage.remove_session()
            with storage.engine.connect():
                pass
    except (ImportError, NoSuchModuleError) as error:
        raise MissingError(
            f"no driver for {shown_url(url)} is installed ({error.__cause__ or error}). {driver_hint(url)}"
        ) from error
    except (SQLAlchemyError, RuntimeError) as error:
        raise unusable(error, url, remedy) from error
    return storage


def _set_up_sqlite(connection: Any, record: object) -> None:
    """A log beside the file, so that readers and the writer do not wait for each other.

    It is synced now and then and not with each write: what a killed process has written is safe all the same, and after
    a power failure the study is whole and may miss its last seconds.
    """
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


class Presence:
    """That a process is alive, for the others on this machine: it holds the lock of a file of its own.

    Parameters
    ----------
    folder : Path
        Holds one empty file for each process that takes part.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.token = f"{os.uname().nodename}-{uuid.uuid4().hex[:12]}"

    def __enter__(self) -> Presence:
        # Locked before it has its name: nobody finds a file of a living process without its lock.
        unnamed = self.folder / f".{self.token}"
        self._file = unnamed.open("xb")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        unnamed.rename(self.folder / self.token)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def is_alive(folder: Path, token: str) -> bool | None:
    """Whether the process with this token lives; None where this machine does not know it."""
    try:
        with (folder / token).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return True
    return False


def sweep(folder: Path) -> None:
    """Remove the files of processes that have ended."""
    for path in folder.glob("[!.]*"):
        if is_alive(folder, path.name) is False:
            path.unlink(missing_ok=True)
