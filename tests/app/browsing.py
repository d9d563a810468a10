"""The page in a headless browser before a fake camera, for the test and for the pictures of the docs.

``python -m tests.app.browsing docs/images`` writes ``page.png``, ``camera.png`` and ``annotated.png``, of drawn faces.
"""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ensemble_fer.app.drawing import save_annotated
from ensemble_fer.app.page import serve
from ensemble_fer.app.prediction import predict
from ensemble_fer.data.synthetic import draw_faces
from tests.detector.test_finding import scene

SECONDS = 60


def browser_program() -> str | None:
    """Chromium of this machine, if there is one."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def crowd() -> NDArray[np.uint8]:
    """Drawn faces in a drawn photograph, uint8 RGB [height, width, 3]."""
    return np.asarray(Image.fromarray(scene(draw_faces(200, seed=4).images, 0)[0]).convert("RGB"))


def write_camera(path: Path, picture: NDArray[np.uint8]) -> None:
    """A y4m file that Chromium shows as its camera: the picture, in grey, standing still."""
    gray = np.asarray(Image.fromarray(picture).convert("L").resize((640, 480)))
    chroma = bytes([128]) * (640 * 480 // 2)
    frame = b"FRAME\n" + gray.tobytes() + chroma
    path.write_bytes(b"YUV4MPEG2 W640 H480 F10:1 Ip A1:1 C420jpeg\n" + 10 * frame)


@contextmanager
def opened_page(graph: str | Path | None, folder: Path) -> Iterator[tuple[Any, str, list[str]]]:
    """The served page in the browser: playwright's page, its address, and every address that was asked for."""
    import gradio
    from playwright.sync_api import sync_playwright

    write_camera(folder / "camera.y4m", crowd())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = serve(graph, port=port, threshold=0.0, threads=1, block=False)
    flags = [
        "--no-sandbox",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={folder / 'camera.y4m'}",
    ]
    try:
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=browser_program(), args=flags)
            page = browser.new_page(viewport={"width": 1200, "height": 900})
            page.set_default_timeout(1000 * SECONDS)
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            page.goto(address)
            page.wait_for_selector("text=Show what decided")
            yield page, address, asked
            browser.close()
    finally:
        gradio.close_all()


def upload(page: Any, picture: Path) -> None:
    """Give the page a picture, and wait until it has answered."""
    page.set_input_files("input[type=file]", str(picture))
    page.wait_for_selector("[data-testid='cell-0-2']:visible")


def explain(page: Any) -> None:
    """Ask what decided, and wait for the overlay."""
    page.click("text=Show what decided")
    page.locator("img:visible").nth(2).wait_for()  # after the picture and the one with boxes


def film(page: Any) -> None:
    """Let the camera run until a face is labelled."""
    page.click("button[role=tab]:has-text('Camera')")
    page.click("text=Click to Access Webcam")
    page.click("button:has-text('Record')")
    page.wait_for_selector("[data-testid$='-confidence-set']:visible")


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as made:
        Image.fromarray(crowd()).save(Path(made) / "crowd.png")
        (said,) = predict(Path(made) / "crowd.png")
        save_annotated(Path(made) / "crowd.png", said["faces"], folder / "annotated.png")
        with opened_page(None, Path(made)) as (page, _, _asked):
            upload(page, Path(made) / "crowd.png")
            explain(page)
            page.screenshot(path=str(folder / "page.png"), full_page=True)
            film(page)
            page.screenshot(path=str(folder / "camera.png"), full_page=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
