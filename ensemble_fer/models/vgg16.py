"""VGG16 (Simonyan and Zisserman 2015) as system D's baseline has it: 14.7 million parameters at 48x48 pixels.

Its thirteen convolutions leave one position of 512 numbers; three fully connected layers follow, with batch norm and
dropout behind the first two. Their width, 32, is ours: the report gives only the sum.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

from torch import nn

from ensemble_fer.models.member import IMAGENET_MEAN, IMAGENET_SCALE, Member, keep_scale, stages_of
from ensemble_fer.types import N_CLASSES

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
CROP, HIDDEN = 48, 32


def build(dropout: float = 0.5) -> Member:
    """ImageNet normalization, gray in three channels; the keys of the convolutions are those of timm's ``vgg16``."""
    layers: list[nn.Module] = []
    ends: list[int] = [0]
    channels = 3
    for width, count in STAGES:
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
        ends.append(len(layers))
    features = nn.Sequential(*layers)
    keep_scale(features)
    dense: list[nn.Module] = [nn.Flatten()]
    for inputs in (channels, HIDDEN):
        dense += [nn.Linear(inputs, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(inplace=True), nn.Dropout(dropout)]
    head = nn.Sequential(*dense, nn.Linear(HIDDEN, N_CLASSES))
    body = nn.Sequential(OrderedDict(features=features, head=head))
    parts = [features[begin:end] for begin, end in pairwise(ends)]
    stages = stages_of(body, *parts, head)
    return Member(body, CROP, mean=IMAGENET_MEAN, scale=IMAGENET_SCALE, stages=stages)
