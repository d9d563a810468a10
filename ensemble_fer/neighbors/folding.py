"""Which of very many scores are low: the lowest of each chunk first, then only the chunks that can hold one.

Chunk ``c`` of a row of scores is columns ``c, c + w, c + 2 w, ...`` with ``w`` chunks in the row, so that all minima
of a row are made by comparing long runs of numbers, in one pass over them. Hardly any chunk is looked into after.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

SHARE = 16  # scores of a row that share one minimum


class Scratch(threading.local):
    """Scores of a tile in memory that each thread has for itself and uses for every tile.

    Fresh pages would cost more than the arithmetic on them.

    Parameters
    ----------
    rows, columns : int
        Of the largest tile.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.held = np.empty(rows * columns, np.float32)

    def tile(self, rows: int, columns: int) -> NDArray[np.float32]:
        """Room for a tile, float32 [rows, columns]; what it held before is lost."""
        return self.held[: rows * columns].reshape(rows, columns)


def folded(scores: NDArray[np.float32], share: int = SHARE) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores by chunk and the lowest of each chunk.

    Parameters
    ----------
    scores : float32 [n, share * w]
        Contiguous.

    Returns
    -------
    chunks : float32 [n, share, w]
        A view; column ``c + part * w`` of the scores is ``[:, part, c]``.
    lowest : float32 [n, w]
    """
    chunks = scores.reshape(len(scores), share, -1)
    return chunks, chunks.min(axis=1)


def at_most(
    chunks: NDArray[np.float32], lowest: NDArray[np.float32], bound: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where scores are at most the bound of their row: row and column.

    Parameters
    ----------
    chunks, lowest : float32 [n, share, w] and [n, w]
        From ``folded``. Scores may have been raised since.
    bound : float32 [n]
    """
    row, chunk = np.nonzero(lowest <= bound[:, None])
    which, part = np.nonzero(chunks[row, :, chunk] <= bound[row, None])
    part *= lowest.shape[1]
    part += chunk[which]
    return row[which], part
