"""What the page says is what ``predict`` says; what is no picture, or too large, is refused in words."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensemble_fer.app import page as module
from ensemble_fer.app.occlusion import COVER, occlusion
from ensemble_fer.app.page import Answers, build_page, serve
from ensemble_fer.app.prediction import predict
from ensemble_fer.data.readers import BadPicture
from ensemble_fer.data.synthetic import draw_faces
from ensemble_fer.errors import MissingError, UsageError
from ensemble_fer.export.session import OUTPUT, open_graph
from ensemble_fer.types import CLASSES
from tests.detector.test_finding import scene
from tests.export import making


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "crowd.png"
    Image.fromarray(scene(draw_faces(200, seed=4).images, 0)[0]).save(path)
    return path


def test_a_picture_is_answered_as_predict_answers_it(graph_file: Path, photograph: Path) -> None:
    answers = Answers(open_graph(graph_file))
    found, picture = answers.read(str(photograph))
    assert len(found.pixels) > 1
    assert picture.shape == (400, 600)
    assert answers.say(found) == predict(photograph, graph=graph_file)[0]["faces"]


def test_votes_are_each_member_s_own(graph_file: Path) -> None:
    graph = open_graph(graph_file)
    face = making.faces(1, 5)[0]
    said = graph.run(face[None])
    rows = Answers(graph).votes(face)
    members = [name for name in said if name != OUTPUT]
    assert len(rows) == len(members) == 3
    for (_, label, share), name in zip(rows, members, strict=True):
        assert label == CLASSES[int(said[name][0].argmax())]
        assert share == f"{100 * said[name][0].max():.0f} %"


def test_what_a_cover_takes_away(graph_file: Path) -> None:
    """Against the definition, pixel by pixel."""
    graph = open_graph(graph_file)
    face = making.faces(1, 5)[0]
    label = int(graph.run(face[None])[OUTPUT][0].argmax())
    shown = occlusion(graph, face, label)
    assert shown.shape == (48, 48)
    assert np.abs(shown).max() == pytest.approx(1)
    whole = graph.run(face[None])[OUTPUT][0, label]
    starts, factors = range(0, 48 - COVER + 1, 4), []
    for y, x in ((0, 0), (20, 31), (47, 47)):
        drops = []
        for top in starts:
            for left in starts:
                if top <= y < top + COVER and left <= x < left + COVER:
                    covered = face.copy()
                    covered[top : top + COVER, left : left + COVER] = 127
                    drops.append(whole - graph.run(covered[None])[OUTPUT][0, label])
        factors.append(float(np.mean(drops)) / shown[y, x])
    assert factors[0] > 0, "the same sign"
    np.testing.assert_allclose(factors, factors[0], rtol=1e-3)


def test_what_is_no_picture_or_too_large_is_refused(
    graph_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers(open_graph(graph_file))
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    with pytest.raises(BadPicture, match="not a picture"):
        answers.read(str(bad))
    monkeypatch.setattr(module, "MOST_BYTES", 5)
    with pytest.raises(BadPicture, match="at most"):
        answers.read(str(bad))


def test_the_page_is_served_to_this_machine(graph_file: Path) -> None:
    import socket
    import urllib.request

    import gradio

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = serve(graph_file, port=port, block=False)
    try:
        assert address.startswith("http://127.0.0.1:")
        assert b"ensemble-fer" in urllib.request.urlopen(address, timeout=20).read()
        with pytest.raises(UsageError, match="--port"):
            serve(graph_file, port=port, block=False)
    finally:
        gradio.close_all()
    with pytest.raises(UsageError, match="1 to 65535"):
        serve(graph_file, port=0)


def test_without_gradio_the_line_that_gets_it(graph_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MissingError, match=r"pip install 'ensemble-fer\[app\]'"):
        build_page(graph_file)
