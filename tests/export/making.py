"""Small members, the graph made of them (once for the whole test session), and runs that were never trained."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ensemble_fer.evaluate.predictions import save_predictions
from ensemble_fer.export.graph import export_onnx
from ensemble_fer.models.member import Member, conv_bn
from ensemble_fer.store import Artifact, Store
from ensemble_fer.types import FaceSet, Predictions, Protocol, Role

NAMES = ("plain", "ros-s0", "ros.s0")
_FOLDER = tempfile.TemporaryDirectory(prefix="ensemble-fer-test-")  # removed when the tests end
METADATA = {"stamp": {"split": "official", "role": "select"}, "members": [{"name": "plain", "run": "0123456789ab"}]}


def tiny(dropout: float = 0.2) -> Member:
    """A member of about 1,600 parameters that takes 40x40 crops."""
    body = nn.Sequential(
        conv_bn(1, 8, kernel=5, stride=2), nn.MaxPool2d(4), nn.Flatten(), nn.Dropout(dropout), nn.Linear(200, 7)
    )
    return Member(body, 40)


def drawn(seed: int) -> Member:
    """A tiny member with weights that give sure and varied answers, and batch norm that has seen something."""
    torch.manual_seed(seed)
    member = tiny()
    with torch.no_grad():
        for module in member.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 1.5)
            if isinstance(module, nn.Linear):
                module.weight.mul_(6)
    return member.eval()


def members() -> dict[str, Member]:
    return {name: drawn(seed) for seed, name in enumerate(NAMES)}


def faces(n: int, seed: int = 0) -> np.ndarray:
    """Blocks of random grey with noise: uint8 [n, 48, 48] on which tiny members differ."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(20, 236, (n, 6, 6)).repeat(8, axis=1).repeat(8, axis=2)
    return np.clip(blocks + rng.normal(0, 10, (n, 48, 48)), 0, 255).astype(np.uint8)


@functools.lru_cache(maxsize=1)
def graph_file() -> Path:
    """``members()`` as one graph, exported once."""
    path = Path(_FOLDER.name) / "ensemble.onnx"
    export_onnx(members(), path, METADATA)
    return path


def face_set(seed: int = 0) -> FaceSet:
    """70 faces: 40 Training, 15 PublicTest, 15 PrivateTest; the last test row repeats a training row."""
    images = faces(70, seed)
    images[69] = images[0]
    labels = np.arange(70) % 7
    labels[69] = labels[0]
    return FaceSet(images, labels, np.repeat([0, 1, 2], [40, 15, 15]), f"blocks{seed}")


def untrained_run(
    store: Store, name: str, seed: int, *, data: FaceSet | None = None, split: str = "official", select_shift: float = 0
) -> Artifact:
    """A run as ``train`` leaves it, with drawn weights. Its model ``tiny`` must be in ``MODELS``.

    ``select_shift`` is added to the first stored logit of each row, as if the weights were others.
    """
    from safetensors.torch import save_file

    from ensemble_fer.data.importing import store_faces
    from ensemble_fer.data.splits import split_of
    from ensemble_fer.data.twins import twins_of
    from ensemble_fer.train import predict_rows

    given = data or face_set()
    stored = store_faces(store, given, {})
    split_artifact, parts = split_of(store, stored, split, quiet=True)
    twins_artifact, twins = twins_of(store, stored, quiet=True)
    member = drawn(seed)

    def write(folder: Path) -> dict:
        rows = parts.select_rows
        logits = predict_rows(member, given.images[rows])
        logits[:, 0] += select_shift
        protocol = Protocol(data=given.name, split=parts.name, role="select", resampling="none", seed=seed)
        save_predictions(
            folder / "select.npz",
            Predictions(
                logits=logits,
                labels=given.labels[rows],
                rows=rows,
                groups=twins.groups[rows],
                twin_in_train=twins.have_twin_in(rows, parts.train_rows),
                role=Role.SELECT,
                source=name,
                protocol=protocol,
            ),
        )
        save_file(member.state_dict(), folder / "weights.safetensors")
        return {"name": name}

    recipe = {"model": "tiny", "dropout": 0.2, "seed": seed, "split": split, "resampling": "none"}
    spec = {"recipe": recipe, "select_shift": select_shift}
    inputs = [stored.id, split_artifact.id, twins_artifact.id]
    return store.put("run", spec, inputs, write, name=name)
