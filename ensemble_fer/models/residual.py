"""The residual block that compact and resnet14 are made of."""

from __future__ import annotations

from torch import Tensor, nn

from ensemble_fer.models.member import conv_bn


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
