"""What every member shares: bytes in, logits out, preprocessing inside."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Fixed numbers, not statistics of a data set: nothing is fitted on any part, so nothing can leak.
GRAY_MEAN, GRAY_SCALE = 0.5, 0.25


class Member(nn.Module):
    """A network over square crops of gray faces.

    Parameters
    ----------
    body : nn.Module
        Maps float32 [n, 1, crop, crop], about -2 to 2, to logits [n, 7].
    crop : int
        Side of the crop the body takes; the centre of the face outside of training.
    """

    def __init__(self, body: nn.Module, crop: int) -> None:
        super().__init__()
        self.body = body
        self.crop = crop

    def forward(self, faces: Tensor) -> Tensor:
        """Logits float32 [n, 7] of faces uint8 [n, h, w], their centre crops taken."""
        top = (faces.shape[-2] - self.crop) // 2
        left = (faces.shape[-1] - self.crop) // 2
        return self.of_crops(faces[:, top : top + self.crop, left : left + self.crop])

    def of_crops(self, crops: Tensor) -> Tensor:
        """Logits of crops [n, crop, crop], uint8 or float grey levels 0 to 255."""
        x = crops.unsqueeze(1).to(torch.float32) / 255.0
        return self.body((x - GRAY_MEAN) / GRAY_SCALE)

    @property
    def parameter_count(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def conv_bn(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Convolution without bias (batch norm has one), batch norm, and ReLU unless told otherwise."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))
