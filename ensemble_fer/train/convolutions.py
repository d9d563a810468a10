"""Which way a convolution of a training step is computed on the CPU: by the one that is fast there.

torch takes one routine for every shape of a kind, and for some shapes a poor one. Scores are computed outside of this.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ensemble_fer.train import unrolled
from ensemble_fer.train.unrolled import UnrolledConvolution
from ensemble_fer.train.winograd import Convolution, Rooms, eligible


class FastConvolutions(TorchFunctionMode):
    """Within this context, convolutions that gain from it are computed in another way, forward and backward.

    In float32, wide 3x3 ones by Winograd's tiles (``winograd.py``). In bfloat16, depthwise ones with a stride or a
    kernel above 3 in float32: oneDNN has no good routine for their gradients in bfloat16; and wide 3x3 ones of small
    maps as products of matrices (``unrolled.py``), where the processor has AMX.

    All others, and all on another device or without gradients, are torch's own; so are those in checkpointed parts of a
    network, which are computed again in the backward pass, where no such context holds, and must go the same way. The
    context needs to hold the forward pass only. Make one for a training and enter it at every step: it keeps the memory
    that tiles are worked on in, which the system would otherwise hand out, zeroed, again and again.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rooms = Rooms()

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.conv2d and not _saved_otherwise():
            if (found := eligible(*args, **kwargs)) is not None:
                return Convolution.apply(*found, self._rooms)
            if _in_bfloat16(*args, **kwargs):
                if slow_in_bfloat16(*args, **kwargs):
                    return _in_float32(func, *args, **kwargs)
                if unrolled.gains(*args, **kwargs) and _has_amx():
                    return _as_product(*args, **kwargs)
        return func(*args, **kwargs)


def _saved_otherwise() -> bool:
    """Whether what the backward pass needs is kept by hooks, as ``torch.utils.checkpoint`` does."""
    autograd: Any = torch._C
    return autograd._autograd._top_saved_tensors_default_hooks(True) is not None


def _in_bfloat16(input: Tensor, weight: Tensor, *_: Any, **__: Any) -> bool:
    """Whether autocast would compute a convolution of a training step in bfloat16 on the CPU."""
    if input.device.type != "cpu" or not torch.is_autocast_enabled("cpu") or not torch.is_grad_enabled():
        return False
    # Autocast leaves float64 as it is.
    return torch.get_autocast_dtype("cpu") == torch.bfloat16 and torch.float64 not in (input.dtype, weight.dtype)


@lru_cache(maxsize=1)
def _has_amx() -> bool:
    # Early torch 2.x does not say; without, a training is slower and otherwise the same.
    return bool(getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16"))


def slow_in_bfloat16(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    """Whether a convolution, in bfloat16 on the CPU, is a depthwise one whose gradients take many times too long.

    Measured with oneDNN 3.13 on a processor with AVX-512 and AMX, 16 faces, one thread: of a step of mobilenet_compact
    in 420 ms, two depthwise convolutions of stride 2 took 306 to hand their gradient on, in float32 17.
    """
    if not groups == len(weight) == input.shape[1] > 1:
        return False
    strides = (stride, stride) if isinstance(stride, int) else tuple(stride)
    return max(strides) > 1 or max(weight.shape[2:]) > 3


def _in_float32(func: Callable, input: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **more: Any):
    """The same in float32, and rounded to bfloat16 as it would have been."""
    with torch.autocast("cpu", enabled=False):
        return func(input.float(), weight.float(), None if bias is None else bias.float(), *args, **more).bfloat16()


def _as_product(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, *_: Any, **__: Any
) -> Tensor:
    """The same as a product of matrices, in bfloat16 as autocast would have it."""
    with torch.autocast("cpu", enabled=False):
        step = stride if isinstance(stride, int) else stride[0]
        given = input.bfloat16(), weight.bfloat16(), None if bias is None else bias.bfloat16()
        return UnrolledConvolution.apply(*given, step)  # type: ignore[return-value]
