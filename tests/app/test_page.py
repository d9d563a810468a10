"""What the page says is what ``predict`` says; what is no picture, or too large, is refused in words."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ensemble_fer.app import limits
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
    wide = tmp_path / "wide.png"
    Image.new("1", (6001, 4000)).save(wide)
    with pytest.raises(BadPicture, match="more than 24,000,000 pixels"):
        answers.read(str(wide))
    Image.new("1", (2001, 2000)).save(wide)
    with pytest.raises(BadPicture, match="more than 4,000,000 pixels"):
        answers.watch(str(wide))
    monkeypatch.setattr(module, "MOST_BYTES", 5)
    with pytest.raises(BadPicture, match="at most"):
        answers.read(str(bad))


def test_the_page_is_served_to_this_machine(graph_file: Path) -> None:
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
    for host in ("::1", "no such host", "192.0.2.1"):
        with pytest.raises(UsageError, match=r"(expected an IPv4 address|cannot be had)"):
            serve(graph_file, port=port, host=host, block=False)
    with pytest.raises(UsageError, match="0 to 1"):
        build_page(graph_file, threshold=7.0)


def test_an_address_in_place_of_a_picture_is_not_fetched(graph_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gradio
    from gradio import processing_utils

    asked: list[str] = []

    async def fetched(url: str, **_: object) -> str:
        asked.append(url)
        raise OSError("no network")

    monkeypatch.setattr(processing_utils, "async_ssrf_protected_download", fetched)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = serve(graph_file, port=port, block=False)
    try:
        for key in ("path", "url"):
            told = {"path": "none", key: "http://attacker.example/x.png", "meta": {"_type": "gradio.FileData"}}
            begun = urllib.request.Request(
                f"{address}gradio_api/call/look",
                json.dumps({"data": [told]}).encode(),
                {"Content-Type": "application/json"},
            )
            event = json.loads(urllib.request.urlopen(begun, timeout=20).read())["event_id"]
            said = urllib.request.urlopen(f"{address}gradio_api/call/look/{event}", timeout=20).read().decode()
            assert "event: error" in said, key
    finally:
        gradio.close_all()
    assert asked == []


def test_pictures_that_are_kept_are_not_without_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(limits, "MOST_KEPT", 1000)
    guard = limits.Limits(None, 100, folder=tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_bytes(bytes(900))
    assert guard._refused({b"content-length": b"10"}) is None
    (tmp_path / "b").write_bytes(bytes(101))
    assert guard._refused({b"content-length": b"10"}) == (503, "too many pictures at once; try again in some minutes")


def test_ctrl_c_ends_the_command_with_130_and_one_document(graph_file: Path) -> None:
    command = [sys.executable, "-m", "ensemble_fer", "app", "--graph", str(graph_file), "--json", "--port", "0"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        command[-1] = str(free.getsockname()[1])
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        first = serving.stdout.readline()
        while first and first.rstrip()[-1:] != "}":
            first += serving.stdout.readline()
        address = json.loads(first)["address"]
        assert b"ensemble-fer" in urllib.request.urlopen(address, timeout=20).read()
        with pytest.raises(urllib.error.HTTPError, match="413"):
            send(address, module.MOST_BYTES + 1000)
        serving.send_signal(signal.SIGINT)
        rest, told = serving.communicate(timeout=30)
    assert serving.returncode == 130
    assert rest.strip() == ""
    assert told.strip().splitlines()[-1] == "error: interrupted."


def send(address: str, size: int) -> None:
    """Upload so many bytes as a picture."""
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        + bytes(size)
        + b"\r\n--x--\r\n"
    )
    asked = urllib.request.Request(
        f"{address}gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"}
    )
    urllib.request.urlopen(asked, timeout=20)


def test_what_the_browser_sends_reaches_the_reader_as_it_is() -> None:
    def payload(**given: str | None) -> SimpleNamespace:
        return SimpleNamespace(**{"path": None, "url": None, **given})

    assert module._unread(None) is None
    assert module._unread(payload(path="/a.png", url="http://127.0.0.1/a.png")) == "/a.png"
    assert module._unread(payload(url="data:image/jpeg;base64,YWJj")) == b"abc"
    for bad in ("data:image/jpeg;base64,YWJ", "http://127.0.0.1/a.png", None):
        assert len(module._unread(payload(url=bad)) or b"") < 2, "refused by the reader"
    huge = module._unread(payload(url="data:;base64," + "A" * (module.MOST_BYTES * 4 // 3 + 4)))
    assert len(huge) == module.MOST_BYTES + 1, "refused as too large"


def test_a_camera_s_moment_without_a_face_says_nothing(graph_file: Path, photograph: Path, tmp_path: Path) -> None:
    answers = Answers(open_graph(graph_file))
    Image.new("RGB", (320, 240), "gray").save(tmp_path / "wall.png")
    found, frame = answers.watch(str(tmp_path / "wall.png"))
    assert (found.boxes, len(found.pixels), frame.shape) == ([], 0, (240, 320, 3))
    assert answers.say(found) == []
    assert answers.say(answers.watch(photograph.read_bytes())[0]) == predict(photograph, graph=graph_file)[0]["faces"]


def test_without_gradio_the_line_that_gets_it(graph_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MissingError, match=r"pip install 'ensemble-fer\[app\]'"):
        build_page(graph_file)
