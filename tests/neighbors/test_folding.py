"""Folded scores: those that are at most a bound are found, whatever the shape."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ensemble_fer.neighbors.folding import Scratch, at_most, folded


@pytest.mark.parametrize("share", [1, 4, 16])
@pytest.mark.parametrize("bound", [-9.0, -2.0, 0.0, 9.0])
def test_found_are_those_at_most_the_bound(share: int, bound: float) -> None:
    rng = np.random.default_rng(share)
    scores = rng.standard_normal((7, 48)).astype(np.float32)
    bounds = (bound + rng.standard_normal(7)).astype(np.float32)
    bounds[3] = scores[3, 5]  # a score equal to its bound counts
    row, column = at_most(*folded(scores, share), bounds)
    wanted = {tuple(p) for p in np.argwhere(scores <= bounds[:, None]).tolist()}
    assert len(row) == len(wanted)
    assert set(zip(row.tolist(), column.tolist(), strict=True)) == wanted
    assert (3, 5) in wanted


def test_raised_scores_are_not_found() -> None:
    scores = np.zeros((2, 32), np.float32)
    chunks, lowest = folded(scores)
    scores[1, :] = np.inf
    row, _ = at_most(chunks, lowest, np.zeros(2, np.float32))
    assert row.tolist() == [0] * 32


def test_threads_do_not_share_memory() -> None:
    scratch = Scratch(4, 8)
    mine = scratch.tile(2, 8)
    assert np.shares_memory(mine, scratch.tile(4, 4))
    with ThreadPoolExecutor(1) as pool:
        theirs = pool.submit(scratch.tile, 2, 8).result()
    assert not np.shares_memory(mine, theirs)
