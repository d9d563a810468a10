"""Pixels and networks of the cascade for a picture or a few, in numpy and onnxruntime, where torch is not wanted."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.detector.boxes import Boxes
from ensemble_fer.detector.cascade import Scores, Spans
from ensemble_fer.runtime import cpu_count

FOLDER = Path(__file__).parent / "mtcnn"
NETS = ("pnet", "rnet", "onet")
# Windows in one call: few enough that what a layer makes stays in the cache of a core.
CHUNK = 64


@lru_cache(maxsize=4)
def nets(threads: int | None = None) -> dict[str, Any]:
    """The three networks as sessions of onnxruntime; their graphs come with this package."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or cpu_count()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Three networks and whatever reads the faces take turns: threads that wait busily would be in each other's way.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return {
        name: onnxruntime.InferenceSession(str(FOLDER / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
        for name in NETS
    }


class GraphEngine:
    """Pictures uint8 [n, h, w] or [n, h, w, 3] of one size.

    Parameters
    ----------
    pictures : uint8
        Gray ones go to all three channels.
    threads : int, optional
        Of onnxruntime; all processors by default.
    """

    def __init__(self, pictures: NDArray[np.uint8], threads: int | None = None) -> None:
        self.nets = nets(threads)
        planes = pictures[:, None] if pictures.ndim == 3 else pictures.transpose(0, 3, 1, 2)
        count, channels, height, width = planes.shape
        kind = np.int32 if height * width * 255 < 2**31 else np.int64
        # Entry (y, x) is the sum of all pixels above and to the left of it.
        self.sums = np.zeros((count, channels, height + 1, width + 1), kind)
        np.cumsum(planes, axis=2, dtype=kind, out=self.sums[:, :, 1:, 1:])
        np.cumsum(self.sums[:, :, 1:, 1:], axis=3, out=self.sums[:, :, 1:, 1:])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.sums.shape[2] - 1, self.sums.shape[3] - 1

    def propose(self, height: int, width: int, threshold: float) -> tuple[NDArray[np.int64], Scores, Boxes]:
        """As ``Engine`` has it."""
        score, shift = self.nets["pnet"].run(None, {"pictures": self._shrunk(height, width)})
        picture, y, x = np.nonzero(score >= threshold)
        return np.stack([picture, y, x], 1), score[picture, y, x], shift[picture, :, y, x]

    def refine(self, windows: Spans) -> tuple[Scores, Boxes]:
        """As ``Engine`` has it."""
        score, shift = self._run("rnet", windows)
        return score, shift

    def decide(self, windows: Spans) -> tuple[Scores, Boxes, NDArray[np.float32]]:
        """As ``Engine`` has it."""
        score, shift, place = self._run("onet", windows)
        return score, shift, place

    def _run(self, net: str, windows: Spans) -> list[NDArray[np.float32]]:
        pixels = self._means(windows)
        # Once at least, so that nothing is [0] and [0, 4] too.
        starts = range(0, max(1, len(pixels)), CHUNK)
        parts = [self.nets[net].run(None, {"windows": pixels[start : start + CHUNK]}) for start in starts]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def _shrunk(self, height: int, width: int) -> NDArray[np.float32]:
        """All pictures at this size, each pixel the mean of those it covers: as torch's ``area`` has it."""
        own = self.size
        (y0, y1), (x0, x1) = (_covered(a, b) for a, b in zip(own, (height, width), strict=True))
        rows = self.sums[:, :, y1] - self.sums[:, :, y0]
        total = rows[..., x1] - rows[..., x0]
        return _three((total / ((y1 - y0)[:, None] * (x1 - x0)).astype(np.float32)).astype(np.float32, copy=False))

    def _means(self, windows: Spans) -> NDArray[np.float32]:
        """Pixels of windows, float32 [n, 3, side, side]."""
        (x0, y0), (x1, y1) = windows.begin.transpose(1, 0, 2), windows.end.transpose(1, 0, 2)
        owner = windows.owners[:, None, None]

        def corners(y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray:
            return self.sums[owner, :, y[:, :, None], x[:, None, :]]  # [n, side, side, c]

        total = corners(y1, x1) - corners(y0, x1) - corners(y1, x0) + corners(y0, x0)
        area = ((y1 - y0)[:, :, None] * (x1 - x0)[:, None, :]).astype(np.float32)
        return _three((total / area[..., None]).astype(np.float32).transpose(0, 3, 1, 2))


def _covered(length: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each of ``count`` pixels the first of ``length`` that it covers, and that after the last."""
    step = np.arange(count)
    return step * length // count, -(-(step + 1) * length // count)


def _three(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """One plane as three."""
    return np.ascontiguousarray(np.repeat(planes, 3, axis=1) if planes.shape[1] == 1 else planes)
