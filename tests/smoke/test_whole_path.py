"""The whole path on a few synthetic faces: first the Python of the tour, then the commands in the same store."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ensemble_fer.cli import app
from ensemble_fer.types import CLASSES

ROOT = Path(__file__).parents[2]
MEMBERS = ["tour-ros", "tour-smote", "tour-smote_tomek"]
SHORT = ("--epochs", 1, "--epoch-rows", 256)


class Walk:
    """Runs commands in one store and gives what they said."""

    def __init__(self, folder: Path, said: str) -> None:
        self.folder, self.store, self.said = folder, folder / "artifacts", said

    def text(self, *arguments: object) -> str:
        done = CliRunner().invoke(app, [*map(str, arguments), "--store", str(self.store)])
        assert done.exit_code == 0, f"{arguments}\n{done.output}\n{done.exception!r}"
        return done.stdout

    def json(self, *arguments: object):
        return json.loads(self.text(*arguments, "--json"))


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """The Python block of the tour, run as it stands."""
    folder = tmp_path_factory.mktemp("smoke")
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/tour.md").read_text(), re.DOTALL)
    said = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(said):
        exec(compile(block, "docs/tour.md", "exec"), {})
    return Walk(folder, said.getvalue())


def test_the_tour_says_what_it_made(walk: Walk) -> None:
    assert (walk.folder / "faces.png").is_file()
    assert {line.split()[1] for line in walk.said.splitlines()[-4:]} == {"tour", *MEMBERS}
    assert "look 4 at this test part" in walk.said, "one look for each of three members and one for the ensemble"


def test_a_command_gives_what_the_same_call_gave(walk: Walk) -> None:
    drawn = walk.json("data", "synth", "--rows", 400)
    resampled = walk.json("resample", "--method", "ros")
    trained = walk.json("train", "--resampled", resampled["id"], *SHORT, "--name", "tour-ros")
    fused = walk.json("fuse", *MEMBERS, "--name", "tour")
    made = {kind: sorted(p.name for p in (walk.store / kind).iterdir()) for kind in ("data", "run", "ensemble")}
    assert made["data"] == [drawn["id"]]
    assert len(made["run"]) == 3
    assert trained["id"] in made["run"]
    assert made["ensemble"] == [fused["id"]]
    assert {"id", "name", "select", "parameters", "best_epoch", "epochs", "train_seconds"} <= set(trained)
    assert walk.json("runs", "show", "tour-ros")["metrics"]["select"] == trained["select"]
    assert [r["name"] for r in walk.json("runs", "list")] == [*MEMBERS, "tour"]


def test_the_graph_gives_what_torch_gives(walk: Walk) -> None:
    fused = walk.json("fuse", *MEMBERS, "--name", "tour")
    assert {"id", "onnx", "members", "rows_checked", "max_abs_diff", "flips"} <= set(fused)
    assert fused["members"] == MEMBERS
    assert fused["rows_checked"] > 0
    assert fused["max_abs_diff"] <= 1e-5
    assert fused["flips"] == 0
    onnx = Path(fused["onnx"])
    assert [p.name for p in onnx.parent.glob("*.onnx*")] == ["ensemble.onnx"], "weights must be in the one file"


def test_predict_says_what_the_graph_says_in_the_order_given(walk: Walk) -> None:
    import onnxruntime

    images = np.random.default_rng(0).integers(0, 256, (3, 48, 48), dtype=np.uint8)
    paths = [str(walk.folder / name) for name in ("z.png", "a.png", "m.bmp")]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    said = walk.json("predict", *paths, "--ensemble", "tour")
    assert [item["path"] for item in said] == paths
    (graph,) = walk.store.glob("ensemble/*/ensemble.onnx")
    expected = onnxruntime.InferenceSession(graph).run(["probabilities"], {"faces": images})[0]
    for item, row in zip(said, np.asarray(expected), strict=True):
        (face,) = item["faces"]
        assert set(face) == {"box", "found", "label", "probabilities", "abstained"}
        np.testing.assert_allclose([face["probabilities"][c] for c in CLASSES], row, atol=1e-6)
        assert face["label"] == CLASSES[int(row.argmax())]
    assert walk.json("predict", *paths) != said, "the shipped ensemble is the default"
    assert walk.json("predict", *paths, "--graph", graph) == said
    assert "z.png" in walk.text("predict", *paths)


def test_evaluate_counts_a_look_once_and_shows_the_stamp(walk: Walk) -> None:
    first = walk.json("evaluate", "tour")
    promised = {"accuracy", "top2", "top3", "macro_f1", "balanced_accuracy", "nll", "brier", "ece", "per_class"}
    assert promised | {"confusion", "ci95", "twin_free", "protocol"} <= set(first)
    assert np.array(first["confusion"]).shape == (7, 7)
    assert set(first["per_class"]) == set(CLASSES)
    assert first["protocol"]["looks"] == 4
    figure = walk.folder / "figures/confusion.png"
    assert walk.json("evaluate", "tour", "--figure", figure) == first, "the same request must not be another look"
    with Image.open(figure) as picture:
        assert min(picture.size) > 200
    shown = walk.text("evaluate", "tour")
    assert f"{100 * first['macro_f1']:.1f}" in shown
    assert "look 4 at this test part" in shown


def test_leaderboard_ranks_by_the_select_part(walk: Walk) -> None:
    walk.json("train", "--resampled", "rus", *SHORT, "--batch-size", 32, "--name", "unseen")
    rows = walk.json("leaderboard")["rows"]
    assert {r["name"] for r in rows} == {*MEMBERS, "tour", "unseen"}
    assert [r["rank"] for r in rows] == [1, 2, 3, 4, 5]
    scores = [r["select"]["macro_f1"] for r in rows]
    assert scores == sorted(scores, reverse=True)
    assert [r["name"] for r in rows if r["test"] is None] == ["unseen"], "training must not look at the test part"
    shown = walk.text("leaderboard")
    assert all(row["name"] in shown for row in rows)
    assert {a["kind"] for a in walk.json("runs", "remove", "unseen")} == {"run"}


def test_the_store_is_whole_and_members_of_an_ensemble_stay(walk: Walk) -> None:
    assert walk.json("store", "check")["problems"] == []
    done = CliRunner().invoke(app, ["runs", "remove", "tour-ros", "--store", str(walk.store)])
    assert done.exit_code == 1
    assert "run tour-ros was used to make ensemble tour" in done.stderr
