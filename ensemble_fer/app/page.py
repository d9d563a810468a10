"""A page in the browser: a picture or the camera, boxes, probabilities, what each member says, and what decided."""

from __future__ import annotations

import atexit
import base64
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.app.address import check_place, names_of
from ensemble_fer.app.drawing import annotated, overlay
from ensemble_fer.app.limits import Limits, hurried, nearby, understood
from ensemble_fer.app.occlusion import occlusion
from ensemble_fer.app.pictures import Faces, faces_of
from ensemble_fer.app.prediction import check_threshold, opened_graph, said_of
from ensemble_fer.data.readers import BadPicture, PictureFace, read_whole
from ensemble_fer.errors import MissingError, UsageError
from ensemble_fer.export.session import OUTPUT, Graph
from ensemble_fer.store import Artifact
from ensemble_fer.types import CLASSES

MOST_BYTES = 10_000_000
"""Of an upload."""
MOST_OF_A_REQUEST = MOST_BYTES * 4 // 3 + 100_000
"""Bytes; a picture can come as text in base 64."""
WAITING = 32
"""Requests that may wait; more are refused at once."""
ENLARGED = 6
MOST_PIXELS, MOST_OF_A_FRAME = 24_000_000, 4_000_000
"""That an upload, and a moment of the camera, may declare."""
SHOWN = 2048
"""Pixels of the longer side of a picture with boxes; browsers are sent WebP, which has its limits."""
WHY = "What decided (red for, blue against)"
BUTTONS = ["download", "fullscreen"]
"""Of pictures. Without them gradio offers to share a picture, which would send it elsewhere."""
HINT = "Upload a photograph, or take one with the camera. Nothing leaves this machine."
WARNING = (
    "The page says which of seven expressions a face shows, as annotators of FER2013 would name it. "
    "It does not say what a person feels."
)


class Answers:
    """What the page says of a picture; everything but how it looks.

    Parameters
    ----------
    graph : Graph
        Of gray faces.
    threshold : float, optional
        As in ``predict``.
    """

    def __init__(self, graph: Graph, threshold: float | None = None) -> None:
        check_threshold(threshold)
        self.graph, self.threshold = graph, threshold

    def read(self, path: str) -> tuple[Faces, NDArray[np.uint8]]:
        """The faces of an uploaded file, and its pixels.

        Raises
        ------
        BadPicture
            It is larger than 10 MB or 24 million pixels, or no picture of a known kind.
        """
        whole, picture = self._opened(path, MOST_PIXELS)
        return faces_of(whole, picture, path, self.graph.threads), picture

    def watch(self, moment: str | bytes) -> tuple[Faces, NDArray[np.uint8]]:
        """The faces of a moment of the camera, none where none is found, and its pixels; a file, or what is in it.

        Raises
        ------
        BadPicture
            It is larger than 10 MB or 4 million pixels, or no picture of a known kind.
        """
        whole, picture = self._opened(moment, MOST_OF_A_FRAME)
        found = faces_of(whole, picture, "", self.graph.threads)
        return (found if found.found else replace(found, pixels=found.pixels[:0], boxes=[])), picture

    def _opened(self, file: str | bytes, most: int) -> tuple[PictureFace, NDArray[np.uint8]]:
        size = len(file) if isinstance(file, bytes) else Path(file).stat().st_size
        if size > MOST_BYTES:
            raise BadPicture(f"the file has {size / 1e6:.0f} MB; at most {MOST_BYTES / 1e6:.0f} are taken")
        return read_whole(file if isinstance(file, bytes) else Path(file), most)

    def say(self, found: Faces) -> list[dict]:
        """As ``predict`` has it, of each face."""
        return said_of([found], self.graph, self.threshold)[0]["faces"]

    def votes(self, face: NDArray[np.uint8]) -> list[list[str]]:
        """Of each member its name, its most probable class and that probability."""
        answers = self.graph.run(face[None])
        names = [name for name in answers if name != OUTPUT]
        called = {each.get("output"): each.get("name") for each in self.graph.members}
        rows = []
        for name in names:
            row = answers[name][0]
            rows.append(
                [str(called.get(name) or name), self.graph.labels[int(row.argmax())], f"{100 * row.max():.0f} %"]
            )
        return rows

    def why(self, face: NDArray[np.uint8], label: str) -> NDArray[np.uint8]:
        """The face with what carries this class over it, enlarged, RGB."""
        shown = occlusion(self.graph, face, self.graph.labels.index(label))
        drawn = (255 * overlay(face, shown)).round().astype(np.uint8)
        return drawn.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)


def build_page(
    graph: str | Path | Artifact | Graph | None = None, *, threshold: float | None = None, threads: int | None = None
) -> Any:
    """The page as ``gradio.Blocks``, not yet served.

    Raises
    ------
    MissingError
        gradio is not installed, or there is no such graph.
    """
    gr = _gradio()
    answers = Answers(opened_graph(graph, threads), threshold)

    def look(path: str | None) -> tuple[Any, ...]:
        """A new picture: all that is shown of it."""
        nothing = [None, gr.update(choices=[], value=None, visible=False), {}, [], None, None]
        if not path:
            return *nothing, ""
        try:
            found, picture = answers.read(path)
        except (BadPicture, OSError) as error:
            # In place of what was said of the picture before.
            return *nothing, f"**This is no picture that can be read: {error}.**"
        said = answers.say(found)
        choices = [(f"{i + 1}: {face['label']}", i) for i, face in enumerate(said)]
        state = {"faces": [pixels.tolist() for pixels in found.pixels], "said": said}
        bars, votes, note, _ = choose(0, state)
        drawn = annotated(picture, said)
        drawn.thumbnail((SHOWN, SHOWN))
        return (
            np.asarray(drawn),
            gr.update(choices=choices, value=0, visible=len(said) > 1),
            bars,
            votes,
            state,
            None,
            note,
        )

    def choose(number: int | None, state: dict | None) -> tuple[dict, list, str, None]:
        """Another face of the same picture; what decided of the one before is taken away."""
        if not state or number is None:
            return {}, [], "", None
        face = state["said"][number]
        note = "" if face["found"] else "No face was found: the middle of the picture is taken for one. "
        note += f"Too unsure to say ({face['label']} is most probable)." if face["abstained"] else ""
        return face["probabilities"], answers.votes(np.array(state["faces"][number], np.uint8)), note, None

    def explain(number: int | None, state: dict | None) -> Any:
        """What carries the answer."""
        if not state or number is None:
            raise gr.Error("There is no face yet. Upload a picture first.", duration=5)
        return answers.why(np.array(state["faces"][number], np.uint8), state["said"][number]["label"])

    def live(moment: str | bytes | None) -> tuple[Any, dict]:
        """A moment of the camera."""
        if not moment:
            return None, {}
        try:
            found, frame = answers.watch(moment)
        except (BadPicture, OSError) as error:
            raise gr.Error(f"The camera gives no picture that can be read: {error}.", duration=5) from error
        said = answers.say(found)
        return np.asarray(annotated(frame, said, enlarge=False)), said[0]["probabilities"] if said else {}

    with gr.Blocks(title="ensemble-fer", analytics_enabled=False, delete_cache=(60, 600)) as page:
        gr.Markdown(f"# ensemble-fer\n{HINT} {WARNING}")
        with gr.Tab("Picture"):
            state = gr.State()
            with gr.Row():
                with gr.Column():
                    given = gr.Image(sources=["upload", "webcam"], type="filepath", label="Picture", height=320)
                    given.preprocess = _unread
                    drawn = gr.Image(label="Faces", interactive=False, height=320, buttons=BUTTONS)
                with gr.Column():
                    which = gr.Radio(choices=[], label="Face", visible=False)
                    note = gr.Markdown()
                    bars = gr.Label(label="Probabilities", num_top_classes=len(CLASSES))
                    votes = gr.Dataframe(headers=["member", "says", "with"], label="Members", interactive=False)
                    button = gr.Button("Show what decided")
                    why = gr.Image(label=WHY, interactive=False, height=300, buttons=BUTTONS)
            shown = [drawn, which, bars, votes, state, why, note]
            given.change(look, given, shown, api_name="look")
            which.change(choose, [which, state], [bars, votes, note, why], api_name=False)
            button.click(explain, [which, state], why, api_name=False)
        with gr.Tab("Camera"), gr.Row():
            camera = gr.Image(sources=["webcam"], streaming=True, type="filepath", label="Camera", height=360)
            camera.preprocess = _unread
            with gr.Column():
                seen = gr.Image(label="Faces", interactive=False, height=360, buttons=BUTTONS)
                now = gr.Label(label="Probabilities", num_top_classes=len(CLASSES))
            camera.stream(live, camera, [seen, now], stream_every=0.2, concurrency_limit=1, api_name=False)
    page.queue(max_size=WAITING, default_concurrency_limit=2)
    page.preprocess_data = understood(page.preprocess_data, gr.Error)
    for each in page.blocks.values():
        each.async_move_resource_to_block_cache = nearby(each.async_move_resource_to_block_cache)
    return page


def serve(
    graph: str | Path | Artifact | Graph | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    threshold: float | None = None,
    threads: int | None = None,
    block: bool = True,
    ready: Callable[[str], None] = lambda address: None,
) -> str:
    """Serve the page until it is interrupted; the address.

    Parameters
    ----------
    graph, threshold, threads
        As in ``predict``.
    host : str
        Which addresses are answered: of this machine alone by default; ``0.0.0.0`` answers everybody who can reach it.
    port : int
        1 to 65535.
    block : bool
        Wait for the interruption; else return at once, and serve as long as this process lives.
    ready : callable
        Is given the address once the page can be opened.

    Raises
    ------
    UsageError
        The port is taken or out of range.
    MissingError
        gradio is not installed, or there is no such graph.
    """
    check_place(host, port)
    page = build_page(graph, threshold=threshold, threads=threads)
    gr = _gradio()
    from starlette.middleware import Middleware

    guard = Middleware(Limits, MOST_OF_A_REQUEST, names_of(host), Path(_private_folder()))
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # none from elsewhere
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            max_file_size=MOST_BYTES,
            app_kwargs={"middleware": [guard]},
            share=False,
            quiet=True,
            inbrowser=False,
            prevent_thread_lock=True,
            theme=theme,
            footer_links=[],
        )
    except OSError as error:
        raise UsageError(f"port {port} of {host} cannot be served: {error}. Take another one: --port") from error
    # Read for each connection.
    page.server.config.http_protocol_class = hurried(page.server.config.http_protocol_class)
    try:
        ready(address)
        while block:
            Event().wait()
    except BaseException:
        page.close(verbose=False)
        raise
    return address


def _unread(payload: Any) -> str | bytes | None:
    """The uploaded file as it is, for our reader: gradio would open and convert it first, a bad or a huge one too.

    The camera's come as text in base 64. (Set on two fields; of a class of its own gradio would write a stub file into
    the package.)
    """
    if payload is None or payload.path:
        return payload and payload.path
    _, _, text = (payload.url or "").partition(";base64,")
    try:
        return base64.b64decode(text) if len(text) <= MOST_BYTES * 4 // 3 else b"0" * (MOST_BYTES + 1)
    except ValueError:
        return b"0"


@cache
def _private_folder() -> str:
    """Where uploads lie while they are looked at: for nobody else on this machine, and removed at the end."""
    folder = tempfile.mkdtemp(prefix="ensemble-fer-page-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _gradio() -> Any:
    # Read when gradio is imported, the last when a page is built.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("GRADIO_TEMP_DIR", _private_folder())
    try:
        import gradio
    except ImportError as error:
        raise MissingError(
            "the page is served by gradio, which is not installed. Get it:  pip install 'ensemble-fer[app]'"
        ) from error
    return gradio
