"""Pixels and networks of the cascade in torch, for many pictures at once, also on a GPU."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ensemble_fer.align.nets import Nets
from ensemble_fer.detector.boxes import Boxes
from ensemble_fer.detector.cascade import Scores, Spans

# Windows whose pixels are averaged together: 64 MB of sums for 48 x 48 pixels in three channels.
WINDOWS = 1024


class TorchEngine:
    """Pictures uint8 [n, c, h, w] on the nets' device.

    The pixels of windows are averaged from tables of sums instead of one resizing each.
    """

    def __init__(self, pictures: Tensor, nets: Nets) -> None:
        self.nets = nets
        self.levels = pictures.float()
        self._pictures = pictures
        self._sums: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self._pictures.shape[2], self._pictures.shape[3]

    def propose(self, height: int, width: int, threshold: float) -> tuple[NDArray[np.int64], Scores, Boxes]:
        """As ``Engine`` has it."""
        score, shift = self.nets.propose(F.interpolate(self.levels, (height, width), mode="area"))
        at = torch.nonzero(score >= threshold)
        picture, y, x = at.unbind(1)
        return at.cpu().numpy(), score[picture, y, x].cpu().numpy(), shift[picture, :, y, x].cpu().numpy()

    def refine(self, windows: Spans) -> tuple[Scores, Boxes]:
        """As ``Engine`` has it."""
        score, shift = self.nets.refine(self._means(windows))
        return score.cpu().numpy(), shift.cpu().numpy()

    def decide(self, windows: Spans) -> tuple[Scores, Boxes, NDArray[np.float32]]:
        """As ``Engine`` has it."""
        score, shift, place = self.nets.decide(self._means(windows))
        return score.cpu().numpy(), shift.cpu().numpy(), place.cpu().numpy()

    def _means(self, windows: Spans) -> Tensor:
        """Pixels of windows, float32 [n, c, side, side]."""
        if self._sums is None:
            self._sums = sums_of(self._pictures)
        sums, channels, width = self._sums, self._pictures.shape[1], self._pictures.shape[3]
        side = windows.begin.shape[2]
        begin, end = torch.from_numpy(windows.begin), torch.from_numpy(windows.end)
        each = sums.shape[2] * sums.shape[3]
        first = torch.from_numpy(windows.owners) * channels
        parts = []
        for at in torch.arange(len(first)).split(WINDOWS):
            (x0, y0), (x1, y1) = begin[at].unbind(1), end[at].unbind(1)
            area = ((y1 - y0)[:, :, None] * (x1 - x0)[:, None, :]).to(sums.device)
            table = (first[at][:, None] + torch.arange(channels)) * each

            def corners(y: Tensor, x: Tensor, table: Tensor = table) -> Tensor:
                line = table[:, :, None] + y[:, None, :] * (width + 1)
                return sums.view(-1)[(line[..., None] + x[:, None, None, :]).to(sums.device)]

            total = corners(y1, x1) - corners(y0, x1) - corners(y1, x0) + corners(y0, x0)
            parts.append(total.float() / area[:, None])
        return torch.cat(parts) if parts else torch.empty((0, channels, side, side), device=sums.device)


def sums_of(pictures: Tensor) -> Tensor:
    """Tables of sums [n, c, h + 1, w + 1]: entry (y, x) is the sum of all pixels above and to the left of it."""
    height, width = pictures.shape[2:]
    kind = torch.int32 if height * width * 255 < 2**31 else torch.int64
    table = torch.zeros((*pictures.shape[:2], height + 1, width + 1), dtype=kind, device=pictures.device)
    torch.cumsum(pictures, 2, dtype=kind, out=table[:, :, 1:, 1:])
    table[:, :, 1:, 1:] = table[:, :, 1:, 1:].cumsum(3, dtype=kind)
    return table
