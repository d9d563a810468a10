"""A module of one's own as it is kept with its run: what was trained, alone, whatever becomes of the file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ensemble_fer.config import Recipe
from ensemble_fer.errors import EnsembleFerError, MissingError, UsageError
from ensemble_fer.models import build
from ensemble_fer.store import Store
from ensemble_fer.train import load_member, running, train, winograd
from tests.cli.running import run as run_command

NET = "from torch import nn\ndef build(): return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(36, 7))\n"
SHORT = Recipe(epochs=1, epoch_rows=64, batch_size=32, precision="float32")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


def recipe_of(file: Path, **changes: object) -> Recipe:
    return Recipe(**{**SHORT.to_dict(), "model": f"{file}:build", **changes})


def unfinished(store: Store) -> list[Path]:
    return list(store.root.glob("unfinished/*"))


@pytest.mark.parametrize("when", ["prepared", "trained"])
def test_what_is_kept_is_what_was_trained(
    prepared: Store, file: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    place = {"prepared": "learn", "trained": "predictions_of"}[when]
    whole = getattr(running, place)

    def edited(*args: object, **kwargs: object) -> object:
        file.write_text(NET.replace("AvgPool2d(8)", "AvgPool2d(4)").replace("36", "144"))
        return whole(*args, **kwargs)

    monkeypatch.setattr(running, place, edited)
    run = train(prepared, recipe_of(file), threads=1, quiet=True)
    assert run.file("model.py").read_text() == NET
    assert run.spec["model_sha256"] == hashlib.sha256(NET.encode()).hexdigest()
    assert load_member(run).parameter_count == 36 * 7 + 7
    assert not unfinished(prepared)


def test_an_interrupted_training_goes_on_with_the_file_it_began_with(
    prepared: Store, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running, "predictions_of", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(prepared, recipe_of(file), threads=1, quiet=True)
    (folder,) = unfinished(prepared)
    assert (folder / "checkpoint.safetensors").is_file()
    run = train(prepared, recipe_of(file), threads=1, quiet=True)
    assert folder.name == f"run-{run.id}"


@pytest.mark.parametrize("how", ["module", "package", "data"])
def test_what_needs_other_files_of_its_folder_is_refused_before_training(prepared: Store, file: Path, how: str) -> None:
    (file.parent / "size_beside.py").write_text("SIZE = 36\n")
    (file.parent / "sizes_beside").mkdir()
    (file.parent / "sizes_beside" / "__init__.py").write_text("SIZE = 36\n")
    (file.parent / "size.txt").write_text("36")
    first = {
        "module": "from size_beside import SIZE",
        "package": "from sizes_beside import SIZE",
        "data": "from pathlib import Path\nSIZE = int(Path(__file__).with_name('size.txt').read_text())",
    }[how]
    file.write_text(f"{first}\n{NET.replace('36', 'SIZE')}")
    assert build(f"{file}:build").parameter_count == 36 * 7 + 7, "in itself it works"
    with pytest.raises(UsageError, match=rf"^{file}, line \d: .* Only this one file is kept .* put all .* into it"):
        train(prepared, recipe_of(file), threads=1, quiet=True)
    assert not unfinished(prepared)
    assert not prepared.ids("run")


def test_what_cannot_be_trained_leaves_nothing_behind(prepared: Store, file: Path) -> None:
    file.write_text(NET.replace("nn.Linear(36, 7)", "nn.Linear(36, 7).requires_grad_(False)"))
    with pytest.raises(UsageError, match=rf"^{file}:build cannot be trained: all of its parameters are frozen"):
        train(prepared, recipe_of(file), threads=1, quiet=True)
    assert not unfinished(prepared)


def test_frozen_parameters_are_not_trained(prepared: Store, file: Path) -> None:
    file.write_text(
        "import torch\nfrom torch import nn\n\n\ndef build():\n"
        "    still = nn.Linear(36, 36)\n    nn.init.eye_(still.weight)\n    still.requires_grad_(False)\n"
        "    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), still, nn.Linear(36, 7))\n"
    )
    run = train(prepared, recipe_of(file, learning_rate=0.1, weight_decay=0.1), threads=1, quiet=True)
    assert torch.equal(load_file(run.file("weights.safetensors"))["body.2.weight"], torch.eye(36))


def test_what_a_module_prints_is_not_in_the_json(prepared: Store, file: Path) -> None:
    file.write_text(
        "from torch import nn\nprint('on import')\n\n\nclass Net(nn.Sequential):\n    def forward(self, x):\n"
        "        print('a batch')\n        return super().forward(x)\n\n\ndef build():\n    print('in build')\n"
        "    return Net(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(36, 7))\n"
    )
    done = run_command(
        "train", "--model", f"{file}:build", "--epochs", 1, "--epoch-rows", 64, "--batch-size", 32, "--json",
        "--store", prepared.root,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    run = json.loads(done.stdout)["id"]
    assert "a batch" in done.stderr
    for command in (["evaluate", run, "--tta", "flip", "--part", "select"], ["fuse", run]):
        done = run_command(*command, "--json", "--store", prepared.root)
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)
        assert "a batch" in done.stderr


def test_code_that_fails_late(prepared: Store, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def written(condition: str) -> None:
        file.write_text(
            "from torch import nn\n\n\nclass Net(nn.Sequential):\n    def forward(self, x):\n"
            f"        if {condition}:\n            raise ValueError('such a batch')\n"
            "        return super().forward(x)\n\n\n"
            "def build():\n    return Net(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(36, 7))\n"
        )

    for what, condition in (("training", "len(x) == 32"), ("training", "not self.training and len(x) > 32")):
        written(condition)
        with pytest.raises(EnsembleFerError, match=rf"^{file}, line 7: {what} failed: ValueError: such a batch"):
            train(prepared, recipe_of(file), threads=1, quiet=True)
    # What the package itself raises meanwhile is not taken for an error of that code.
    written("False")
    monkeypatch.setattr(running, "predictions_of", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(prepared, recipe_of(file), threads=1, quiet=True)


def test_the_home_of_nobody(prepared: Store) -> None:
    for wrong in ({"model": "~nobody-here/net.py:build"}, {"weights": "~nobody-here/w.pt"}):
        with pytest.raises(MissingError, match="begins with a home folder that is not here") as caught:
            train(prepared, Recipe(**{**SHORT.to_dict(), **wrong}), threads=1, quiet=True)
        assert caught.value.exit_code == 3
    assert not unfinished(prepared)


NETS = """
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Net(nn.Module):
    def __init__(self, middle):
        super().__init__()
        self.first = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(1, 64, 1))
        self.middle = middle
        self.last = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 7))

    def forward(self, x):
        return self.last(checkpoint(self.middle, self.first(x), use_reentrant=False))


def wide(): return Net(nn.Conv2d(64, 64, 3, padding=1))
def deep(): return Net(nn.Conv2d(64, 64, 3, 2, 1, groups=64))


class Double(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3)
        self.middle = nn.Conv2d(8, 8, 5, groups=8).double()
        self.norm = nn.BatchNorm2d(8).double()
        self.last = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 7))

    def forward(self, x):
        return self.last(self.norm(self.middle(self.first(x).double())).float())


class Squeezing(nn.Sequential):
    def forward(self, x):
        return super().forward(x).squeeze()


def double(): return Double()
def squeezing(): return Squeezing(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(36, 7))
"""


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("function", ["wide", "deep", "double"])
def test_networks_that_compute_parts_again_or_in_float64(
    prepared: Store, file: Path, monkeypatch: pytest.MonkeyPatch, function: str, precision: str
) -> None:
    """Convolutions are computed in other ways in training, in the same way whenever they are."""
    monkeypatch.setattr(winograd, "LEAST_PRODUCTS", 0)
    file.write_text(NETS)
    recipe = recipe_of(file, model=f"{file}:{function}", precision=precision, epochs=1)
    assert train(prepared, recipe, threads=1, quiet=True).metrics["epochs"] == 1


def test_a_network_that_fails_with_one_face_is_refused_before_training(prepared: Store, file: Path) -> None:
    file.write_text(NETS)
    with pytest.raises(UsageError, match=r"net.py:squeezing gave torch.float32 \[7\] for one face; expected"):
        train(prepared, recipe_of(file, model=f"{file}:squeezing"), threads=1, quiet=True)
    assert not unfinished(prepared)


def test_memory_that_runs_out_in_ones_own_code_is_not_that_codes_fault(prepared: Store, file: Path) -> None:
    file.write_text(
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Sequential):\n    def forward(self, x):\n"
        "        if len(x) == 32:\n            raise torch.OutOfMemoryError('such a batch. And more.')\n"
        "        return super().forward(x)\n\n\n"
        "def build():\n    return Net(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(36, 7))\n"
    )
    with pytest.raises(EnsembleFerError, match=r"^out of memory with batch_size 32: such a batch\. Set a smaller"):
        train(prepared, recipe_of(file), threads=1, quiet=True)


def test_another_file_that_is_missing_is_not_said_to_lie_beside_the_code(prepared: Store, file: Path) -> None:
    file.write_text("from torch import nn\n\n\ndef build():\n    open('/nowhere/at/all')\n    return nn.Linear(1, 7)\n")
    with pytest.raises(EnsembleFerError, match="No such file") as caught:
        train(prepared, recipe_of(file), threads=1, quiet=True)
    assert "Only this one file" not in str(caught.value)
