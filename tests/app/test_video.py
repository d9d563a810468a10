"""Videos: every frame answered, each face under one number, files complete or not there, whatever the source is."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from ensemble_fer.app import footage
from ensemble_fer.app import video as module
from ensemble_fer.app.footage import HEAD
from ensemble_fer.app.video import Smoothed, video
from ensemble_fer.errors import BadData, MissingError, UsageError
from ensemble_fer.export.session import open_graph
from ensemble_fer.types import CLASSES
from tests.cli.running import run
from tests.detector.test_tracking import moving, seen  # noqa: F401 - a fixture

RATE, FRAMES = 20.0, 24


@pytest.fixture(scope="module")
def clip(seen: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    path = tmp_path_factory.mktemp("video") / "clip.avi"
    written(path, list(moving(seen[:1], FRAMES)))
    return path


def written(path: Path, frames: list[np.ndarray]) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), RATE, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()


def read(path: Path) -> list[np.ndarray]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (answer := capture.read())[0]:
        frames.append(answer[1][:, :, ::-1])
    return frames


@pytest.mark.parametrize("ending", [".mp4", ".avi"])
def test_every_frame_is_answered_drawn_and_listed(clip: Path, graph_file: Path, tmp_path: Path, ending: str) -> None:
    drawn, table = tmp_path / f"out{ending}", tmp_path / "out.csv"
    found = video(clip, graph=graph_file, annotate=drawn, table=table)
    assert (found["frames"], found["faces"], found["rate"], found["size"]) == (FRAMES, 1, RATE, [320, 240])
    assert found["seconds"] == FRAMES / RATE
    assert sum(found["shares"].values()) == pytest.approx(1, abs=1e-3)
    lines = list(csv.DictReader(table.open()))
    assert tuple(lines[0]) == HEAD
    assert [int(line["frame"]) for line in lines] == list(range(FRAMES))
    assert [float(line["seconds"]) for line in lines] == [round(i / RATE, 3) for i in range(FRAMES)]
    assert {line["face"] for line in lines} == {"1"}
    for line in lines:
        shares = [float(line[name]) for name in CLASSES]
        assert CLASSES[int(np.argmax(shares))] == line["label"]
        assert sum(shares) == pytest.approx(1, abs=1e-3)
    before, after = read(clip), read(drawn)
    assert len(after) == FRAMES
    assert after[0].shape == before[0].shape
    line = lines[0]
    x, y = int(line["x0"]), (int(line["y0"]) + int(line["y1"])) // 2
    edge = np.abs(after[0][y, x - 2 : x + 3].astype(int) - before[0][y, x - 2 : x + 3]).max()
    assert edge > 40, "a box is drawn around the face"
    corner = np.abs(after[0][-20:, -20:].astype(int) - before[0][-20:, -20:]).mean()
    assert corner < 10, "and nothing far from it"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([drawn.name, table.name])


def test_without_smoothing_a_frame_is_answered_as_a_picture_is(clip: Path, graph_file: Path, tmp_path: Path) -> None:
    from ensemble_fer.detector.finding import cut_out, framed
    from ensemble_fer.detector.tracking import Tracker

    table = tmp_path / "out.csv"
    video(clip, graph=graph_file, table=table, smoothing=0)
    graph, tracker = open_graph(graph_file), Tracker()
    for frame, line in zip(read(clip), csv.DictReader(table.open()), strict=True):
        boxes = np.stack([track.box for track in tracker.update(np.ascontiguousarray(frame))])
        wanted = graph.run(cut_out(frame, framed(boxes)))["probabilities"][0]
        np.testing.assert_allclose([float(line[name]) for name in CLASSES], wanted, atol=1e-4)


def test_smoothing_forgets_with_time_and_knows_faces_apart() -> None:
    smoothed = Smoothed(0.5)
    one, other = np.eye(7)[0], np.eye(7)[1]
    np.testing.assert_array_equal(smoothed.update(1, 0.0, one), one)
    half = smoothed.update(1, 0.5, other)
    np.testing.assert_allclose(half[:2], [np.exp(-1), 1 - np.exp(-1)])
    np.testing.assert_array_equal(smoothed.update(2, 0.5, other), other)
    np.testing.assert_allclose(smoothed.update(1, 60.0, one), one, atol=1e-12)
    smoothed.keep({2})
    np.testing.assert_array_equal(smoothed.update(1, 60.0, other), other)


def test_ctrl_c_leaves_whole_files(
    clip: Path, graph_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done until then is kept, and the command says 130."""
    count = []

    class Interrupted(module.Tracker):
        def update(self, frame: np.ndarray) -> list:
            count.append(1)
            if len(count) > 5:
                raise KeyboardInterrupt
            return super().update(frame)

    monkeypatch.setattr(module, "Tracker", Interrupted)
    drawn, table = tmp_path / "out.avi", tmp_path / "out.csv"
    answer = run("video", clip, "--graph", graph_file, "--annotate", drawn, "--csv", table, "--json")
    assert answer.exit_code == 130
    assert json.loads(answer.stdout)["interrupted"] is True
    assert len(read(drawn)) == 5
    assert len(table.read_text().splitlines()) == 6


def test_an_error_half_way_leaves_nothing_and_what_was_there(
    clip: Path, graph_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.Smoothed, "update", lambda *_: 1 / 0)
    drawn, table = tmp_path / "out.avi", tmp_path / "out.csv"
    table.write_text("before")
    with pytest.raises(ZeroDivisionError):
        video(clip, graph=graph_file, annotate=drawn, table=table)
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    assert table.read_text() == "before"


def test_only_so_many_seconds(clip: Path, graph_file: Path) -> None:
    assert video(clip, graph=graph_file, seconds=0.5)["frames"] == 10


def test_a_video_without_faces(graph_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "empty.avi"
    written(path, [np.full((64, 96, 3), 90, np.uint8)] * 4)
    found = video(path, graph=graph_file, table=tmp_path / "out.csv", annotate=tmp_path / "out.mp4")
    assert (found["frames"], found["faces"], set(found["shares"].values())) == (4, 0, {0.0})
    assert len(read(tmp_path / "out.mp4")) == 4


def test_bad_sources_and_numbers_say_what_to_do(clip: Path, graph_file: Path, tmp_path: Path) -> None:
    text = tmp_path / "note.mp4"
    text.write_text("not a video")
    cut = tmp_path / "cut.avi"
    cut.write_bytes(clip.read_bytes()[:200])
    for bad in (text, cut):
        with pytest.raises(BadData, match=r"(cannot open|no frames)"):
            video(bad, graph=graph_file)
    with pytest.raises(MissingError, match="there is no video"):
        video(tmp_path / "none.mp4", graph=graph_file)
    with pytest.raises(MissingError, match="there is no video"):
        video("http://127.0.0.1:9/a.mp4", graph=graph_file)
    with pytest.raises(MissingError, match="camera 93 cannot be opened"):
        video(93, graph=graph_file)
    with pytest.raises(UsageError, match=r"ends with \.mp4 or \.avi"):
        video(clip, graph=graph_file, annotate=tmp_path / "out.gif")
    with pytest.raises(UsageError, match="over what is read"):
        video(clip, graph=graph_file, annotate=clip)
    nan = float("nan")
    bad_numbers = ({"every": 0}, {"smoothing": -1}, {"seconds": 0}, {"threshold": 2}, {"smallest": 3})
    for more in (*bad_numbers, {"seconds": nan}, {"smoothing": nan}, {"threshold": nan}, {"smallest": nan}):
        with pytest.raises(UsageError, match="expected"):
            video(clip, graph=graph_file, **more)
    for camera in ("camera:x", "camera:99999999999999999999", "camera:²"):
        answer = run("video", camera, "--graph", graph_file)
        assert answer.exit_code == 2
        assert "camera:N" in answer.stderr


def test_places_that_cannot_be_written_are_refused_before_the_work(
    clip: Path, graph_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "opened_source", lambda *_: pytest.fail("began to work"))
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").write_text("")
    places = (
        ({"annotate": tmp_path / "folder.mp4"}, "a folder is there"),
        ({"table": tmp_path / "folder.mp4"}, "a folder is there"),
        ({"table": tmp_path / "file" / "out.csv"}, "no folder to write to"),
        ({"table": graph_file}, "over what is read"),
        ({"annotate": tmp_path / "a.mp4", "table": tmp_path / "a.mp4"}, "over annotated video"),
        ({"table": "/dev/null"}, "no file that can be replaced"),
    )
    for more, text in places:
        with pytest.raises(UsageError, match=text):
            video(clip, graph=graph_file, **more)


def test_names_that_opencv_cannot_open_are_refused(clip: Path, graph_file: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"bad\xff.avi")
    odd.write_bytes(clip.read_bytes())
    with pytest.raises(UsageError, match="UTF-8"):
        video(odd, graph=graph_file)
    with pytest.raises(UsageError, match="UTF-8"):
        video(clip, graph=graph_file, annotate=odd)


def test_without_a_frame_what_was_there_stays(clip: Path, graph_file: Path, tmp_path: Path) -> None:
    cut, table, drawn = tmp_path / "cut.avi", tmp_path / "out.csv", tmp_path / "out.avi"
    data = clip.read_bytes()
    cut.write_bytes(data[: data.index(b"movi") + 60])
    table.write_text("earlier")
    drawn.write_text("earlier")
    with pytest.raises(BadData, match="no frame"):
        video(cut, graph=graph_file, table=table, annotate=drawn)
    assert (table.read_text(), drawn.read_text()) == ("earlier", "earlier")


def test_a_video_that_was_cut_off_is_said_to_be(clip: Path, graph_file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.avi"
    data = clip.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    found = video(cut, graph=graph_file)
    assert 0 < found["frames"] < FRAMES
    assert (found["declared"], found["whole"]) == (FRAMES, False)
    assert "damaged" in run("video", cut, "--graph", graph_file).stderr
    assert video(clip, graph=graph_file)["whole"]
    assert video(clip, graph=graph_file, seconds=0.2)["whole"]


def test_a_full_disk_is_an_error_and_keeps_what_was_there(clip: Path, graph_file: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: OpenCV says nothing of either."""
    drawn = tmp_path / "out.mp4"
    drawn.write_text("earlier")
    program = (
        "import resource, signal\nfrom ensemble_fer.app.video import video\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        f"video({str(clip)!r}, graph={str(graph_file)!r}, annotate={str(drawn)!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode != 0
    assert "could not be written whole" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert drawn.read_text() == "earlier"


def test_interrupted_twice_the_files_are_whole_all_the_same(clip: Path, graph_file: Path, tmp_path: Path) -> None:
    drawn, table = tmp_path / "out.avi", tmp_path / "out.csv"
    program = (
        "import os, signal\nfrom ensemble_fer.app import video as module\n"
        "class Interrupted(module.Tracker):\n"
        "    count = 0\n"
        "    def update(self, frame):\n"
        "        self.count += 1\n"
        "        if self.count > 5: os.kill(os.getpid(), signal.SIGINT)\n"
        "        return super().update(frame)\n"
        "module.Tracker = Interrupted\n"
        "from ensemble_fer.app import footage\ncheck = footage.check_written\n"
        "footage.check_written = lambda *a: (os.kill(os.getpid(), signal.SIGINT), check(*a))\n"
        f"places = {{'annotate': {str(drawn)!r}, 'table': {str(table)!r}}}\n"
        f"found = module.video({str(clip)!r}, graph={str(graph_file)!r}, **places)\n"
        "assert found['interrupted'] and found['frames'] == 5\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "KeyboardInterrupt" in done.stderr, "after the files are whole Ctrl-C means what it did"
    assert "AssertionError" not in done.stderr
    assert len(read(drawn)) == 5
    assert len(table.read_text().splitlines()) == 6


class Camera:
    """A device that gives frames when it likes, and another size from some frame on."""

    def __init__(self, moments: list[float], sizes: list[tuple[int, int]]) -> None:
        self.moments, self.sizes, self.number = moments, sizes, -1

    def read(self) -> tuple[bool, np.ndarray]:
        self.number += 1
        size = self.sizes[min(self.number, len(self.sizes) - 1)]
        return self.number < len(self.moments), np.full((*size[::-1], 3), 40 + 20 * self.number, np.uint8)

    def get(self, _: int) -> float:
        return 1000 * self.moments[self.number]


def test_an_uneven_rate_is_kept_in_time(graph_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = [0.0, 0.1, 0.2, 0.6, 1.0]
    device = Camera(moments, [(96, 64)] * 3 + [(48, 32)])

    @contextmanager
    def source(_: object) -> Iterator:
        yield footage.Footage(device, 10.0, (96, 64), 0)

    monkeypatch.setattr(module, "opened_source", source)
    seen_at = []
    monkeypatch.setattr(
        module, "_said", lambda frame, tracks, graph, smoothed, moment, limit: seen_at.append(moment) or []
    )
    found = video(tmp_path / "any.avi", graph=graph_file, annotate=tmp_path / "out.avi")
    assert seen_at == moments
    assert found["seconds"] == pytest.approx(1.1)
    shown = [int(frame.mean().round(-1)) for frame in read(tmp_path / "out.avi")]
    assert shown == [40, 60, 80, 80, 80, 80, 100, 100, 100, 100, 120], "each at its time, until the next one came"


def test_a_gap_without_end_is_shown_for_some_seconds_alone(
    graph_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a file whose clock leaps: what follows goes on at its own pace."""
    device = Camera([0.0, 1e6, 1e6 + 0.1, 1e6 + 0.2], [(96, 64)])

    @contextmanager
    def source(_: object) -> Iterator:
        yield footage.Footage(device, 10.0, (96, 64), 0)

    monkeypatch.setattr(module, "opened_source", source)
    video(tmp_path / "any.avi", graph=graph_file, annotate=tmp_path / "out.avi")
    shown = [int(frame.mean().round(-1)) for frame in read(tmp_path / "out.avi")]
    longest = int(10 * footage.LONGEST_STILL)
    assert shown[:-3] == [40] * (longest + 1), "itself, and the longest that it may stand"
    assert shown[-3:] == [60, 80, 100]


def test_torch_is_not_needed(clip: Path, graph_file: Path) -> None:
    program = (
        "import sys\nfrom ensemble_fer.app.video import video\n"
        f"found = video({str(clip)!r}, graph={str(graph_file)!r})\n"
        "assert found['faces'] == 1 and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_opencv_the_line_that_gets_it(clip: Path, graph_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingError, match=r"pip install 'ensemble-fer\[video\]'"):
        video(clip, graph=graph_file)
