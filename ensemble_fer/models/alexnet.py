"""AlexNet (Krizhevsky et al. 2012) in the single-tower form of Krizhevsky 2014, faces enlarged to 227 pixels inside."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from ensemble_fer.models.member import IMAGENET_MEAN, IMAGENET_SCALE, Member, keep_scale, stages_of
from ensemble_fer.types import N_CLASSES

CROP, SIDE = 48, 227
HIDDEN = 4096


def build(dropout: float = 0.5, *, side: int = SIDE) -> Member:
    """Five convolutions and three fully connected layers; gray in three channels.

    The keys are those of torchvision's ``alexnet``, whose convolutions fit.

    Parameters
    ----------
    dropout : float
        Before each of the two hidden fully connected layers, as published.
    side : int
        To which faces are enlarged bilinearly; the input of the first fully connected layer follows from it.
    """
    features = nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
    )
    left = (side + 2 * 2 - 11) // 4 + 1
    for _ in range(3):
        left = (left - 3) // 2 + 1
    classifier = nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(256 * left * left, HIDDEN),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(HIDDEN, HIDDEN),
        nn.ReLU(inplace=True),
        nn.Linear(HIDDEN, N_CLASSES),
    )
    body = nn.Sequential(OrderedDict(features=features, flatten=nn.Flatten(), classifier=classifier))
    keep_scale(features)
    stages = stages_of(body, features[:3], features[3:6], features[6:], classifier)
    return Member(body, CROP, side=side, mean=IMAGENET_MEAN, scale=IMAGENET_SCALE, stages=stages)
