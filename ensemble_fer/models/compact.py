"""The compact member: a residual network that two cores train in reasonable time (ours)."""

from __future__ import annotations

from torch import Tensor, nn

from ensemble_fer.models.member import Member, conv_bn
from ensemble_fer.types import N_CLASSES

CROP = 40
STEM = 24
WIDTHS = (24, 64, 160)


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016), which is a 1x1 projection where the shape changes,
    pooled before when the stride is 2, so that no position is skipped (He et al. 2019, ResNet-D)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            conv_bn(inputs, outputs, stride=stride),
            conv_bn(outputs, outputs, relu=False),
        )
        pool: list[nn.Module] = [nn.AvgPool2d(2)] if stride == 2 else []
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Sequential(*pool, conv_bn(inputs, outputs, kernel=1, relu=False))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.convs(x) + self.shortcut(x))


def build(dropout: float = 0.1) -> Member:
    """Stem at stride 2, one residual block a stage at 20, 10 and 5 pixels, global average, linear."""
    layers: list[nn.Module] = [conv_bn(1, STEM, stride=2)]
    channels = STEM
    for index, width in enumerate(WIDTHS):
        layers.append(Residual(channels, width, 1 if index == 0 else 2))
        channels = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels, N_CLASSES)]
    return Member(nn.Sequential(*layers, *head), CROP)
