"""ImageNet weights through the hub's cache folder, without a network; and what is said where they are not."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from ensemble_fer.errors import MissingError, UsageError
from ensemble_fer.models import build, hub, start_weights

TRAINED = (
    "vgg16 resnet50v2 xception mobilenetv3_large_100 efficientnet_b0 resnet18 vit_base_patch16_224 timm:convnext_nano"
)


def cached(home: Path, repository: str, network: str) -> Path:
    """A cache folder as the hub's client lays it out, with weights of our own; gives the weights file."""
    folder = home / "hub" / f"models--{repository.replace('/', '--')}"
    commit = "0123456789abcdef0123456789abcdef01234567"
    for part in ("refs", "blobs", f"snapshots/{commit}"):
        (folder / part).mkdir(parents=True)
    (folder / "refs/main").write_text(commit)
    torch.manual_seed(11)
    weights = folder / "blobs/weights"
    save_file(timm.create_model(network).state_dict(), weights)
    blob = weights.rename(weights.with_name(hashlib.sha256(weights.read_bytes()).hexdigest()))
    link = folder / "snapshots" / commit / "model.safetensors"
    link.symlink_to(blob)
    return link


SCRIPT = """
import sys, torch
from safetensors.torch import load_file
from ensemble_fer.models import build, start_weights
for name in sys.argv[2:]:
    member = build(name)
    found = start_weights(member, name, "hub")
    given = load_file(sys.argv[1])
    state = member.body.state_dict()
    same = [k for k, v in state.items() if k in given and torch.equal(v, given[k])]
    print(found.text, found.digest, len(same), len(state), state["fc.weight"].shape[0])
"""


def test_weights_arrive_from_the_cache_offline(tmp_path: Path) -> None:
    file = cached(tmp_path, "timm/resnet18.a1_in1k", "resnet18")
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    env.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(file), "resnet18", "timm:resnet18"],
        capture_output=True,
        text=True,
        env=env,
        check=True,
    )
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    total = len(timm.create_model("resnet18").state_dict())
    expected = f"timm/resnet18.a1_in1k from the hub {digest} {total - 2} {total} 7"
    assert done.stdout.splitlines() == [expected, expected]


@pytest.fixture
def nothing_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty cache folders, and a network where no name is known."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    return tmp_path


@pytest.mark.parametrize("name", TRAINED.split())
def test_without_a_network_the_two_ways_out_are_named_at_once(nothing_cached: Path, name: str) -> None:
    began = time.perf_counter()
    with pytest.raises(MissingError) as caught:
        hub.weights_from_hub(name)
    assert time.perf_counter() - began < 10
    message = str(caught.value)
    assert "--weights FILE" in message
    assert "--weights none" in message
    assert "cannot be reached" in message
    assert str(nothing_cached) in message
    assert "\n" not in message
    assert caught.value.exit_code == 3


def test_offline_by_choice_is_said(nothing_cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingError, match="HF_HUB_OFFLINE is set"):
        start_weights(build("resnet18"), "resnet18", "hub")


def test_weights_of_a_release_page_come_from_torchs_cache(nothing_cached: Path) -> None:
    file = nothing_cached / "torch/hub/checkpoints/xception-43020ad28.pth"
    file.parent.mkdir(parents=True)
    torch.manual_seed(11)
    given = timm.create_model("legacy_xception").state_dict()
    torch.save(given, file)
    member = build("xception")
    assert start_weights(member, "xception", "hub").text == "xception-43020ad28.pth from the hub"
    assert torch.equal(member.body.state_dict()["block9.rep.4.conv1.weight"], given["block9.rep.4.conv1.weight"])


@pytest.mark.parametrize("name", ["compact", "vggnet", "googlenet48", "net.py:build"])
def test_models_without_hub_weights_say_so(name: str) -> None:
    with pytest.raises(UsageError, match="has no ImageNet weights on a hub"):
        hub.weights_from_hub(name)
