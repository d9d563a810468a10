"""What one face costs a member."""

from __future__ import annotations

import torch

from ensemble_fer.models.member import FACE, Member


def flops(member: Member) -> int:
    """Multiply-adds of one face of 48x48 pixels, in evaluation.

    Counted by torch's ``FlopCounterMode`` while a face goes through, and halved, since it counts a multiplication and
    an addition as two: convolutions, matrix products and attention. Normalization, activations, pooling and resizing
    are not in it.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    was_training = member.training
    member.eval()
    face = torch.zeros(1, FACE, FACE, dtype=torch.uint8, device=member.mean.device)
    # Attention as products of matrices, which every version counts; of its fused kernels some know none on the CPU.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        member(face)
    member.train(was_training)
    return counter.get_total_flops() // 2
