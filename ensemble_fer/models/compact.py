"""The compact member: a residual network that two cores train in reasonable time (ours)."""

from __future__ import annotations

from torch import nn

from ensemble_fer.models.member import Member, conv_bn
from ensemble_fer.models.residual import Residual
from ensemble_fer.types import N_CLASSES

CROP = 40
STEM = 24
WIDTHS = (24, 64, 160)


def build(dropout: float = 0.1) -> Member:
    """Stem at stride 2, one residual block a stage at 20, 10 and 5 pixels, global average, linear."""
    layers: list[nn.Module] = [conv_bn(1, STEM, stride=2)]
    channels = STEM
    for index, width in enumerate(WIDTHS):
        layers.append(Residual(channels, width, 1 if index == 0 else 2))
        channels = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels, N_CLASSES)]
    return Member(nn.Sequential(*layers, *head), CROP)
