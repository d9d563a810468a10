"""Pazos and Wang's compact ResNet (system D): two residual blocks, each with max-pooling after the addition.

The report gives the blocks and about 418k parameters; widths and the stem are ours.
"""

from __future__ import annotations

from torch import Tensor, nn

from ensemble_fer.models.member import HALF_MEAN, HALF_SCALE, Member, conv_bn, stages_of
from ensemble_fer.types import N_CLASSES

STEM, WIDTHS = 32, (64, 128)
CROP = 48


class PooledResidual(nn.Module):
    """Two 3x3 convolutions beside a 1x1 projection; added, halved by max-pooling, dropped out."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(conv_bn(inputs, outputs), conv_bn(outputs, outputs, relu=False))
        self.shortcut = conv_bn(inputs, outputs, kernel=1, relu=False)
        self.after = nn.Sequential(nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.convolutions(x) + self.shortcut(x))


def build(dropout: float = 0.0, *, side: int = CROP) -> Member:
    """Gray in three channels from -1 to 1, as there; their best network has no dropout."""
    stem = conv_bn(3, STEM)
    blocks = [PooledResidual(inputs, width, dropout) for inputs, width in zip((STEM, *WIDTHS), WIDTHS, strict=False)]
    left = side // 2 ** len(WIDTHS)
    head = nn.Sequential(nn.Flatten(), nn.Linear(WIDTHS[-1] * left * left, N_CLASSES))
    body = nn.Sequential(stem, *blocks, head)
    return Member(body, CROP, side=side, mean=HALF_MEAN, scale=HALF_SCALE, stages=stages_of(body, *body))
