"""FER-net (Mohan et al. 2021), as system C surveys it and repeats it: at 48x48 pixels instead of 256x256."""

from __future__ import annotations

from torch import nn

from ensemble_fer.models.member import Member, conv_bn, stages_of
from ensemble_fer.types import N_CLASSES

# The survey leaves widths and kernels open; these are ours.
WIDTHS, HIDDEN = (32, 64, 128, 256), 512
DROPOUT_AFTER_CONVOLUTIONS = 0.25
CROP = 48


def build(dropout: float = 0.5) -> Member:
    """Four 3x3 convolutions, each with batch norm, ReLU, max-pooling and dropout of 0.25, and two fully connected
    layers, each with batch norm too, as published.

    Parameters
    ----------
    dropout : float
        Between the fully connected layers. With 0 the dropout behind the convolutions is off as well.
    """
    early = DROPOUT_AFTER_CONVOLUTIONS if dropout else 0.0
    parts: list[nn.Sequential] = []
    channels = 1
    for width in WIDTHS:
        parts.append(nn.Sequential(conv_bn(channels, width), nn.MaxPool2d(2), nn.Dropout(early)))
        channels = width
    side = CROP // 2 ** len(WIDTHS)
    head = nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * side * side, HIDDEN, bias=False),
        nn.BatchNorm1d(HIDDEN),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(HIDDEN, N_CLASSES, bias=False),
        nn.BatchNorm1d(N_CLASSES),
    )
    body = nn.Sequential(*parts, head)
    return Member(body, CROP, stages=stages_of(body, *parts, head))
