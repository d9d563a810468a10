"""Khaireddin & Chen's VGGNet for FER2013 (arXiv 2105.03588, figure 2)."""

from __future__ import annotations

from torch import nn

from ensemble_fer.models.member import Member, stages_of
from ensemble_fer.types import N_CLASSES

STAGES = (64, 128, 256, 512)
LAYERS_OF_A_STAGE = 7
CROP = 40


def build(dropout: float = 0.2, *, side: int = CROP) -> Member:
    """Four stages of two 3x3 convolutions (batch norm, ReLU) and max-pooling, then 4096, 4096, 7.

    29,890,759 parameters with 40x40 crops: the convolutions have biases, as in the released code.

    Parameters
    ----------
    dropout : float
        Behind the first two fully connected layers.
    side : int
        To which crops are resized; 16 or more.
    """
    layers: list[nn.Module] = []
    channels = 1
    for width in STAGES:
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    left = side // 2 ** len(STAGES)
    head = [
        nn.Flatten(),
        nn.Linear(channels * left * left, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(4096, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(4096, N_CLASSES),
    ]
    body = nn.Sequential(*layers, *head)
    parts = [body[i : i + LAYERS_OF_A_STAGE] for i in range(0, len(layers), LAYERS_OF_A_STAGE)]
    return Member(body, CROP, side=side, stages=stages_of(body, *parts, body[len(layers) :]))
