"""ResNet50V2 (He et al. 2016, identity mappings) with system B's head: 7x7 maps of 2,048 channels into 64 units.

The convolutions are timm's ``resnetv2_50``, whose weights fit.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from ensemble_fer.models.member import FACE, Member, stages_of
from ensemble_fer.models.transfer import create, named_stages
from ensemble_fer.types import N_CLASSES

SIDE, HIDDEN = 224, 64
NETWORK = "resnetv2_50"


def build(dropout: float = 0.25, *, side: int = SIDE) -> Member:
    """Dropout, batch norm, flatten, 64 units with batch norm and dropout, 7; faces enlarged to 224 pixels.

    The first dense layer has the published 6,422,592 parameters.
    """
    net = create(NETWORK, num_classes=0, global_pool="")
    width = net.num_features * (side // 32) ** 2
    head = nn.Sequential(
        nn.Dropout(dropout),
        nn.BatchNorm2d(net.num_features),
        nn.Flatten(),
        nn.Linear(width, HIDDEN),
        nn.BatchNorm1d(HIDDEN),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(HIDDEN, N_CLASSES),
    )
    body = nn.Sequential(OrderedDict(net=net, head=head))
    stages = [[f"net.{name}" for name in stage] for stage in named_stages(net)]
    settings = net.pretrained_cfg
    return Member(
        body,
        FACE,
        side=side,
        mean=settings["mean"],
        scale=settings["std"],
        stages=[*stages, *stages_of(body, head)],
    )
