"""Faces in scenes as facenet-pytorch finds them, framed as FER2013 does, without torch and whatever the picture is."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from ensemble_fer.align import detect
from ensemble_fer.align.nets import Nets
from ensemble_fer.align.weights import load_weights
from ensemble_fer.data.synthetic import draw_faces
from ensemble_fer.detector.cascade import Settings
from ensemble_fer.detector.engine import NETS, nets
from ensemble_fer.detector.finding import SIDE, cut_out, find, framed, settings_for
from ensemble_fer.types import FaceSet


def scene(faces: np.ndarray, seed: int, *, across: int = 3, down: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Faces of 60 to 180 pixels a side on a smooth ground, one in each field of a grid; where each was put."""
    rng = np.random.default_rng(seed)
    field = 200
    small = rng.integers(60, 200, (down * 2, across * 2)).astype(np.uint8)
    ground = Image.fromarray(small).resize((across * field, down * field), Image.Resampling.BICUBIC)
    places = []
    for i, face in enumerate(faces[: across * down]):
        side = int(rng.integers(60, 181))
        x, y = (np.array([i % across, i // across]) * field + rng.integers(0, field - side, 2)).tolist()
        ground.paste(Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC), (x, y))
        places.append((x, y, x + side, y + side))
    return np.asarray(ground), np.array(places, float)


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union [n, m]."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    area = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (a, b)]
    return shared / (area[0][:, None] + area[1][None] - shared)


def facenet(picture: np.ndarray) -> np.ndarray:
    """Boxes by facenet-pytorch's own detector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from facenet_pytorch import MTCNN

        boxes, _ = MTCNN(keep_all=True).detect(np.repeat(picture[..., None], 3, 2))
    return np.zeros((0, 4)) if boxes is None else np.asarray(boxes, float)


def agreement(faces: np.ndarray, scenes: int) -> tuple[int, int]:
    """Of the faces that facenet-pytorch finds in scenes, how many are found here with IoU 0.95; of how many."""
    agreed = total = 0
    for seed in range(scenes):
        picture, _ = scene(faces[6 * seed :], seed)
        theirs = facenet(picture)
        ours = find(picture, threads=1).boxes
        best = overlap(theirs, ours).max(1, initial=0) if len(theirs) else np.zeros(0)
        agreed, total = agreed + int((best >= 0.95).sum()), total + len(theirs)
    return agreed, total


def test_drawn_faces_in_scenes() -> None:
    agreed, total = agreement(draw_faces(200, seed=1).images, 4)
    assert total >= 10
    assert agreed == total


@pytest.mark.real
def test_real_faces_in_scenes(real_faces: FaceSet) -> None:
    agreed, total = agreement(real_faces.images[real_faces.rows_of("PublicTest")], 17)
    assert total >= 60
    assert agreed >= 0.99 * total


def test_the_same_as_torch_finds() -> None:
    """Two engines of one cascade: the largest face of each picture, gray and coloured."""
    for seed in range(3):
        picture, _ = scene(draw_faces(200, seed=2).images[6 * seed :], seed)
        tinted = (picture[..., None] * np.array([1.0, 0.8, 0.7])).astype(np.uint8)
        for shown in (picture, tinted):
            there = detect([shown], settings_for(*shown.shape[:2]), device="cpu")
            here = find(shown, threads=1)
            assert (len(here) > 0) == bool(there.found[0])
            if len(here):
                assert np.abs(here.boxes[0] - there.boxes[0]).max() < 0.05
                assert np.abs(here.landmarks[0] - there.landmarks[0]).max() < 0.05


@pytest.mark.parametrize("name", NETS)
def test_the_graphs_that_are_shipped_are_the_networks(name: str) -> None:
    torch.manual_seed(0)
    own = Nets(load_weights(), 3, torch.device("cpu"))
    size = {"pnet": (31, 50), "rnet": (24, 24), "onet": (48, 48)}[name]
    for count in (1, 5):
        given = torch.rand(count, 3, *size) * 255
        call = {"pnet": own.propose, "rnet": own.refine, "onet": own.decide}[name]
        found = nets(1)[name].run(None, {"pictures" if name == "pnet" else "windows": given.numpy()})
        for one, other in zip(found, call(given), strict=True):
            np.testing.assert_allclose(one, other.numpy(), atol=1e-4)


@pytest.mark.real
def test_faces_are_framed_as_fer2013_frames_them(real_faces: FaceSet) -> None:
    """Cut out of a scene, a face of the set comes back much as it was."""
    images = real_faces.images[real_faces.rows_of("Training")[1::400]]
    overlaps, likeness = [], []
    for seed in range(len(images) // 6):
        faces = images[6 * seed : 6 * seed + 6]
        picture, places = scene(faces, seed)
        squares = framed(find(picture, threads=1).boxes)
        each = overlap(places, squares)
        for i, row in enumerate(each):
            if len(squares) and row.max() > 0.3:
                overlaps.append(row.max())
                shown = cut_out(picture, squares[row.argmax()][None])[0].astype(float)
                likeness.append(np.corrcoef(shown.ravel(), faces[i].astype(float).ravel())[0, 1])
    assert len(overlaps) > 50
    assert np.median(overlaps) > 0.7
    assert np.median(likeness) > 0.5


def test_a_square_is_cut_in_place_and_goes_on_beyond_the_edge() -> None:
    ramp = np.tile(np.arange(100, dtype=np.uint8), (80, 1))
    (inner,) = cut_out(ramp, np.array([[20.0, 10.0, 68.0, 58.0]]))
    np.testing.assert_array_equal(inner, ramp[10:58, 20:68])
    (left,) = cut_out(ramp, np.array([[-24.0, -30.0, 24.0, 18.0]]))
    assert (left[:, :24] == 0).all()
    np.testing.assert_array_equal(left[:, 24:], ramp[:48, :24])
    (far,) = cut_out(ramp, np.array([[500.0, 500.0, 520.0, 520.0]]))
    assert (far == 99).all()
    colour = np.zeros((60, 60, 3), np.uint8)
    colour[..., 0] = 255
    assert np.abs(cut_out(colour, np.array([[0.0, 0.0, 60.0, 60.0]])).astype(int) - 76).max() <= 1
    assert cut_out(ramp, np.zeros((0, 4))).shape == (0, SIDE, SIDE)


def test_the_square_lies_about_the_box() -> None:
    (square,) = framed(np.array([[10, 20, 50, 70]], np.float32))
    assert square[2] - square[0] == pytest.approx(square[3] - square[1])
    assert square[2] - square[0] == pytest.approx(1.053 * np.sqrt(40 * 50))
    assert (square[0] + square[2]) / 2 == pytest.approx(30 + 0.018 * 40)
    assert (square[1] + square[3]) / 2 == pytest.approx(45 - 0.02 * 50)


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (8, 4096), (4096, 8), (20, 20), (64, 65, 3)])
def test_no_picture_breaks_it(shape: tuple[int, ...]) -> None:
    assert len(find(np.full(shape, 127, np.uint8), threads=1)) == 0


def test_in_large_pictures_small_faces_are_left_alone() -> None:
    assert settings_for(480, 640) == Settings()
    assert settings_for(3000, 2000).smallest == pytest.approx(40)


def test_torch_is_not_imported() -> None:
    code = (
        "import sys, numpy as np\nfrom ensemble_fer.detector.finding import find\n"
        "find(np.zeros((90, 90), np.uint8), threads=1)\nassert 'torch' not in sys.modules, 'torch'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
