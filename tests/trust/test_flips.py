"""A bit that flips in a stored file is noticed when the file is used, and the file is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ensemble_fer.data.splits import split_of
from ensemble_fer.data.synthetic import synth_data
from ensemble_fer.errors import EnsembleFerError, StoreError
from ensemble_fer.looks import count_look, damage, note_choosing
from ensemble_fer.resample import make_resampling
from ensemble_fer.store import Store
from ensemble_fer.train.checkpoint import State, load_checkpoint, save_checkpoint
from ensemble_fer.upkeep import check_store
from tests.trust.campaign import cases, whole


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("flips") / "store")
    data = synth_data(store, rows=220, name="faces")
    split_of(store, data)
    make_resampling(store, data, method="smote", quiet=True)

    def write(folder: Path) -> dict:
        (folder / "weights.safetensors").write_bytes(bytes(range(256)) * 40)
        (folder / "history.jsonl").write_text('{"epoch": 1, "macro_f1": 0.5}\n')
        return {"select": {"macro_f1": 0.5}}

    store.put("run", {"recipe": {}}, [data.id], write, name="run")
    return store


def use(store: Store, path: Path) -> None:
    """What every command does with a stored file before it believes it."""
    kind, name, *rest = path.relative_to(store.root).parts
    if kind == "refs":
        store.get(name, rest[0])
        return
    artifact = store.by_id(kind, name)
    if rest[0] != "manifest.json":
        artifact.file(rest[0])


def files_of(kept: Store) -> list[Path]:
    """Not the log of looks, which is lines, and the faces that were seen, which are looked up by what they are."""
    own = {kept.root / "looks.jsonl", *(kept.root / "seen").rglob("*")}
    files = sorted(path for path in kept.root.rglob("*") if path.is_file() and path not in own)
    assert len({path.relative_to(kept.root).parts[0] for path in files}) >= 5
    return [path for path in files if path.relative_to(kept.root).parts[0] != "locks"]


def test_every_file_that_vanished_is_noticed_and_named(kept: Store, tmp_path: Path) -> None:
    for path in files_of(kept):
        moved = path.replace(tmp_path / "away")
        try:
            with pytest.raises(EnsembleFerError) as noticed:
                use(kept, path)
            assert path.name in str(noticed.value) or path.parent.name in str(noticed.value), path
            problems = check_store(kept)["problems"]
            # A name that is gone leaves an artifact without one, which is nothing wrong.
            assert problems or path.parent.parent.name == "refs", path
        finally:
            moved.replace(path)
    assert check_store(kept)["problems"] == []


def test_every_flip_is_noticed_and_named(kept: Store) -> None:
    """1,000 flips over all files: manifests, names, faces, splits, resamplings, weights."""
    files = files_of(kept)
    for number, rng in cases("flips", 1000, quick=150):
        path = files[int(rng.integers(len(files)))]
        content = path.read_bytes()
        at, bit = int(rng.integers(len(content))), int(rng.integers(8))
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :])
        try:
            with pytest.raises(EnsembleFerError) as noticed:
                use(kept, path)
            assert path.name in str(noticed.value) or path.parent.name in str(noticed.value), number
        finally:
            path.write_bytes(content)
    assert check_store(kept)["problems"] == []


def test_every_bit_of_a_name_is_noticed(kept: Store) -> None:
    """All of them: drawn ones may miss the line's end."""
    for path in (path for path in files_of(kept) if "refs" in path.parts):
        content = path.read_bytes()
        for place in range(8 * len(content)):
            at, bit = divmod(place, 8)
            path.write_bytes(content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :])
            with pytest.raises(EnsembleFerError):
                use(kept, path)
            assert check_store(kept)["problems"], (path, place)
        path.write_bytes(content)
    assert check_store(kept)["problems"] == []


def test_a_flip_in_the_log_of_looks_hides_none(store: Store) -> None:
    """Nor in the faces that were seen: a look that cannot be read counts, and so does a choice."""
    faces = np.random.default_rng(0).integers(0, 256, (12, 48, 48), dtype=np.uint8)
    none = faces[10:]  # a select part that has none of them
    note_choosing(store, faces[3:8], "a")
    for source in ("a", "b"):
        count_look(store, faces[:6], none, source)
    assert damage(store) == []
    log = store.root / "looks.jsonl"
    content = log.read_bytes()
    files = [log, *sorted((store.root / "seen").iterdir())]
    noticed = 0
    for number, rng in cases("looks", 1000, quick=80):
        path = files[int(rng.integers(len(files)))]
        sound = path.read_bytes()
        at, bit = int(rng.integers(len(sound))), int(rng.integers(8))
        path.write_bytes(sound[:at] + bytes([sound[at] ^ (1 << bit)]) + sound[at + 1 :])
        noticed += bool(damage(store))
        look = count_look(store, faces[:6], none, "c")
        assert look.looks >= 3, (number, path.name, at, bit)
        assert look.chosen_on >= 3, (number, path.name, at, bit)
        path.write_bytes(sound)
        log.write_bytes(content)
    assert noticed or not whole("looks")
    log.write_bytes(content[:-20])
    assert count_look(store, faces[:6], none, "c").chosen_on == 3, "a torn line has chosen nothing"
    assert "damaged" in "".join(check_store(store)["problems"])


def test_every_flip_in_a_checkpoint_is_noticed_and_named(tmp_path: Path) -> None:
    """That of an unfinished training: weights, what the optimizer keeps, averages, scores so far."""
    network = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 7))
    optimizer = torch.optim.AdamW(network.parameters())
    for _ in range(2):
        network(torch.randn(8, 6)).square().sum().backward()
        optimizer.step()
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    history = [{"epoch": 1, "step": 2, "macro_f1": 0.5}]
    save_checkpoint(tmp_path, network, optimizer, State(2, history=history, best=weights, average=weights))
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    for number, rng in cases("checkpoint", 1000, quick=60):
        at, bit = int(rng.integers(len(content))), int(rng.integers(8))
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :])
        with pytest.raises(StoreError) as noticed:
            load_checkpoint(tmp_path, network, optimizer)
        assert path.name in str(noticed.value), (number, at, bit)
    path.write_bytes(content)
    state = load_checkpoint(tmp_path, network, optimizer)
    assert state is not None
    assert state.history == history
