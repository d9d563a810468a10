"""The sheet shows each picture where it belongs."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble_fer.data.contact_sheet import GAP, contact_sheet
from ensemble_fer.errors import UsageError


def test_pictures_lie_in_a_grid_enlarged_without_smoothing() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 48, 48), dtype=np.uint8)
    sheet = np.asarray(contact_sheet(images, scale=3))
    assert sheet.shape == (2 * (144 + GAP) + GAP, 3 * (144 + GAP) + GAP)
    for r in range(2):
        for c in range(3):
            y, x = GAP + r * (144 + GAP), GAP + c * (144 + GAP)
            assert np.array_equal(sheet[y : y + 144, x : x + 144], np.kron(images[r, c], np.ones((3, 3), np.uint8)))
    assert (sheet[:GAP] == 255).all()


def test_captions_title_labels_and_holes_do_not_touch_pictures() -> None:
    black = np.zeros((48, 48), np.uint8)
    sheet = contact_sheet(
        [[black, None], [black]],
        [["a caption that is wider than its picture", "below nothing"], ["two\nlines – ok"]],
        scale=2,
        title="Title",
        row_labels=["first", "second"],
    )
    pixels = np.asarray(sheet)
    assert (pixels == 0).sum() >= 2 * 96 * 96
    rows, columns = np.nonzero(pixels < 200)
    assert rows.min() < 16  # the title
    assert columns.min() < 30  # the row labels
    dark = pixels == 0
    first = next((y, x) for y in range(16, 60) for x in range(10, 120) if dark[y : y + 96, x : x + 96].all())
    assert (pixels[first[0] + 96 : first[0] + 110, first[1] :] < 128).any()  # its caption


def test_wrong_requests() -> None:
    picture = np.zeros((4, 4), np.uint8)
    for arguments in (
        {"images": []},
        {"images": [[None]]},
        {"images": [[picture.astype(np.float32)]]},
        {"images": [[picture[None]]]},
        {"images": [[picture]], "scale": 0},
        {"images": [[picture]], "captions": [["a", "b"]]},
        {"images": [[picture]], "captions": [["a"], ["b"]]},
        {"images": [[picture]], "row_labels": ["a", "b"]},
    ):
        with pytest.raises(UsageError):
            contact_sheet(**arguments)  # type: ignore[arg-type]
