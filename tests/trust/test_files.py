"""Files that somebody has made up or something has damaged: archives, weights, graphs, recipes, studies, manifests."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from ensemble_fer.artifact import _digest_of
from ensemble_fer.config import resolve_recipe
from ensemble_fer.data.npz import read_npz
from ensemble_fer.errors import StoreError
from ensemble_fer.evaluate.predictions import load_predictions, save_predictions
from ensemble_fer.files import load_arrays
from ensemble_fer.models import build
from ensemble_fer.models.pretrained import start_weights
from ensemble_fer.store import Artifact, Store
from ensemble_fer.study.reading import read_study
from tests.evaluate.examples import some_predictions
from tests.trust.campaign import answered, cases, mutated, whole, within_memory

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.toml"))


class Runs:
    """What runs code when it is unpickled: it leaves a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.place),)


@pytest.fixture
def canary(tmp_path: Path):
    """A place where code of a hostile file would have left something."""
    place = tmp_path / "it ran"
    yield place
    assert not place.exists(), "code of a file was run"


def whole_npz(rng: np.random.Generator) -> dict[str, np.ndarray]:
    n = int(rng.integers(1, 8))
    return {
        "images": rng.integers(0, 256, (n, 48, 48), dtype=np.uint8),
        "labels": rng.integers(0, 7, n),
        "usage": rng.integers(0, 3, n),
    }


def lying_npz(rng: np.random.Generator, canary: Path) -> bytes:
    """An archive whose members lie: objects, shapes that are not there, climbing names, bombs, many members."""
    out = io.BytesIO()
    arrays = whole_npz(rng)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        kind = int(rng.integers(6))
        for key, value in arrays.items():
            member = io.BytesIO()
            if kind == 0 and key == "labels":
                np.save(member, np.array([Runs(canary)] * len(value), object), allow_pickle=True)
            elif kind == 1 and key == "images":
                np.lib.format.write_array_header_1_0(
                    member, {"descr": "|u1", "fortran_order": False, "shape": (10**12,)}
                )
                member.write(bytes(1000))
            elif kind == 2 and key == "images":
                shape = (int(rng.choice([-1, 2**62, 0])), 48, 48)
                member.write(
                    f"\x93NUMPY\x01\x00v\x00{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode(
                        "latin1"
                    )
                )
            else:
                np.save(member, value)
            name = f"../../{key}.npy" if kind == 3 else f"/tmp/{key}.npy" if kind == 4 else f"{key}.npy"
            archive.writestr(name, member.getvalue())
        if kind == 5:
            archive.writestr("more.npy", bytes(50_000_000))
            for number in range(300):
                archive.writestr(f"a{number}.npy", b"")
    return out.getvalue()


def test_archives_are_read_or_refused(tmp_path: Path, canary: Path) -> None:
    """500: a fifth whole, a third lying, the others damaged."""
    outside = set(tmp_path.parent.rglob("*.npy"))
    read = 0
    with within_memory():
        for number, rng in cases("archives", 500, quick=60):
            path = tmp_path / "a.npz"
            out = io.BytesIO()
            arrays = whole_npz(rng)
            np.savez_compressed(out, **arrays)
            chance = rng.random()
            content = out.getvalue() if chance < 0.2 else mutated(out.getvalue(), rng)
            path.write_bytes(lying_npz(rng, canary) if chance > 0.65 else content)
            found = answered(lambda path=path: read_npz(path))
            read += found is not None
            assert chance >= 0.2 or (found is not None and np.array_equal(found.images, arrays["images"])), number
            answered(lambda path=path: load_arrays(path))
            answered(lambda path=path: load_predictions(path))
    assert read or not whole("archives")
    assert set(tmp_path.parent.rglob("*.npy")) == outside


def test_kept_predictions_are_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "said.npz"
    save_predictions(path, some_predictions(40))
    content = path.read_bytes()
    for _, rng in cases("predictions", 500, quick=60):
        path.write_bytes(mutated(content, rng))
        answered(lambda: load_predictions(path))


def test_weights_are_read_or_refused(tmp_path: Path, canary: Path) -> None:
    """300: safetensors and torch files, damaged, lying about sizes, or running code."""
    member = build("compact", 0.0)
    state = {key: value.clone() for key, value in member.state_dict().items()}
    plain = save(state)
    torch_file = io.BytesIO()
    torch.save(state, torch_file)
    hostile = [
        pickle.dumps(Runs(canary)),
        pickle.dumps({"state_dict": {"a": Runs(canary)}}),
        pickle.dumps(Runs(canary), protocol=0),
    ]
    with io.BytesIO() as out:
        torch.save({"model": state, "more": Runs(canary)}, out)
        hostile.append(out.getvalue())
    path = tmp_path / "weights"
    loaded = 0
    with within_memory():
        for _, rng in cases("weights", 300, quick=40):
            match int(rng.integers(5)):
                case 0:
                    content = bytes(hostile[int(rng.integers(len(hostile)))])
                case 1:
                    head = json.dumps({"w": {"dtype": "F32", "shape": [int(rng.choice([2**40, -1, 7]))], "data_offsets": [0, int(rng.choice([2**50, 28, 4]))]}}).encode()  # fmt: skip  # noqa: E501
                    content = int(rng.choice([len(head), 2**62])).to_bytes(8, "little") + head + bytes(28)
                case 2:
                    content = mutated(torch_file.getvalue(), rng)
                case 3:
                    content = plain if rng.random() < 0.3 else mutated(plain, rng)
                case _:
                    content = mutated(bytes(hostile[int(rng.integers(len(hostile)))]), rng)
            path.write_bytes(content)
            loaded += answered(lambda: start_weights(build("compact", 0.0), "compact", str(path))) is not None
    assert loaded or not whole("weights")


def test_recipes_and_studies_are_read_or_refused(tmp_path: Path) -> None:
    """1,000 mutated TOML files."""
    recipe = resolve_recipe(model="vggnet", seed=3).to_toml().encode()
    path = tmp_path / "file.toml"
    for number, rng in cases("tomls", 1000, quick=120):
        study = STUDIES[number % len(STUDIES)]
        first = study.name == "first.toml"
        path.write_bytes(mutated(study.read_bytes() if number % 2 and not first else recipe, rng))
        if number % 2 and not first:
            answered(lambda: read_study(path))
        else:
            answered(lambda: resolve_recipe(path))


def test_manifests_are_read_or_refused(tmp_path: Path) -> None:
    """1,000 mutated manifests, and names that climb out of the store."""
    store = Store(tmp_path / "store")

    def write(folder: Path) -> dict:
        (folder / "file.txt").write_text("inside")
        return {"score": 0.5}

    made = store.put("run", {"recipe": {"seed": 1}}, ["0123456789ab"], write, name="one")
    (tmp_path / "outside.txt").write_text("outside")
    manifest = made.path / "manifest.json"
    content = manifest.read_bytes()
    whole = json.loads(content)
    for _, rng in cases("manifests", 1000, quick=150):
        manifest.write_bytes(mutated(content, rng))
        found = answered(lambda: store.get("run", "one"))
        if isinstance(found, Artifact):
            assert json.loads(manifest.read_bytes()) == whole, "a change that was not noticed"
    for name in ("../../../outside.txt", str(tmp_path / "outside.txt"), "..", ""):
        lying = {**whole, "files": {name: whole["files"]["file.txt"]}}
        for digest in ({}, {"digest": _digest_of(lying)}):
            manifest.write_text(json.dumps({key: lying[key] for key in lying if key != "digest"} | digest))
            with pytest.raises(StoreError, match="which is no file of its folder"):
                store.get("run", "one")
    manifest.write_bytes(content)
    assert store.get("run", "one").metrics == {"score": 0.5}
    shutil.rmtree(store.root)
