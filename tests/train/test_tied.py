"""A module of one's own whose layers share weights: trained, resumed, kept, loaded and gone on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, load_file, save

from ensemble_fer.config import Recipe
from ensemble_fer.export.fusing import fuse
from ensemble_fer.models import build
from ensemble_fer.store import Store
from ensemble_fer.train import learn, load_member, prepare, train
from ensemble_fer.train.averaging import Average
from ensemble_fer.train.checkpoint import apart
from ensemble_fer.train.finetuning import finetuning_recipe

TIED = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.AvgPool2d(8)
        self.first = nn.Linear(36, 36)
        self.second = nn.Linear(36, 36)
        self.second.weight = self.first.weight
        self.last = nn.Linear(36, 7)
        self.register_buffer("one", torch.ones(36))
        self.register_buffer("again", self.one)

    def forward(self, x):
        x = self.pool(x).flatten(1)
        return self.last(torch.relu(self.second(torch.relu(self.first(x)))) * self.again)


def build():
    return Net()
"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "tied.py").write_text(TIED)
    return f"{tmp_path / 'tied.py'}:build"


def tied(member: Any) -> bool:
    return member.body.first.weight is member.body.second.weight


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_shared_weights_are_trained_resumed_and_loaded(prepared: Store, model: str, ema: float) -> None:
    recipe = Recipe(model=model, epochs=2, epoch_rows=128, batch_size=32, precision="float32", ema=ema)
    found = prepare(prepared, recipe, quiet=True)
    alone = prepared.root / "alone"
    alone.mkdir()
    torch.set_num_threads(1)
    unbroken, _, _ = learn(found, alone, device="cpu")

    def stop(record: dict) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(found, prepared.working("run", found.spec, found.inputs), device="cpu", on_epoch=stop)
    run = train(prepared, recipe, name="tied", threads=1, device="cpu", quiet=True)
    kept = load_file(run.file("weights.safetensors"))
    assert torch.equal(kept["body.first.weight"], kept["body.second.weight"])
    loaded = load_member(run)
    assert tied(loaded)
    for name, value in unbroken.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
        assert torch.equal(kept[name], value), name
    further = train(prepared, finetuning_recipe(prepared, "tied", epochs=1), name="on", threads=1, quiet=True)
    assert not np.array_equal(kept["body.first.weight"], load_member(further).state_dict()["body.first.weight"])


def test_a_graph_of_shared_weights_gives_their_scores(prepared: Store, model: str) -> None:
    recipe = Recipe(model=model, epochs=1, epoch_rows=64, batch_size=32, precision="float32")
    train(prepared, recipe, name="tied", threads=1, device="cpu", quiet=True)
    assert fuse(prepared, ["tied"], quiet=True).file("ensemble.onnx").stat().st_size > 0


def test_the_average_takes_a_shared_weight_in_once(model: str) -> None:
    member = build(model)
    average = Average(member, 0.5)
    for tensor in (member.body.first.weight, average.model.body.first.weight):  # type: ignore[union-attr]
        torch.nn.init.zeros_(tensor)  # type: ignore[arg-type]
    torch.nn.init.ones_(member.body.first.weight)  # type: ignore[union-attr, arg-type]
    average.update(member)
    assert tied(average.model)
    # The first update keeps a tenth.
    assert torch.allclose(average.model.body.second.weight, torch.tensor(0.9))  # type: ignore[union-attr, arg-type]


def test_a_weight_shared_with_the_head_is_the_heads(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.pool, self.first, self.last = nn.AvgPool2d(8), nn.Linear(36, 36), nn.Linear(36, 36)\n"
        "        self.last.weight = self.first.weight\n"
        "    def forward(self, x):\n"
        "        return self.last(self.first(self.pool(x).flatten(1)))[:, :7]\n"
    )
    member = build(f"{tmp_path / 'net.py'}:Net")
    member.freeze(1)
    trained = {name for name, parameter in member.body.named_parameters() if parameter.requires_grad}
    assert trained == {"first.weight", "last.bias"}


def test_only_what_shares_memory_is_copied() -> None:
    whole = torch.arange(6.0)
    given = {"a": whole, "b": whole[2:4], "c": whole.reshape(2, 3).T, "d": torch.zeros(2)}
    made = apart(given)
    assert made["a"].data_ptr() == whole.data_ptr()
    assert made["d"].data_ptr() == given["d"].data_ptr()
    read = load(save(made))
    for name, tensor in given.items():
        assert torch.equal(read[name], tensor), name
