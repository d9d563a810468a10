"""What is no file on disk, or larger than anything that is meant, is refused before it is read."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from ensemble_fer import looks
from ensemble_fer.artifact import MANIFEST
from ensemble_fer.config import resolve_recipe
from ensemble_fer.data.importing import import_data
from ensemble_fer.data.votes_csv import read_votes
from ensemble_fer.errors import BadData, EnsembleFerError, StoreError, UsageError
from ensemble_fer.evaluate.predictions import load_predictions
from ensemble_fer.export.outline import is_mostly_weights
from ensemble_fer.export.session import MOST_BESIDE, open_graph
from ensemble_fer.files import MOST_JSON, UnfitFile, load_arrays, opened_file, read_file, sha256_of
from ensemble_fer.models import build, custom
from ensemble_fer.models.pretrained import MOST_LISTED, start_weights
from ensemble_fer.store import Store
from ensemble_fer.study.reading import read_study
from ensemble_fer.train.starting import digest_of_weights, read_module, run_of_weights
from tests.trust.campaign import answered, within_memory
from tests.trust.test_graphs import small_graph

HUGE = 1_400_000_000
"""Bytes that a file says it has, none of which are on the disk."""


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """A pipe that nobody writes to is waited for without end."""

    def late(number: int, frame: object) -> None:
        raise TimeoutError("it was waited for")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def huge(path: Path, start: bytes = b"") -> Path:
    path.write_bytes(start)
    os.truncate(path, HUGE)
    return path


def pipe(path: Path) -> Path:
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def weights(file: Path) -> None:
    start_weights(build("compact", 0.0), "compact", str(file))


READERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "graph": (open_graph, "g.onnx"),
    "weights": (weights, "w.safetensors"),
    "digest": (digest_of_weights, "w.safetensors"),
    "module": (read_module, "m.py"),
    "code": (lambda path: custom.build(0.0, f"{path}:f"), "m.py"),
    "recipe": (resolve_recipe, "r.toml"),
    "study": (read_study, "s.toml"),
    "votes": (read_votes, "v.csv"),
    "predictions": (load_predictions, "p.npz"),
    "arrays": (load_arrays, "a.npz"),
    "csv": (lambda path: import_data(Store(path.parent / "store"), path), "f.csv"),
    "npz": (lambda path: import_data(Store(path.parent / "store"), path), "f.npz"),
}


@pytest.mark.parametrize("reader", READERS)
def test_pipes_and_devices_are_refused(reader: str, tmp_path: Path) -> None:
    """A pipe, what never ends, and a link to it."""
    read, name = READERS[reader]
    with pytest.raises(EnsembleFerError, match=r"a pipe, a device|there is no"):
        read(pipe(tmp_path / name))
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(EnsembleFerError, match=r"a pipe, a device|there is no"):
        read(tmp_path / name)


@pytest.mark.parametrize("reader", sorted({*READERS} - {"digest"}))
def test_files_of_more_than_a_gigabyte_are_refused_in_little_memory(reader: str, tmp_path: Path) -> None:
    """Zeros, and zeros after what such files begin with."""
    read, name = READERS[reader]
    for start in (b"", b"\x08\x09" + b"a" * 6 + b"{", b"\x80\x02", b"PK\x03\x04"):
        with within_memory(200):
            assert answered(lambda start=start: read(huge(tmp_path / name, start))) is None, start


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    with pytest.raises(UnfitFile, match="it has 5 bytes; expected at most 4"):
        read_file(path, 4)
    with pytest.raises(IsADirectoryError):
        read_file(tmp_path, 4)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "none", 4)
    with pytest.raises(UnfitFile, match="a pipe"), opened_file(pipe(tmp_path / "p")):
        pass
    with within_memory(50):
        assert len(sha256_of(huge(path))) == 64


def test_what_graphs_hold_beside_weights_is_limited_where_they_are_large(tmp_path: Path) -> None:
    """A graph whose weights are 1.4 GB of zeros is one; one with a name as long is none, nor is one that ends early."""
    path = tmp_path / "g.onnx"
    model = small_graph()
    model.graph.initializer[0].raw_data = bytes(64_000_000)
    path.write_bytes(model.SerializeToString())
    with path.open("rb") as file:
        assert is_mostly_weights(file, path.stat().st_size, 1000)
        assert not is_mostly_weights(file, path.stat().st_size - 1, 1000)
    assert answered(lambda: open_graph(path)) is None  # weights of another size than they say
    model = small_graph()
    model.doc_string = "a" * (MOST_BESIDE + 1)
    path.write_bytes(model.SerializeToString())
    with within_memory(20), pytest.raises(UsageError, match=r"more than 50,000,000 are no weights of one\. Expected"):
        open_graph(path)
    model = small_graph()
    model.graph.node.extend([onnx.NodeProto()] * 100)
    path.write_bytes(model.SerializeToString())
    with path.open("rb") as file:
        assert not is_mostly_weights(file, path.stat().st_size, 100)


def test_weights_of_another_network_are_not_read(tmp_path: Path) -> None:
    """1.2 GB of them: what fits no network stays on the disk, and is compared with no run."""
    store, path = Store(tmp_path / "store"), tmp_path / "w.safetensors"
    header = json.dumps({"a": {"dtype": "F32", "shape": [300_000_000], "data_offsets": [0, 1_200_000_000]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 8 + len(header) + 1_200_000_000)
    with within_memory(100):
        assert run_of_weights(store, path, digest_of_weights(path)) is None
        with pytest.raises(UsageError, match=r"nothing in .* fits"):
            weights(path)


def test_lists_of_tensors_are_limited(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a" * 100: torch.zeros(1)}, path)
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    longer = (MOST_LISTED + 8 - MOST_LISTED % 8).to_bytes(8, "little")
    path.write_bytes(longer + content[8 : 8 + size] + b" " * (MOST_LISTED + 8 - size) + content[8 + size :])
    with pytest.raises(UsageError, match=r"lists its tensors in 10,000,00\d bytes; expected at most 10,000,000"):
        weights(path)
    torch.save({"a": torch.zeros(1), "b": "x" * (MOST_LISTED + 1)}, path)
    with pytest.raises(UsageError, match="lists its tensors in"):
        weights(path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """With one set of a name, and a look at it."""
    found = Store(tmp_path / "store")
    found.put("data", {"a": 1}, [], lambda folder: {}, name="one")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 48, 48), dtype=np.uint8)
    assert looks.count_look(found, images[:4], images[4:], "run").looks == 1
    return found


def test_references_and_manifests_that_say_they_are_huge(store: Store) -> None:
    identity = store.ids("data")[0]
    reference, manifest = store.root / "refs" / "data" / "one", store.root / "data" / identity / MANIFEST
    whole = reference.read_bytes()
    for content in (huge, lambda path: huge(path, whole), lambda path: path.write_bytes(whole + b" " * 2000 + b"x")):
        content(reference)
        with within_memory(50), pytest.raises(StoreError, match="damaged reference"):
            store.get("data", "one")
    reference.write_bytes(whole)
    assert store.get("data", "one").id == identity
    huge(manifest, manifest.read_bytes())
    with within_memory(50), pytest.raises(StoreError, match=r"it has 1,400,000,000 bytes; expected at most 24,000,000"):
        store.get("data", "one")
    manifest.write_bytes(b"[" + b'{"":0},' * (MOST_JSON // 7 - 1) + b"{}]")
    with within_memory(), pytest.raises(StoreError, match="it holds a list; expected an object"):
        store.get("data", "one")
    pipe(manifest)
    with pytest.raises(StoreError, match="a pipe, a device"):
        store.get("data", "one")


def test_the_log_of_looks_is_read_a_line_at_a_time(store: Store) -> None:
    """Of a line that is longer than any, each look that it may hold counts as the worst."""
    log = store.root / looks.LOG
    whole = log.read_bytes()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 48, 48), dtype=np.uint8)

    def look() -> looks.Look:
        return looks.count_look(store, images[:4], images[4:], "run")

    log.write_bytes(whole)
    huge(log, whole)
    with within_memory(50):
        assert (found := look()).looks == 3
    assert found.chosen_on == 4
    with within_memory(50):
        assert looks.damage(store) == [f"{log} line 2: damaged, and counted as a look and a choice"]
    long = whole.rstrip() * 5000  # more than one piece; the words at its borders count once
    log.write_bytes(whole + long + b"\n" + whole)
    assert look().looks == 1 + 5000 + 1 + 1
    assert looks.damage(store) == [f"{log} line 2: damaged, and counted as a look and a choice"]
    log.write_bytes(b"x\n" * 2000)
    assert len(damage := looks.damage(store)) == 1001
    assert damage[-1].endswith("1,000 more")
    log.write_bytes(whole[:-1])  # a kill has torn it
    assert look().looks == 2
    pipe(log)
    with pytest.raises(StoreError, match=r"looks\.jsonl cannot be read: it is a pipe"):
        look()
    assert "it is a pipe" in looks.damage(store)[0]


def test_many_parts_in_the_log_take_little_memory(store: Store) -> None:
    log = store.root / looks.LOG
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8000, 48, 48), dtype=np.uint8)
    with log.open("a") as file:
        file.writelines(f'{{"part":"{number:016x}","role":"test"}}\n' for number in range(15_000))
    with within_memory(50):
        assert looks.count_look(store, images[:4000], images[4000:], "run").looks == 15_002


def test_faces_that_were_seen_and_say_they_are_huge_count_as_lost(store: Store) -> None:
    (seen,) = (store.root / looks.SEEN).iterdir()
    huge(seen, seen.read_bytes())
    with within_memory(50):
        assert looks.damage(store) == [f"{seen} is not what was written: all faces count as seen"]


def test_votes_of_the_size_of_pixels_say_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"it has 1,400,000,000 bytes; .* votes have about 2 MB\. Is it the file of the"):
        read_votes(huge(tmp_path / "v.csv"))
