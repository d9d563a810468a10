"""Where studies are kept, and who is alive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ensemble_fer.errors import EnsembleFerError, MissingError, UsageError
from ensemble_fer.tune import storage
from ensemble_fer.tune.storage import Presence, is_alive, open_storage, shown_url, sqlite_file, sqlite_url, sweep


def test_a_path_with_characters_that_mean_something_in_an_address(tmp_path: Path) -> None:
    path = tmp_path / "what? 100 % {odd} #1" / "study.db"
    url = sqlite_url(path)
    assert sqlite_file(url) == path
    opened = open_storage(url, interval=5, grace=10, create=True)
    assert path.is_file()
    with opened.engine.connect() as connection:
        assert connection.exec_driver_sql("pragma journal_mode").scalar() == "wal"
    assert (opened.heartbeat_interval, opened.grace_period) == (5, 10)


def test_addresses_of_servers_have_no_file_and_show_no_password() -> None:
    url = "postgresql://me:secret@host/studies"
    assert sqlite_file(url) is None
    assert shown_url(url) == "postgresql://me:***@host/studies"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("study.db", "no address of a database"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("redis://localhost", "only these have heartbeats"),
    ],
)
def test_what_is_no_database_for_several_processes_is_refused(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sqlite_file(url)


def test_a_missing_driver_and_an_unreachable_file_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="pip install"):
        open_storage("postgresql+nodriver://me:secret@host/x", interval=5, grace=10, create=True)
    (tmp_path / "study.db").mkdir()
    with pytest.raises(EnsembleFerError, match=r"study\.db.* cannot be used: unable to open"):
        open_storage(sqlite_url(tmp_path / "study.db"), interval=5, grace=10, create=True)


def test_sqlite_is_refused_on_a_network_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    monkeypatch.setattr(storage, "_MOUNTS", mounts)
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x {tmp_path}/far nfs4 rw 0 0\n")
    assert sqlite_file(sqlite_url(tmp_path / "study.db"))
    with pytest.raises(UsageError, match=r"network disk \(nfs4\).*postgresql://"):
        sqlite_file(sqlite_url(tmp_path / "far" / "runs" / "study.db"))


def test_presence_ends_with_the_process(tmp_path: Path) -> None:
    with Presence(tmp_path) as here:
        assert is_alive(tmp_path, here.token) is True
        sweep(tmp_path)
        assert is_alive(tmp_path, here.token) is True
    assert is_alive(tmp_path, here.token) is False
    assert is_alive(tmp_path, "unknown") is None

    script = (
        "import sys; from pathlib import Path; from ensemble_fer.tune.storage import Presence\n"
        f"with Presence(Path({str(tmp_path)!r})) as p: print(p.token, flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    token = other.stdout.readline().strip()
    assert is_alive(tmp_path, token) is True
    os.kill(other.pid, signal.SIGKILL)
    other.communicate()
    assert is_alive(tmp_path, token) is False
    sweep(tmp_path)
    assert not list(tmp_path.iterdir())
