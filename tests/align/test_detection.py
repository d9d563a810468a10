"""The cascade finds what facenet-pytorch finds, whatever goes through together, and no picture breaks it."""

from __future__ import annotations

import ast
import json
import re
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

import ensemble_fer.align
from ensemble_fer.align import Settings, detect
from ensemble_fer.align.cutting import scaled
from ensemble_fer.align.engine import TorchEngine
from ensemble_fer.align.nets import Nets, _pooled
from ensemble_fer.align.weights import DIGESTS, _file_of, load_weights
from ensemble_fer.data.derived import Alignment
from ensemble_fer.data.synthetic import draw_faces
from ensemble_fer.detector.boxes import suppress
from ensemble_fer.detector.cascade import Windows, spans_of
from ensemble_fer.detector.engine import GraphEngine
from ensemble_fer.errors import MissingError, UsageError
from ensemble_fer.types import FaceSet


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """60 synthetic faces of 96 pixels; in most of them MTCNN finds one."""
    return scaled(draw_faces(200, seed=3).images[:60])[0]


def reference(images: np.ndarray, **setting) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What facenet-pytorch's own detector says, one picture at a time: found, box, landmarks of the largest face."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from facenet_pytorch import MTCNN

        detector = MTCNN(**setting)
        found, boxes, landmarks = [], [], []
        for image in images:
            rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
            box, _, points = detector.detect(rgb, landmarks=True)
            found.append(box is not None)
            boxes.append(box[0] if box is not None else np.zeros(4))
            landmarks.append(points[0] if box is not None else np.zeros((5, 2)))
    return np.array(found), np.array(boxes), np.array(landmarks)


def agrees(ours: Alignment, theirs: tuple[np.ndarray, np.ndarray, np.ndarray], images: np.ndarray) -> None:
    found, boxes, landmarks = theirs
    assert np.array_equal(ours.found, found)
    assert np.abs(ours.boxes - boxes).max() < 0.01
    # Of faces that lie well within the picture; at its edge ours are taken of what the network saw.
    height, width = images.shape[1:3]
    inner = found & (boxes > 12).all(1) & (boxes[:, 2] < width - 12) & (boxes[:, 3] < height - 12)
    assert np.abs(ours.landmarks - landmarks)[inner].max(initial=0) < 0.01


def test_drawn_faces_are_found_as_facenet_finds_them(drawn: np.ndarray) -> None:
    faces = detect(drawn, device="cpu")
    assert 0.6 < faces.found.mean() < 0.95
    agrees(faces, reference(drawn), drawn)


def test_other_settings_mean_what_they_mean_there(drawn: np.ndarray) -> None:
    padded = np.pad(drawn[:12], ((0, 0), (20, 30), (40, 10)), mode="edge")
    ours = detect(padded, Settings(smallest=40, factor=0.6, thresholds=(0.5, 0.6, 0.9)), device="cpu")
    assert ours.found.any()
    agrees(ours, reference(padded, min_face_size=40, factor=0.6, thresholds=[0.5, 0.6, 0.9]), padded)


def test_coloured_pictures_are_seen_in_colour(drawn: np.ndarray) -> None:
    tint = np.array([1.0, 0.75, 0.6])
    coloured = (drawn[:12, :, :, None] * tint).astype(np.uint8)
    agrees(detect(coloured, device="cpu"), reference(coloured), coloured)


@pytest.mark.real
def test_real_faces_are_found_as_facenet_finds_them(real_faces: FaceSet) -> None:
    images = scaled(real_faces.images[real_faces.rows_of("PublicTest")[:120]])[0]
    faces = detect(images, device="cpu")
    assert 0.7 < faces.found.mean() < 0.95
    agrees(faces, reference(images), images)


def test_landmarks_lie_where_eyes_and_mouth_were_drawn(drawn: np.ndarray) -> None:
    faces = detect(drawn, device="cpu")
    left_eye, right_eye, nose, left_mouth, right_mouth = faces.landmarks[faces.found].transpose(1, 0, 2)
    assert (left_eye[:, 0] < right_eye[:, 0]).all()
    assert (np.maximum(left_eye, right_eye)[:, 1] < np.minimum(left_mouth, right_mouth)[:, 1]).all()
    assert (nose[:, 1] < np.minimum(left_mouth, right_mouth)[:, 1]).mean() > 0.95
    assert (left_mouth[:, 0] < right_mouth[:, 0]).all()
    assert (faces.landmarks[faces.found] >= -1).all()
    assert (faces.landmarks[faces.found] <= 97).all()


def test_what_goes_through_together_changes_nothing(drawn: np.ndarray) -> None:
    """Lists, other sizes in between, another order, three equal channels, and one picture alone."""
    together = detect(drawn[:10], device="cpu")
    mixed: list[np.ndarray] = []
    for image in drawn[:10]:
        mixed += [np.repeat(image[..., None], 3, 2), np.zeros((30, 50), np.uint8)]
    apart = detect(mixed, device="cpu")
    assert not apart.found[1::2].any()
    for one, other in (
        (together, Alignment(*(array[::2] for array in vars(apart).values()))),
        (together, Alignment(*(array[::-1] for array in vars(detect(drawn[9::-1], device="cpu")).values()))),
    ):
        assert np.array_equal(one.found, other.found)
        assert np.allclose(one.boxes, other.boxes, atol=1e-3)
        assert np.allclose(one.landmarks, other.landmarks, atol=1e-3)
    alone = detect(drawn[3:4], device="cpu")
    assert np.allclose(alone.boxes[0], together.boxes[3], atol=1e-3)


def test_of_several_faces_the_largest_counts(drawn: np.ndarray) -> None:
    found = drawn[detect(drawn, device="cpu").found]
    small = scaled(found[:1], 60)[0][0]
    picture = np.full((200, 260), 128, np.uint8)
    picture[90:186, 140:236] = found[1]
    picture[20:80, 20:80] = small
    faces = detect([picture], device="cpu")
    assert faces.count[0] == 2
    assert faces.boxes[0, 0] > 120


SIZES = [(1, 1), (0, 0), (0, 7), (3, 3, 3), (8, 4096), (4096, 8), (11, 12), (12, 12), (19, 300), (20, 20), (48, 48, 1)]


@pytest.mark.parametrize("thresholds", [(0.6, 0.7, 0.7), (0.0, 0.0, 0.0)])
def test_no_picture_is_too_small_or_too_long(thresholds: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, size, np.uint8) for size in SIZES]
    pictures += [np.full((48, 48), level, np.uint8) for level in (0, 255)]
    faces = detect(pictures, Settings(smallest=20, thresholds=thresholds), device="cpu")
    assert len(faces) == len(pictures)
    assert np.isfinite(faces.boxes).all()
    assert np.isfinite(faces.landmarks).all()
    assert not faces.found[:9].any()
    assert len(detect([], device="cpu")) == 0
    assert len(detect(np.zeros((0, 48, 48), np.uint8), device="cpu")) == 0


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.booleans(), st.integers(0, 255)), max_size=4))
def test_any_bytes_are_a_picture(sizes: list[tuple[int, int, bool, int]]) -> None:
    pictures = [
        np.random.default_rng(seed).integers(0, 256, (h, w, 3) if rgb else (h, w), np.uint8)
        for h, w, rgb, seed in sizes
    ]
    assert len(detect(pictures, Settings(smallest=12), device="cpu")) == len(pictures)


def test_wrong_requests() -> None:
    for picture in (np.zeros((4, 4), np.float32), np.zeros(9, np.uint8), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(UsageError, match=r"picture 1 is .* expected uint8"):
            detect([np.zeros((4, 4), np.uint8), picture])
    for wrong in (
        *({"smallest": value} for value in (11, float("nan"), float("inf"), "20", None, True)),
        *({"factor": value} for value in (1.0, 0, "0.7", [0.7])),
        *({"thresholds": value} for value in ((0.5, 0.5, 1.5), 0.5, (0.5, 0.5), "678", (0.6, "0.7", 0.7), None)),
    ):
        ((key, value),) = wrong.items()
        with pytest.raises(UsageError, match=rf"{key} (is|are) {re.escape(repr(value))}; expected"):
            Settings(**wrong)  # type: ignore[arg-type]
    same = Settings(smallest=40, thresholds=np.array([0.5, 0.25, 1], np.float32))  # type: ignore[arg-type]
    assert same == Settings(smallest=40.0, thresholds=(0.5, 0.25, 1.0))
    assert json.loads(json.dumps(same.to_dict()))["thresholds"] == [0.5, 0.25, 1.0]
    for device in ("tpu", "meta", "nonsense"):
        with pytest.raises(UsageError, match="Known: auto, cpu"):
            detect([], device=device)


def test_weights_are_read_as_tensors_from_the_package_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert {name: len(net) for name, net in load_weights().items()} == {"pnet": 13, "rnet": 16, "onet": 21}
    for source in Path(ensemble_fer.align.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            names = [alias.name for alias in getattr(node, "names", [])] + [getattr(node, "module", None) or ""]
            assert not any(name.startswith("facenet") for name in names), source
    monkeypatch.setitem(DIGESTS, "pnet", "0" * 64)
    with pytest.raises(MissingError, match="sha256 differs"):
        _file_of("pnet")
    monkeypatch.setattr(metadata, "files", lambda name: [])
    with pytest.raises(MissingError, match=r"without its file pnet\.pt"):
        _file_of("pnet")

    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", absent)
    with pytest.raises(MissingError, match=r"pip install facenet-pytorch==2\.5\.3"):
        _file_of("pnet")


def test_slopes_of_later_layers_are_at_most_one() -> None:
    """The nets count on it."""
    nets = Nets(load_weights(), 1, torch.device("cpu"))
    slopes = [v for net in (nets.p, nets.r, nets.o) for k, v in net.items() if "prelu" in k and k != "prelu1.weight"]
    assert max(float(slope.max()) for slope in slopes) <= 1


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("side", [5, 6, 22, 23])
def test_pooling_is_max_pool(kernel: int, side: int) -> None:
    x = torch.randn(3, 4, side, side + 1)
    assert torch.equal(_pooled(x, kernel), torch.nn.functional.max_pool2d(x, kernel, 2, ceil_mode=True))


def test_windows_are_averaged_as_area_interpolation() -> None:
    rng = np.random.default_rng(1)
    pictures = torch.from_numpy(rng.integers(0, 256, (2, 3, 40, 60), np.uint8))
    boxes = np.array(
        [[3, 4, 30, 31], [-9.5, 10, 70, 39.9], [20, 20, 22.7, 23], [50, 5, 99, 25], [61, 3, 70, 9]], np.float32
    )
    owners = np.array([0, 1, 1, 0, 0])
    windows = Windows(boxes, np.ones(5, np.float32), owners, np.zeros((5, 5, 2), np.float32))
    kept, spans = spans_of(windows, (40, 60), 24)
    assert np.array_equal(kept.boxes, boxes[:4])  # the last lies outside
    crops = TorchEngine(pictures, Nets(load_weights(), 3, torch.device("cpu")))._means(spans)
    without_torch = GraphEngine(pictures.permute(0, 2, 3, 1).numpy())._means(spans)
    assert torch.allclose(torch.from_numpy(without_torch), crops, atol=1e-4)
    for crop, owner, (left, top, right, bottom) in zip(
        crops, owners, [(2, 3, 30, 31), (0, 9, 60, 39), (19, 19, 22, 23), (49, 4, 60, 25)], strict=False
    ):
        shown = interpolate(pictures[owner : owner + 1, :, top:bottom, left:right].double(), (24, 24), mode="area")
        assert torch.allclose(crop.double(), shown[0], atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([0, 1]), st.sampled_from([0.3, 0.5, 0.7]))
def test_suppression_is_greedy_within_each_owner(seed: int, smaller: bool, wide: int, limit: float) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 40))
    corner = rng.integers(0, 20, (n, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 15, (n, 2))], 1).astype(np.float32)
    scores, owners = rng.integers(0, 6, n).astype(np.float32), rng.integers(0, 3, n)
    expected = []
    for owner in range(3):
        left = sorted(np.flatnonzero(owners == owner), key=lambda i: (-scores[i], i))
        while left:
            best, *others = left
            expected.append(best)
            left = [i for i in others if overlap(boxes[best], boxes[i], smaller, wide) <= limit]
    assert suppress(boxes, scores, owners, limit, smaller=smaller, wide=wide).tolist() == expected


def overlap(a: np.ndarray, b: np.ndarray, smaller: bool, wide: int) -> float:
    sides = [max(0.0, float(min(a[k + 2], b[k + 2]) - max(a[k], b[k]) + wide)) for k in (0, 1)]
    shared = sides[0] * sides[1]
    areas = [float((box[2] - box[0] + wide) * (box[3] - box[1] + wide)) for box in (a, b)]
    whole = min(areas) if smaller else sum(areas) - shared
    return shared / whole if whole else 0.0
