"""The same search on a GPU: one product of whole shadows, and what it leaves measured in float64, all on the device.

A GPU multiplies so much faster than it gathers that levels of coordinates would not pay there.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.devices import CPU_OR_CUDA, check_device, choose_device
from ensemble_fer.neighbors.dense import Dense
from ensemble_fer.neighbors.points import Mixtures
from ensemble_fer.neighbors.pruned import GIVE_UP
from ensemble_fer.neighbors.shadows import Shadows

_TALL, _PAIRS = 1024, 8192


def torch_device(name: str) -> Any | None:
    """The torch device of this name, or None where numpy is to search: for ``cpu``, and for ``auto`` without a GPU.

    torch is imported only where there can be a GPU.

    Raises
    ------
    UsageError, MissingError
        See ``choose_device``.
    """
    what = "the search for neighbours"
    check_device(name, CPU_OR_CUDA, what)
    if name == "cpu" or (name == "auto" and not Path("/proc/driver/nvidia/version").exists()):
        return None
    device = choose_device(name, CPU_OR_CUDA, what)
    return None if device.type == "cpu" else device


class OnDevice:
    """What shadows cannot rule out, measured; takes and gives what ``Pruned`` does.

    Parameters
    ----------
    device : torch.device
    points, asked, k, there, here, dense, itself, unit
        As for ``Pruned``.
    """

    def __init__(
        self,
        device: Any,
        points: Mixtures,
        asked: Mixtures,
        k: int,
        there: Shadows,
        here: Shadows,
        dense: Dense,
        *,
        itself: bool,
        unit: float,
    ) -> None:
        # By name, so that whoever only searches does not load torch: the rooms above promise to do without it.
        self.torch, self.device = import_module("torch"), device
        # TensorFloat-32 keeps ten bits of the fraction; the slack is that of float32.
        self.torch.backends.cuda.matmul.allow_tf32 = False
        self.k, self.dense, self.itself, self.unit, self.tall = k, dense, itself, unit, _TALL
        self.points = self._placed(points)
        self.asked = self.points if itself else self._placed(asked)
        self.columns, self.rows = self._whole(there), self._whole(here)
        self.half = self._put((there.squared - there.slack) / 2).float()
        self.own = self._put(here.squared - here.slack)

    def candidates(self, ids: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray]:
        """For these queries: row, point and squared distance of candidates among which the k nearest are."""
        torch = self.torch
        chosen = self._put(ids)
        with torch.inference_mode():
            scores = self.half - self.rows[chosen] @ self.columns.T
            best = scores.topk(self.k, largest=False).indices
            limit = self._squared(chosen.repeat_interleave(self.k), best.flatten()).reshape(best.shape).amax(1)
            bound = (limit * self.unit * (1 + 1e-4) - self.own[chosen]) / 2
            row, column = (scores <= bound.float()[:, None]).nonzero(as_tuple=True)
            if len(row) > GIVE_UP * scores.numel():
                return self.dense.candidates(ids)
            squared = self._squared(chosen[row], column)
        return row.cpu().numpy(), column.cpu().numpy(), squared.cpu().numpy()

    def _squared(self, query: Any, column: Any) -> Any:
        """Squared distances of pairs from differences in float64."""
        out = []
        for i, j in zip(query.split(_PAIRS), column.split(_PAIRS), strict=True):
            apart = _values(self.asked, i) - _values(self.points, j)
            squared = (apart * apart).sum(1)
            out.append(squared.masked_fill(i == j, 0.0) if self.itself else squared)
        return self.torch.cat(out)

    def _put(self, array: NDArray) -> Any:
        return self.torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _placed(self, points: Mixtures) -> tuple[Any, Any, Any, Any]:
        return self._put(points.pixels), self._put(points.a), self._put(points.b), self._put(points.w)

    def _whole(self, shadows: Shadows) -> Any:
        return self._put(np.concatenate([shadows.near, shadows.far, shadows.rests[-1][:, None]], axis=1))


def _values(points: tuple[Any, Any, Any, Any], ids: Any) -> Any:
    pixels, a, b, w = points
    first = pixels[a[ids]].double()
    return first + w[ids][:, None] * (pixels[b[ids]].double() - first)
