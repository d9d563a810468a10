"""A residual network of fourteen layers, what the shipped ensemble is made of (ours)."""

from __future__ import annotations

from torch import nn

from ensemble_fer.models.member import Member, conv_bn
from ensemble_fer.models.residual import Residual
from ensemble_fer.types import N_CLASSES

CROP = 40
WIDTHS = (64, 128, 256)
BLOCKS = 2


def build(dropout: float = 0.2) -> Member:
    """Stem at stride 2, two residual blocks a stage at 20, 10 and 5 pixels, global average, linear."""
    layers: list[nn.Module] = [conv_bn(1, WIDTHS[0], stride=2)]
    channels = WIDTHS[0]
    for stage, width in enumerate(WIDTHS):
        for block in range(BLOCKS):
            layers.append(Residual(channels, width, 2 if stage and not block else 1))
            channels = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels, N_CLASSES)]
    return Member(nn.Sequential(*layers, *head), CROP)
