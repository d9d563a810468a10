"""What the contract of members is tried with: faces, and the smallest setting in which each member learns them."""

from __future__ import annotations

import copy
import functools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ensemble_fer.data.synthetic import draw_expressions
from ensemble_fer.models import MODELS, Member

CARDS = Path(__file__).parents[2] / "docs/methods"
FROM_TIMM = ("resnet50v2", "xception", "mobilenetv3_large_100", "efficientnet_b0", "resnet18", "vit_base_patch16_224")


@dataclass(frozen=True)
class Setting:
    """How a member learns 64 faces by heart in seconds: rate of Adam, and a smaller side where it has many pixels.

    Parameters
    ----------
    rate : float
    options : dict
        For ``build``; a ``side`` changes the first fully connected layer, nothing else.
    side : int
        Set on the member where its layers do not depend on it; 0 leaves it.
    head : float
        Rate of the head as a multiple of the body's.
    """

    rate: float = 3e-3
    options: dict[str, Any] = field(default_factory=dict)
    side: int = 0
    head: float = 1.0


SETTINGS = {
    "compact": Setting(),
    "resnet14": Setting(),
    "vggnet": Setting(3e-4, {"side": 16}),
    "alexnet": Setting(2e-4, {"side": 67}),
    "fernet": Setting(),
    "patch_cnn": Setting(),
    "small_cnn": Setting(1e-3, {"side": 32}),
    "googlenet48": Setting(5e-4, {"side": 24}),
    "resnet_compact": Setting(1e-3, {"side": 24}),
    "mobilenet_compact": Setting(side=24),
    # Thirteen convolutions without batch norm bear a small rate only, the fully connected layers with it a large one.
    "vgg16": Setting(5e-5, side=32, head=500),
    "resnet50v2": Setting(3e-4, {"side": 32}),
    "xception": Setting(1e-3, side=32),
    "mobilenetv3_large_100": Setting(side=48),
    "efficientnet_b0": Setting(side=32),
    "resnet18": Setting(side=32),
    "vit_base_patch16_224": Setting(1e-3, {"side": 32}),
}


@functools.lru_cache(maxsize=2)
def _built(name: str, side: int = 0) -> Member:
    torch.manual_seed(0)
    return MODELS[name](0.0, **({"side": side} if side else {}))


def full(name: str) -> Member:
    """The member as it is, without dropout; a copy."""
    return copy.deepcopy(_built(name))


def small(name: str, side: int = 0) -> Member:
    """The same layers over fewer pixels, as ``SETTINGS`` has it, or another side for ``build``; a copy."""
    setting = SETTINGS[name]
    member = copy.deepcopy(_built(name, side or setting.options.get("side", 0)))
    member.side = setting.side or member.side
    return member


@functools.lru_cache(maxsize=1)
def drawn() -> tuple[Tensor, Tensor]:
    """64 drawn faces uint8 [64, 48, 48], no two alike, and their labels int64 [64], all seven."""
    labels = (np.arange(64) % 7).astype(np.uint8)
    images = draw_expressions(labels, np.random.default_rng(0))
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


def crops_of(member: Member, faces: Tensor) -> Tensor:
    """Their centre crops, which ``member.loss`` takes."""
    edge = (faces.shape[1] - member.crop) // 2
    return faces[:, edge : edge + member.crop, edge : edge + member.crop]


def settle(member: Member, faces: Tensor) -> Member:
    """Let batch norms measure these faces with the weights at rest; ends in evaluation."""
    norms = [module for module in member.modules() if isinstance(module, _BatchNorm)]
    for module in norms:
        module.reset_running_stats()
        module.momentum = None  # a mean over all batches seen, not one that forgets
    if norms:
        with torch.no_grad():
            member.train()(faces)
    return member.eval()


def make_telling(member: Member, faces: Tensor) -> Member:
    """Centre and scale the last layer so that an untrained member answers each of these faces otherwise.

    Seven probabilities that are one seventh for every face would agree with nearly any graph. Logits that differ by 0.1
    move them by more than a thousand times what parity allows; by more, and the rounding of dozens of layers that no
    training has made tame would show.
    """
    settle(member, faces)
    with torch.inference_mode():
        logits = member(faces)
    last = [m for m in member.body.modules() if isinstance(m, nn.Linear | nn.BatchNorm1d)][-1]
    factor = 0.1 / logits.std(0)
    with torch.no_grad():
        last.bias.sub_(logits.mean(0)).mul_(factor)
        last.weight.mul_(factor.reshape(-1, *[1] * (last.weight.dim() - 1)))
    return member


def card(name: str) -> tuple[int, int]:
    """Parameters, and millions of multiply-adds a face, as the member's card says."""
    text = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    numbers = []
    for what in (r"parameters", r"million\s+multiply-adds\s+a\s+face"):
        found = re.search(rf"([\d,]+)\s+{what}", text)
        assert found, f"docs/methods/{name}.md does not say how many {what}"
        numbers.append(int(found.group(1).replace(",", "")))
    return numbers[0], numbers[1]
