"""GoogLeNet (Szegedy et al. 2015, table 1) for 48x48 gray faces, as system B's report describes it.

The stock stem divides the side by eight, so that the 5x5 pooling of the auxiliary classifiers would find maps of 3x3.
Here it is halved once: the first convolution is 3x3 without a stride, and the second max-pooling is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ensemble_fer.models.member import Member, conv_bn, stages_of
from ensemble_fer.types import N_CLASSES

CROP = 48
AUXILIARY = 0.3
# Outputs of the branches: 1x1; 1x1 before 3x3 and 3x3; 1x1 before 5x5 and 5x5; 1x1 after pooling.
EARLY = ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64))
MIDDLE = (
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
)
LATE = ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128))


class Inception(nn.Module):
    """Four branches side by side."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        one, before3, three, before5, five, pooled = widths
        self.branches = nn.ModuleList(
            [
                conv_bn(inputs, one, kernel=1),
                nn.Sequential(conv_bn(inputs, before3, kernel=1), conv_bn(before3, three)),
                nn.Sequential(conv_bn(inputs, before5, kernel=1), conv_bn(before5, five, kernel=5)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_bn(inputs, pooled, kernel=1)),
            ]
        )
        self.outputs = one + three + five + pooled

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class GoogLeNet(nn.Module):
    """Logits, and in training those of the two auxiliary classifiers behind them."""

    def __init__(self, dropout: float, side: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(1, 64), nn.MaxPool2d(3, 2, 1), conv_bn(64, 64, kernel=1), conv_bn(64, 192))
        self.early, channels = _row(192, EARLY)
        first, channels = _row(channels, MIDDLE[:1])
        self.middle, self.auxiliary = nn.ModuleList([first]), nn.ModuleList([_auxiliary(channels, dropout, side)])
        second, channels = _row(channels, MIDDLE[1:4])
        self.middle.append(second)
        self.auxiliary.append(_auxiliary(channels, dropout, side))
        last, channels = _row(channels, MIDDLE[4:])
        self.middle.append(last)
        self.late, channels = _row(channels, LATE)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels, N_CLASSES)
        )

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = self.pool(self.early(self.stem(x)))
        beside = []
        for index, part in enumerate(self.middle):
            x = part(x)
            if self.training and index < len(self.auxiliary):
                beside.append(self.auxiliary[index](x))
        logits = self.head(self.late(self.pool(x)))
        return (logits, *beside) if self.training else logits


def _row(channels: int, modules: tuple[tuple[int, ...], ...]) -> tuple[nn.Sequential, int]:
    row: list[Inception] = []
    for widths in modules:
        row.append(Inception(channels, widths))
        channels = row[-1].outputs
    return nn.Sequential(*row), channels


def _auxiliary(channels: int, dropout: float, side: int) -> nn.Sequential:
    """5x5 average pooling at stride 3, 1x1 convolution to 128, 1024 hidden (section 5), at a quarter of the side."""
    left = (side // 4 - 5) // 3 + 1
    return nn.Sequential(
        nn.AvgPool2d(5, 3),
        conv_bn(channels, 128, kernel=1),
        nn.Flatten(),
        nn.Linear(128 * left * left, 1024),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(1024, N_CLASSES),
    )


def build(dropout: float = 0.4, *, side: int = CROP) -> Member:
    """Nine inception modules at 24, 12 and 6 pixels; two auxiliary classifiers weighted 0.3, in training only.

    Parameters
    ----------
    dropout : float
        Before the last layer of each of the three classifiers.
    side : int
        To which faces are resized; a multiple of 4.
    """
    net = GoogLeNet(dropout, side)
    stages = stages_of(net, net.stem, net.early, net.middle, net.late, nn.ModuleList([net.auxiliary, net.head]))
    return Member(net, CROP, side=side, stages=stages, auxiliary=AUXILIARY)
