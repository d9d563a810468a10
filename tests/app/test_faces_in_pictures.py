"""Photographs with any number of faces: what is found goes through the graph, is drawn and written down."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from ensemble_fer.app.drawing import annotated, save_annotated, table_of
from ensemble_fer.app.prediction import predict
from ensemble_fer.data.synthetic import draw_faces
from ensemble_fer.detector.finding import cut_out, find, framed
from ensemble_fer.errors import BadData, MissingError, UsageError
from ensemble_fer.export.session import Graph, open_graph
from ensemble_fer.types import CLASSES
from tests.cli.running import run
from tests.detector.test_finding import scene


@pytest.fixture(scope="module")
def crowd() -> np.ndarray:
    """Six drawn faces, of which MTCNN finds some."""
    return scene(draw_faces(200, seed=4).images, 0)[0]


@pytest.fixture
def photograph(tmp_path: Path, crowd: np.ndarray) -> Path:
    Image.fromarray(crowd).save(tmp_path / "photograph.png")
    return tmp_path / "photograph.png"


@pytest.fixture
def calibrated(graph_file: Path, tmp_path: Path) -> Path:
    """The same graph, which says that a temperature was fitted."""
    proto = onnx.load(graph_file)
    about = {each.key: each.value for each in proto.metadata_props}
    by = {**json.loads(about["combination"]), "temperature": 1.5}
    onnx.helper.set_model_props(proto, {**about, "combination": json.dumps(by)})
    onnx.save(proto, tmp_path / "calibrated.onnx")
    return tmp_path / "calibrated.onnx"


def test_every_face_that_is_found_goes_through_the_graph(graph_file: Path, photograph: Path, crowd: np.ndarray) -> None:
    windows = find(crowd)
    assert len(windows) >= 2
    (item,) = predict(photograph, graph=graph_file)
    assert len(item["faces"]) == len(windows)
    expected = open_graph(graph_file).run(cut_out(crowd, framed(windows.boxes)))["probabilities"]
    sizes = []
    for face, box, probabilities in zip(item["faces"], windows.boxes, expected, strict=True):
        assert face["found"] is True
        assert np.abs(np.array(face["box"]) - box).max() <= 0.5
        np.testing.assert_allclose(list(face["probabilities"].values()), probabilities, atol=1e-6)
        assert face["label"] == CLASSES[probabilities.argmax()]
        x0, y0, x1, y1 = face["box"]
        sizes.append((x1 - x0) * (y1 - y0))
    assert max(sizes) <= 1.1 * sizes[0], "the largest first"


def test_small_pictures_and_those_without_a_face_are_used_whole(graph_file: Path, tmp_path: Path) -> None:
    face = draw_faces(200, seed=4).images[0]
    for name, side in (("small", 64), ("larger", 65)):
        Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC).save(tmp_path / f"{name}.png")
    Image.new("L", (200, 120), 90).save(tmp_path / "empty.png")
    small, larger, empty = predict(
        [tmp_path / f"{name}.png" for name in ("small", "larger", "empty")], graph=graph_file
    )
    assert [f["found"] for f in larger["faces"]] == [True], "65 pixels are searched"
    assert [(f["found"], f["box"]) for f in small["faces"]] == [(False, [0, 0, 64, 64])]
    assert [(f["found"], f["box"]) for f in empty["faces"]] == [(False, [40, 0, 160, 120])]


class Says:
    """A session that gives each face's first class a probability."""

    def __init__(self, session: Any, shares: tuple[float, ...]) -> None:
        self.session, self.shares = session, shares

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def run(self, names: list[str], feeds: dict) -> list[np.ndarray]:
        given = np.array(self.shares[: len(feeds["faces"])], np.float64)[:, None]
        rows = np.concatenate([given, np.repeat((1 - given) / 6, 6, axis=1)], axis=1)
        return [rows for _ in names]


def test_abstaining_is_for_calibrated_probabilities(graph_file: Path, calibrated: Path, photograph: Path) -> None:
    def told(graph: Path | Graph, threshold: float | None = None) -> list[tuple[float, bool]]:
        faces = predict(photograph, graph=graph, threshold=threshold)[0]["faces"]
        assert all(f["label"] == max(f["probabilities"], key=f["probabilities"].get) for f in faces)
        return [(max(f["probabilities"].values()), f["abstained"]) for f in faces]

    assert not any(abstained for _, abstained in told(graph_file))
    assert all(abstained == (p < 0.5) for p, abstained in told(calibrated))
    known = open_graph(calibrated)
    assert told(replace(known, session=Says(known.session, (0.49, 0.51, 0.3, 0.9)))) == [
        (0.49, True), (0.51, False), (0.3, True), (0.9, False)
    ]  # fmt: skip
    middle = float(np.median([p for p, _ in told(graph_file)])) + 1e-9
    found = told(graph_file, middle)
    assert {abstained for _, abstained in found} == {True, False}
    assert all(abstained == (p < middle) for p, abstained in found)
    with pytest.raises(UsageError, match="threshold 2: expected a probability"):
        predict(photograph, graph=graph_file, threshold=2)


def test_a_folder_passes_over_what_is_no_picture(graph_file: Path, photograph: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "below").mkdir(parents=True)
    photograph.rename(folder / "below/a.png")
    Image.new("L", (48, 48), 90).save(folder / "b.jpg")
    (folder / "c.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("not looked at")
    found = predict(folder, graph=graph_file)
    assert [Path(item["path"]).name for item in found] == ["b.jpg", "a.png", "c.png"]
    assert found[2]["faces"] == []
    assert "not a picture" in found[2]["problem"]
    with pytest.raises(BadData, match=r"c\.png: not a picture"):
        predict([folder / "b.jpg", folder / "c.png"], graph=graph_file)
    with pytest.raises(UsageError, match="is a folder"):
        predict([folder / "b.jpg", folder], graph=graph_file)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UsageError, match="holds no picture"):
        predict(tmp_path / "nothing", graph=graph_file)
    table = list(csv.DictReader(table_of(found).splitlines()))
    assert [row["problem"] != "" for row in table] == [False] * (len(table) - 1) + [True]
    assert len(table) == sum(len(item["faces"]) for item in found) + 1
    for row, face in zip(table[1:-1], found[1]["faces"], strict=True):
        assert [int(row[key]) for key in ("x0", "y0", "x1", "y1")] == face["box"]
        assert float(row[face["label"]]) == pytest.approx(face["probabilities"][face["label"]], abs=1e-6)


def test_boxes_are_drawn_where_the_faces_are(
    graph_file: Path, photograph: Path, crowd: np.ndarray, tmp_path: Path
) -> None:
    faces = predict(photograph, graph=graph_file)[0]["faces"]
    drawn = np.asarray(annotated(crowd, faces)).astype(int)
    changed = (drawn != crowd[..., None]).any(axis=2)
    assert drawn.shape == (*crowd.shape, 3)
    for face in faces:
        x0, y0, x1, y1 = face["box"]
        assert changed[(y0 + y1) // 2, x0], "its left side"
        assert changed[y1 - 1, (x0 + x1) // 2] or changed[y0, (x0 + x1) // 2]
    assert changed.mean() < 0.3
    small = annotated(np.full((48, 48), 90, np.uint8), [{**faces[0], "box": [0, 0, 48, 48]}])
    assert min(small.size) >= 200, "a small face is enlarged, so that words have room"
    assert save_annotated(photograph, faces, tmp_path / "drawn.png") == tmp_path / "drawn.png"
    assert Image.open(tmp_path / "drawn.png").size == crowd.shape[::-1]


def test_the_command_writes_table_and_pictures(graph_file: Path, photograph: Path, tmp_path: Path) -> None:
    given = ["predict", photograph, "--graph", graph_file, "--store", tmp_path / "s"]
    done = run(*given, "--csv", tmp_path / "o/t.csv", "--annotate", tmp_path / "o/drawn.png", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (tmp_path / "o/t.csv").read_text() == table_of(found)
    assert (tmp_path / "o/drawn.png").is_file()
    (tmp_path / "in").mkdir()
    for path in (photograph, tmp_path / "o/drawn.png"):
        (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
    folder = run("predict", tmp_path / "in", "--graph", graph_file, "--annotate", tmp_path / "all")
    assert folder.exit_code == 0, folder.output
    assert {path.name for path in (tmp_path / "all").iterdir()} == {"photograph.png", "drawn.png"}
    wrong = run(
        "predict", tmp_path, "--graph", graph_file, "--annotate", tmp_path / "one.png", "--store", tmp_path / "s"
    )
    assert wrong.exit_code == 2
    assert "expected a folder" in wrong.stderr
    for out in (tmp_path, photograph):
        kept = photograph.read_bytes()
        over = run("predict", photograph, "--graph", graph_file, "--annotate", out)
        assert over.exit_code == 2
        assert "written over what is read" in over.stderr
        assert photograph.read_bytes() == kept
    assert run("predict", photograph, "--graph", graph_file, "--ensemble", "any").exit_code == 2


def test_long_pictures_are_not_blown_up(graph_file: Path) -> None:
    faces = [{"box": [0, 0, 1, 1], "label": "happy", "probabilities": {"happy": 1.0}, "abstained": False}]
    assert annotated(np.zeros((1, 20_000), np.uint8), faces).size == (20_000, 1)


def test_places_that_cannot_be_written_are_refused_before_the_work(
    graph_file: Path, photograph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ensemble_fer.app import prediction

    monkeypatch.setattr(prediction, "predict", lambda *_, **__: pytest.fail("began to work"))
    folder, graph = tmp_path / "in", tmp_path / "graph.onnx"
    folder.mkdir()
    (folder / "a.png").write_bytes(photograph.read_bytes())
    graph.write_bytes(graph_file.read_bytes())
    (tmp_path / "file").write_text("")
    for given, more, text in (
        (photograph, ["--csv", photograph], "over what is read"),
        (photograph, ["--csv", graph, "--graph", graph], "over what is read"),
        (folder, ["--csv", folder / "a.png"], "over what is read"),
        (photograph, ["--csv", folder], "a folder is there"),
        (photograph, ["--csv", tmp_path / "file" / "x.csv"], "no folder to write to"),
        (photograph, ["--csv", tmp_path / "s.png", "--annotate", tmp_path / "s.png"], "over --csv"),
        (folder, ["--annotate", tmp_path / "file"], "no folder to write to"),
        (folder, ["--annotate", folder / "drawn"], "elsewhere"),
    ):
        answer = run("predict", given, *more, *([] if "--graph" in more else ["--graph", graph_file]))
        assert answer.exit_code == 2, (more, answer.stderr)
        assert text in answer.stderr
    assert run("predict", "", "--graph", graph_file).exit_code == 2


def test_pictures_of_one_name_are_drawn_under_numbers() -> None:
    from ensemble_fer.cli.prediction import drawn_at

    places = drawn_at(Path("out"), ["a/x.png", "b/x.jpg", "x-2.png", "c/x.png", "y.png"])
    assert [place.name for place in places] == ["x.png", "x-2.png", "x-2-2.png", "x-3.png", "y.png"]
    many = drawn_at(Path("out"), ["x.png"] * 20_000)
    assert len(set(many)) == 20_000


def test_a_path_that_goes_on_below_a_file_is_missing_like_any_other(graph_file: Path, photograph: Path) -> None:
    with pytest.raises(MissingError, match="2 of 2 picture files missing"):
        predict([photograph / "x", photograph.with_name("none.png")], graph=graph_file)


def test_metadata_that_cannot_be_read_is_said_to_be_so(graph_file: Path, tmp_path: Path) -> None:
    for key, value in (("labels", "{"), ("members", "3"), ("stamp", "[]"), ("combination", "null")):
        proto = onnx.load(graph_file)
        about = {each.key: each.value for each in proto.metadata_props}
        onnx.helper.set_model_props(proto, {**about, key: value})
        onnx.save(proto, tmp_path / "odd.onnx")
        with pytest.raises(UsageError, match=rf"metadata cannot be read|its {key} are no "):
            open_graph(tmp_path / "odd.onnx")
