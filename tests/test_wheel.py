"""The wheel carries the shipped ensemble: installed, it reads a photograph with no network, no store, no checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from ensemble_fer.app.prediction import predict
from ensemble_fer.data.synthetic import draw_faces
from ensemble_fer.export.shipped import shipped_graph
from tests.detector.test_finding import scene

ROOT = Path(__file__).parents[1]
OFFLINE = """
import socket, sys

def refused(*_):
    raise AssertionError("asked the network")

socket.socket.connect = socket.getaddrinfo = refused
from ensemble_fer.cli import main
sys.argv[0] = "ensemble-fer"
try:
    main()
finally:
    import ensemble_fer
    print(ensemble_fer.__file__, "torch" in sys.modules, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as pip installs it from its wheel, without what it depends on."""
    folder = tmp_path_factory.mktemp("wheel")
    for command in (
        ["hatchling", "build", "-t", "wheel", "-d", str(folder)],
        ["pip", "install", "-q", "--no-deps", "--no-index", "--target", str(folder / "site"), "ensemble-fer",
         "--find-links", str(folder)],
    ):  # fmt: skip
        done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_what_the_wheel_holds(installed: Path) -> None:
    (wheel,) = installed.glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("ensemble_fer/released/")}
    kept = [path for path in (ROOT / "artifacts/released").rglob("*") if path.is_file()]
    for name in ("ensemble.onnx", "README.md", "facts.json", "released-select.npz"):
        assert f"ensemble_fer/released/{name}" in inside
    assert len([name for name in inside if name.endswith(".toml")]) >= 2
    assert inside == {f"ensemble_fer/released/{path.relative_to(ROOT / 'artifacts/released')}" for path in kept}
    assert sum(path.stat().st_size for path in kept) <= 12_000_000


def test_a_photograph_without_network_store_or_checkout(installed: Path, tmp_path: Path) -> None:
    photograph = tmp_path / "photo.jpg"
    Image.fromarray(scene(draw_faces(200, seed=4).images, 0)[0]).save(photograph, quality=95)
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, "predict", photograph.name, "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    where, torch = done.stderr.split()[-2:]
    assert Path(where).parents[1] == installed / "site"
    assert torch == "False"
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"], "nothing is written"
    (said,) = json.loads(done.stdout)
    assert len(said["faces"]) > 1
    (here,) = predict(photograph)
    assert said["faces"] == here["faces"]
    assert shipped_graph().parent == ROOT / "artifacts/released"
