"""3x3 convolutions of small maps in bfloat16 as products of matrices, for training on the CPU.

Every patch of a map is laid out as a row (im2col, Chellapilla et al. 2006), and one product with the weights gives all
outputs. oneDNN's own routine in bfloat16 works along the rows of a map and leaves most of a register idle where a row
is 3 to 7 pixels long: a step through 256 channels at 5x5 took it twice as long (128 faces, one thread, a processor with
AMX), through 512 channels at 2x2 seven times. On larger maps it is the patches that cost more.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LARGEST_MAP = 49
LEAST_CHANNELS = 128
KERNEL = 3


def gains(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    """Whether a convolution of a training step, in bfloat16 on the CPU, is one that is faster as a product."""
    if weight.shape[2:] != (KERNEL, KERNEL) or groups != 1 or input.dim() != 4 or weight.shape[1] < LEAST_CHANNELS:
        return False
    if dilation not in (1, (1, 1)) or padding not in (1, (1, 1)):
        return False
    if stride not in (1, 2, (1, 1), (2, 2)):
        return False
    step = stride if isinstance(stride, int) else stride[0]
    return -(-input.shape[2] // step) * -(-input.shape[3] // step) <= LARGEST_MAP


def _patches(maps: Tensor, stride: int) -> Tensor:
    """Rows [n * oh * ow, 9 * channels] of maps [n, h, w, channels] within a border of zeros."""
    n, height, width, channels = maps.shape
    padded = torch.nn.functional.pad(maps, (0, 0, 1, 1, 1, 1))
    face, row, column, _ = padded.stride()
    down, across = -(-height // stride), -(-width // stride)
    sizes = (n, down, across, KERNEL, KERNEL * channels)
    return padded.as_strided(sizes, (face, row * stride, column * stride, row, 1)).reshape(n * down * across, -1)


class UnrolledConvolution(torch.autograd.Function):
    """``conv2d(images, weight, bias, stride, padding=1)`` of bfloat16 [n, c, h, w] and [outputs, c, 3, 3]."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        maps = images.permute(0, 2, 3, 1).contiguous()
        n, height, width, _ = maps.shape
        patches, columns = _patches(maps, stride), weight.permute(2, 3, 1, 0).reshape(-1, len(weight))
        # Nine times as large as the maps; to lay them out again would cost a tenth of a step.
        ctx.save_for_backward(patches, maps, weight)
        ctx.stride = stride
        # Not a view, which what follows could not change in place.
        sizes = n, len(weight), -(-height // stride), -(-width // stride)
        found = torch.empty(sizes, dtype=images.dtype, device=images.device, memory_format=torch.channels_last)
        rows = found.permute(0, 2, 3, 1).view(-1, len(weight))
        if bias is None:
            torch.mm(patches, columns, out=rows)
        else:
            torch.addmm(bias, patches, columns, out=rows)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        patches, maps, weight = ctx.saved_tensors
        (outputs, inputs), stride = weight.shape[:2], ctx.stride
        given = gradient.permute(0, 2, 3, 1).contiguous()
        of_images = of_weight = of_bias = None
        if ctx.needs_input_grad[1]:
            product = given.view(-1, outputs).t() @ patches
            of_weight = product.view(outputs, KERNEL, KERNEL, inputs).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[0] and stride == 1:
            # A convolution of the gradient with the weights turned round.
            turned = weight.flip(2, 3).permute(2, 3, 0, 1).reshape(-1, inputs)
            of_images = (_patches(given, 1) @ turned).view(maps.shape).permute(0, 3, 1, 2)
        elif ctx.needs_input_grad[0]:
            images = maps.permute(0, 3, 1, 2)
            sizes = [stride, stride], [1, 1], [1, 1], False, [0, 0], 1, [True, False, False]
            of_images = torch.ops.aten.convolution_backward(given.permute(0, 3, 1, 2), images, weight, None, *sizes)[0]
        if ctx.needs_input_grad[2]:
            of_bias = (
                given.view(-1, outputs).sum(0, dtype=torch.promote_types(given.dtype, torch.float32)).to(given.dtype)
            )
        return of_images, of_weight, of_bias, None
