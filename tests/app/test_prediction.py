"""Pictures through the graph, in order, without torch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensemble_fer.app.prediction import predict
from ensemble_fer.errors import BadData, MissingError, UsageError
from ensemble_fer.export.session import open_graph
from ensemble_fer.types import CLASSES
from tests.export.making import faces

ROOT = Path(__file__).parents[2]
# Put before a script: an import of torch, wherever it comes from, ends it.
NO_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "timm", "torchvision", "onnxscript"):
            raise ImportError(f"{name} was imported")
sys.meta_path.insert(0, Refuse())
"""


def run_without_torch(script: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", NO_TORCH + script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"face{i}.png" for i in range(9)]
    for path, face in zip(paths, faces(9), strict=True):
        Image.fromarray(face).save(path)
    return paths


def test_each_picture_in_order_with_what_the_graph_says(graph_file: Path, pictures: list[Path]) -> None:
    expected = open_graph(graph_file).run(faces(9))["probabilities"]
    order = [4, 0, 8, 3, 3, 1]
    found = predict([pictures[i] for i in order], graph=graph_file)
    assert [item["path"] for item in found] == [str(pictures[i]) for i in order]
    for item, i in zip(found, order, strict=True):
        (face,) = item["faces"]
        assert list(face) == ["box", "found", "label", "probabilities", "abstained"]
        assert list(face["probabilities"]) == list(CLASSES)
        np.testing.assert_allclose(list(face["probabilities"].values()), expected[i], atol=1e-6)
        assert face["label"] == CLASSES[expected[i].argmax()]
        assert face["box"] == [0, 0, 48, 48]
        assert face["found"] is False
        assert face["abstained"] is False
    assert len({item["faces"][0]["label"] for item in found}) > 1
    assert json.loads(json.dumps(found)) == found


def test_one_path_and_an_opened_graph_will_do(graph_file: Path, pictures: list[Path]) -> None:
    opened = open_graph(graph_file, threads=1)
    (found,) = predict(str(pictures[2]), graph=opened)
    assert found["path"] == str(pictures[2])
    assert found["faces"] == predict([pictures[2]], graph=opened)[0]["faces"]


def test_nothing_is_said_if_one_picture_is_bad(graph_file: Path, pictures: list[Path], tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"absent\.png: no such file"):
        predict([*pictures, tmp_path / "absent.png"], graph=graph_file)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(BadData, match=r"text\.png: not a picture"):
        predict([*pictures, tmp_path / "text.png"], graph=graph_file)
    with pytest.raises(UsageError, match="no picture to predict"):
        predict([], graph=graph_file)
    with pytest.raises(MissingError, match="ensemble-fer fuse"):
        predict(pictures, graph=tmp_path / "absent.onnx")


def test_torch_is_never_imported(graph_file: Path, pictures: list[Path], tmp_path: Path) -> None:
    script = f"""
import json
from ensemble_fer.app.prediction import predict
print(json.dumps(predict(["face0.png"], graph={str(graph_file)!r})))
"""
    assert (
        json.loads(run_without_torch(script, tmp_path))[0]["faces"]
        == predict(pictures[:1], graph=graph_file)[0]["faces"]
    )
    with pytest.raises(AssertionError, match="torch was imported"):
        run_without_torch("import torch", tmp_path)


def test_example_of_the_docs_runs_without_torch_and_without_this_package(
    graph_file: Path, pictures: list[Path], tmp_path: Path
) -> None:
    text = (ROOT / "docs/fusing.md").read_text()
    (example,) = [each for each in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "onnxruntime" in each]
    assert "ensemble_fer" not in example
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
    (tmp_path / "ensemble.onnx").write_bytes(graph_file.read_bytes())
    pictures[0].rename(tmp_path / "face.png")
    said = run_without_torch(example, tmp_path)
    face = predict(tmp_path / "face.png", graph=graph_file)[0]["faces"][0]
    assert face["label"] in said.splitlines()[0]
    assert f"{face['probabilities'][face['label']]:.3f}" in said.splitlines()[0]
