"""The confusion matrix is drawn the right way round, whole, and with its stamp."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ensemble_fer.evaluate.figures import confusion_figure
from ensemble_fer.evaluate.metrics import score
from tests.evaluate.examples import some_predictions


def _cells(path: Path) -> np.ndarray:
    """Darkness of the 49 cells, 0 (white) to 255, where no text stands: near the top left of each."""
    picture = np.asarray(Image.open(path).convert("L")).astype(int)
    height, width = picture.shape
    left, right, top, bottom = 0.155 * width, 0.96 * width, 0.125 * height, 0.825 * height
    ys = [round(top + (r + 0.12) * (bottom - top) / 7) for r in range(7)]
    xs = [round(left + (c + 0.12) * (right - left) / 7) for c in range(7)]
    return 255 - picture[np.ix_(ys, xs)]


def test_rows_are_the_truth_and_colours_are_shares_of_a_row(tmp_path: Path) -> None:
    p = some_predictions(700)
    said = np.where(p.labels == 0, 3, p.labels)  # every angry face is called happy
    report = score(replace(p, logits=9 * np.eye(7)[said]), n_boot=20)
    path = confusion_figure(report, tmp_path / "confusion.png")
    cells = _cells(path)
    expected = np.eye(7, dtype=bool)
    expected[0] = [False, False, False, True, False, False, False]
    assert (cells[expected] > 150).all()
    assert (cells[~expected] < 20).all()
    assert [f.name for f in tmp_path.iterdir()] == ["confusion.png"]
    with Image.open(path) as picture:
        assert 900 < picture.width < 1300


def test_a_leaky_score_says_so_in_red(tmp_path: Path) -> None:
    def red(**changes) -> int:
        p = some_predictions(50)
        report = score(replace(p, protocol=replace(p.protocol, **changes)), n_boot=5)
        picture = np.asarray(Image.open(confusion_figure(report, tmp_path / "c.png")).convert("RGB")).astype(int)
        return int((picture[..., 0] - picture[..., 1:].max(axis=2) > 100).sum())

    assert red() == 0
    assert red(leaks=("rows duplicated before the split",)) > 200
