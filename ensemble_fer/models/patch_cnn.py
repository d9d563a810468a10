"""A convolutional network over patches: the member that a processor trains in the fewest seconds an epoch (ours)."""

from __future__ import annotations

from torch import nn

from ensemble_fer.models.member import Member, conv_bn, stages_of
from ensemble_fer.types import N_CLASSES

CROP = 48
PATCH = 4
WIDTHS, HIDDEN = (128, 256, 256), 512


def build(dropout: float = 0.3) -> Member:
    """Patches of 4x4 pixels become 128 channels (as in ConvNeXt, Liu et al. 2022), two 3x3 convolutions at stride 2
    follow, and two fully connected layers; batch norm and ReLU after each but the last.

    Maps have 12, 6 and 3 pixels a side: a processor spends its time on products of matrices, not on moving maps.

    Parameters
    ----------
    dropout : float
        Before the last layer.
    """
    first, *others = WIDTHS
    stem = nn.Sequential(nn.Conv2d(1, first, PATCH, PATCH, bias=False), nn.BatchNorm2d(first), nn.ReLU(inplace=True))
    parts: list[nn.Sequential] = [stem]
    channels = first
    for width in others:
        parts.append(conv_bn(channels, width, stride=2))
        channels = width
    side = CROP // PATCH // 2 ** len(others)
    head = nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * side * side, HIDDEN, bias=False),
        nn.BatchNorm1d(HIDDEN),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(HIDDEN, N_CLASSES),
    )
    body = nn.Sequential(*parts, head)
    return Member(body, CROP, stages=stages_of(body, *parts, head))
