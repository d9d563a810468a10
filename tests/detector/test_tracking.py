"""Faces followed from frame to frame: where a search would find them, under one number, for a fraction of the work."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from ensemble_fer.data.synthetic import draw_faces
from ensemble_fer.detector import tracking
from ensemble_fer.detector.cascade import Settings
from ensemble_fer.detector.finding import find
from ensemble_fer.detector.tracking import MISSED, Tracker, moved_on, overlaps

SEARCH = Settings(smallest=48)


def moving(faces: list[np.ndarray], count: int, *, size: tuple[int, int] = (240, 320), side: int = 100) -> Iterator:
    """Frames [h, w, 3] in which faces swing to and fro, side by side, on a smooth ground with noise."""
    rng = np.random.default_rng(0)
    small = rng.integers(60, 200, (4, 6)).astype(np.uint8)
    ground = np.asarray(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC))
    field = size[1] // max(1, len(faces))
    for moment in range(count):
        frame = ground.copy()
        for place, face in enumerate(faces):
            x = int(place * field + (field - side) / 2 * (1 + np.sin(moment / 8 + place)))
            y = int((size[0] - side) / 2 * (1 + np.sin(moment / 11)))
            frame[y : y + side, x : x + side] = Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC)
        noisy = np.clip(frame + rng.normal(0, 3, frame.shape), 0, 255).astype(np.uint8)
        yield np.repeat(noisy[..., None], 3, 2)


@pytest.fixture(scope="module")
def seen() -> list[np.ndarray]:
    """Three drawn faces that MTCNN finds in every place they come to."""
    good = []
    for face in draw_faces(200, seed=4).images[:100]:
        if all(len(find(frame, SEARCH).boxes) == 1 for frame in list(moving([face], 30))[::7]):
            good.append(face)
        if len(good) == 3:
            return good
    raise AssertionError("MTCNN finds none of the drawn faces")


def test_a_face_is_where_a_search_finds_it_under_one_number(seen: list[np.ndarray]) -> None:
    tracker, shared = Tracker(), []
    for frame in moving(seen[:1], 40):
        tracks = tracker.update(frame)
        assert [track.number for track in tracks] == [1]
        found = find(frame, SEARCH).boxes
        shared += overlaps([tracks[0].box], found[:1]).ravel().tolist()
    assert np.median(shared) > 0.8
    assert min(shared) > 0.5


def test_whole_frames_are_searched_now_and_then_only(seen: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []
    monkeypatch.setattr(tracking, "find", lambda *args, **more: searched.append(1) or find(*args, **more))
    tracker = Tracker(every=10)
    for frame in moving(seen[:1], 31):
        tracker.update(frame)
    assert len(searched) == 4
    searched.clear()
    empty = np.full((120, 160, 3), 90, np.uint8)
    tracker = Tracker(every=10)
    assert [tracker.update(empty) for _ in range(7)] == [[]] * 7
    assert len(searched) == 3, "every third frame while there is nobody"


def test_two_faces_keep_their_numbers(seen: list[np.ndarray]) -> None:
    tracker, sides = Tracker(every=5), []
    for frame in moving(seen[:2], 25, size=(160, 360)):
        tracks = {track.number: track.box for track in tracker.update(frame)}
        assert set(tracks) == {1, 2}
        left = {number: box[0] < 180 - 20 for number, box in tracks.items()}
        sides.append((left[1], left[2]))
    assert set(sides) in ({(True, False)}, {(False, True)})


def test_a_face_that_leaves_is_given_up_and_comes_back_as_another(seen: list[np.ndarray]) -> None:
    frames = list(moving(seen[:1], 12))
    empty = np.repeat(np.full((*frames[0].shape[:2], 1), 90, np.uint8), 3, 2)
    tracker = Tracker(every=4)
    for frame in frames:
        assert len(tracker.update(frame)) == 1
    gone = [len(tracker.update(empty)) for _ in range(4 * MISSED)]
    assert gone[-1] == 0
    assert [track.number for track in [tracker.update(frame) for frame in frames][-1]] == [2]


def test_a_face_that_searches_miss_is_followed_while_its_window_shows_one(
    seen: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Searches that find nothing after the first, as of faces that the first two networks see only now and then."""
    searches: list[int] = []

    def once(frame: np.ndarray, *rest: object, **more: object) -> object:
        searches.append(1)
        found = find(frame, *rest, **more)
        return found if len(searches) == 1 else found.picked(np.zeros(len(found), bool))

    monkeypatch.setattr(tracking, "find", once)
    tracker, shared = Tracker(every=4), []
    for frame in moving(seen[:1], 24):
        tracks = tracker.update(frame)
        assert [track.number for track in tracks] == [1]
        shared.append(overlaps([tracks[0].box], find(frame, SEARCH).boxes[:1]).item())
    assert len(searches) == 6
    assert min(shared) > 0.5, "moved on in the frames of searches too"


def test_no_face_in_the_window_or_a_window_beside_the_frame() -> None:
    frame = np.full((100, 100, 3), 90, np.uint8)
    assert moved_on(frame, np.array([20, 20, 80, 80], np.float32)) is None
    assert moved_on(frame, np.array([300, 20, 380, 80], np.float32)) is None
    assert moved_on(frame, np.array([-90, -90, -60, -60], np.float32)) is None


def test_overlaps_of_known_boxes() -> None:
    a, b = np.array([[0, 0, 10, 10]]), np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 0, 30, 10], [3, 3, 3, 3]])
    np.testing.assert_allclose(overlaps(a, b), [[1, 1 / 3, 0, 0]])
    assert overlaps([], b).shape == (0, 4)
