"""Pazos and Wang's compact MobileNetV2 (system D): about 130k parameters.

As the report has it: no early stride of 2, fewer repetitions, no blocks of 160 and 320 channels, a last projection to
128 and dropout behind it. The repetitions are ours.
"""

from __future__ import annotations

from torch import nn

from ensemble_fer.models.inverted import InvertedResidual
from ensemble_fer.models.member import HALF_MEAN, HALF_SCALE, Member, conv_bn, stages_of
from ensemble_fer.types import N_CLASSES

CROP, STEM, LAST = 48, 32, 128
# Expansion, channels, repetitions, stride of the first.
STAGES = ((1, 16, 1, 1), (6, 24, 1, 1), (6, 32, 2, 2), (6, 64, 1, 2), (6, 96, 1, 1))


def build(dropout: float = 0.2) -> Member:
    """Gray in three channels from -1 to 1; maps of 48, 24 and 12 pixels."""
    stages: list[nn.Module] = [conv_bn(3, STEM)]
    channels = STEM
    for expansion, width, repetitions, stride in STAGES:
        stage = nn.Sequential()
        for index in range(repetitions):
            stage.append(InvertedResidual(channels, expansion * channels, width, stride if index == 0 else 1))
            channels = width
        stages.append(stage)
    head = nn.Sequential(
        conv_bn(channels, LAST, kernel=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(LAST, N_CLASSES),
    )
    stages.append(head)
    body = nn.Sequential(*stages)
    return Member(body, CROP, mean=HALF_MEAN, scale=HALF_SCALE, stages=stages_of(body, *body))
