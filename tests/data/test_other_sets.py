"""What another set may look like: other sizes, colours, an eighth class, usages of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensemble_fer.data.importing import import_data, load_faces, store_faces
from ensemble_fer.data.injection import fitted, inject_data
from ensemble_fer.data.synthetic import draw_faces
from ensemble_fer.errors import BadData
from ensemble_fer.store import Store
from ensemble_fer.types import INJECTED, FaceSet


@pytest.fixture(scope="module")
def base_faces() -> FaceSet:
    return draw_faces(300, 1).faces("base")


def test_pictures_of_other_sizes_and_colours_are_fitted() -> None:
    gray = np.kron(np.arange(36, dtype=np.uint8).reshape(6, 6) * 7, np.ones((8, 8), np.uint8))[None]
    same, changed = fitted(gray, (48, 48))
    assert same is gray or np.array_equal(same, gray)
    assert changed == 0
    colours, changed = fitted(gray, (96, 96, 3))
    assert (colours.shape, changed) == ((1, 96, 96, 3), 1)
    assert np.array_equal(colours[..., 0], colours[..., 2])
    back, changed = fitted(colours, (48, 48))
    assert (back.shape, back.dtype, changed) == ((1, 48, 48), np.uint8, 1)
    assert abs(back.astype(int) - gray).max() <= 10  # between blocks a level is interpolated twice
    wide = np.zeros((2, 48, 80), np.uint8)
    wide[:, :, 16:64] = gray
    assert np.array_equal(fitted(wide, (48, 48))[0], np.repeat(gray, 2, axis=0))
    assert fitted(gray[:0], (96, 96, 3))[0].shape == (0, 96, 96, 3)


def test_a_folder_of_large_coloured_pictures_is_imported_and_added(store: Store, tmp_path: Path, base_faces) -> None:
    drawn = draw_faces(200, 4)
    rows = np.delete(np.arange(200), drawn.planted["constant"])[:40]
    for row in rows:
        name = ("contempt", "Anger", "surprised")[row % 3]
        path = tmp_path / "pictures/train" / name / f"{row}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn.images[row]).convert("RGB").resize((224, 224)).save(path)
    other = import_data(store, tmp_path / "pictures", name="large", quiet=True)
    contempt = int((rows % 3 == 0).sum())
    assert other.metrics["dropped"] == {"contempt": contempt}
    assert other.metrics["converted"] == other.metrics["rows"] == 40 - contempt
    base = store_faces(store, base_faces, {})
    made = inject_data(store, base, other, classes=["angry", "surprise"], quiet=True)
    assert sum(made.metrics["injected"][0]["added"]) == 40 - contempt
    assert load_faces(made).images.shape[1:] == (48, 48)


def test_only_contempt_is_no_set(store: Store, tmp_path: Path) -> None:
    (tmp_path / "pictures/contempt").mkdir(parents=True)
    Image.new("L", (48, 48)).save(tmp_path / "pictures/contempt/a.png")
    with pytest.raises(BadData, match="1 rows of contempt, none of the seven classes"):
        import_data(store, tmp_path / "pictures", quiet=True)


def test_a_csv_cannot_call_its_rows_injected(store: Store, tmp_path: Path, base_faces) -> None:
    pixels = " ".join(map(str, base_faces.images[0].reshape(-1)))
    (tmp_path / "f.csv").write_text(f"emotion,pixels,Usage\n3,{pixels},Injected\n")
    with pytest.raises(BadData, match="unknown usage 'Injected'; expected Training, PublicTest, PrivateTest"):
        import_data(store, tmp_path / "f.csv", quiet=True)
    arrays = {"images": base_faces.images[:2], "labels": np.zeros(2), "usage": np.array([0, 3])}
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(BadData, match="unknown usage '3'"):
        import_data(store, tmp_path / "f.npz", quiet=True)


def test_faces_know_usages_up_to_injected(base_faces) -> None:
    usage = base_faces.usage.copy()
    usage[0] = 3
    assert replace(base_faces, usage=usage).usage_counts()[INJECTED][base_faces.labels[0]] == 1
    assert INJECTED not in base_faces.usage_counts()
    usage[0] = 4
    with pytest.raises(BadData, match="usage above 3"):
        replace(base_faces, usage=usage)
