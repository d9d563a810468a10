"""Dao and Le's small real-time CNN (system C): 784,263 parameters as published, 784,935 here.

Their report (section 4.1) gives the hidden widths 256, 256, 512, 512 of four inverted residual blocks, the kernels of
the two convolutions before them and the parameters in sum. The other widths are ours: a quarter of the hidden ones, as
in MobileNetV2, and a fully connected layer that brings the sum within 0.1 %.
"""

from __future__ import annotations

from torch import nn

from ensemble_fer.models.inverted import InvertedResidual
from ensemble_fer.models.member import Member, conv_bn, stages_of
from ensemble_fer.types import N_CLASSES

HIDDEN = (256, 512)
FIRST, WIDTHS, CONNECTED = 32, (64, 128), 360  # ours
CROP = 48


def build(dropout: float = 0.0, *, side: int = CROP) -> Member:
    """A 3x3 and a 5x5 convolution, four inverted residual blocks with max-pooling between, two fully connected layers.

    Parameters
    ----------
    dropout : float
        Before the last layer; published without.
    side : int
        To which faces are resized; 16 or more.
    """
    early, late = WIDTHS
    stem = nn.Sequential(conv_bn(1, FIRST), conv_bn(FIRST, early, kernel=5), nn.MaxPool2d(2))
    middle = nn.Sequential(
        InvertedResidual(early, HIDDEN[0], early),
        nn.MaxPool2d(2),
        InvertedResidual(early, HIDDEN[0], early),
        nn.MaxPool2d(2),
    )
    end = nn.Sequential(
        InvertedResidual(early, HIDDEN[1], late),
        nn.MaxPool2d(2),
        InvertedResidual(late, HIDDEN[1], late),
    )
    head = nn.Sequential(
        nn.Flatten(),
        nn.Linear(late * (side // 16) ** 2, CONNECTED),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(CONNECTED, N_CLASSES),
    )
    body = nn.Sequential(stem, middle, end, head)
    return Member(body, CROP, side=side, stages=stages_of(body, *body))
