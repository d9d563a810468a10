"""A page in the browser: a picture or the camera, boxes, probabilities, what each member says, and what decided."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.app.drawing import annotated, overlay
from ensemble_fer.app.occlusion import occlusion
from ensemble_fer.app.pictures import Faces, faces_of
from ensemble_fer.app.prediction import opened_graph, said_of
from ensemble_fer.data.readers import BadPicture, picture_limits, read_whole
from ensemble_fer.errors import MissingError, UsageError
from ensemble_fer.export.session import OUTPUT, Graph
from ensemble_fer.store import Artifact
from ensemble_fer.types import CLASSES

MOST_BYTES = 10_000_000
"""Of an upload."""
WAITING = 32
"""Requests that may wait; more are refused at once."""
ENLARGED = 6
KINDS = [".png", ".jpg", ".jpeg", ".webp", ".bmp"]
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
        self.graph, self.threshold = graph, threshold

    def read(self, path: str) -> tuple[Faces, NDArray[np.uint8]]:
        """The faces of an uploaded file, and its pixels.

        Raises
        ------
        BadPicture
            It is larger than 10 MB, or no picture of a known kind.
        """
        size = Path(path).stat().st_size
        if size > MOST_BYTES:
            raise BadPicture(f"the file has {size / 1e6:.0f} MB; at most {MOST_BYTES / 1e6:.0f} are taken")
        with picture_limits():
            whole, picture = read_whole(Path(path))
            return faces_of(whole, picture, path), picture

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
        if not path:
            return None, gr.update(choices=[], value=None, visible=False), {}, [], None, None, ""
        try:
            found, picture = answers.read(path)
        except (BadPicture, OSError) as error:
            raise gr.Error(f"This is no picture that can be read: {error}.", duration=None) from error
        said = answers.say(found)
        choices = [(f"{i + 1}: {face['label']}", i) for i, face in enumerate(said)]
        state = {"faces": [pixels.tolist() for pixels in found.pixels], "said": said}
        bars, votes, note = choose(0, state)
        drawn = np.asarray(annotated(picture, said))
        return drawn, gr.update(choices=choices, value=0, visible=len(said) > 1), bars, votes, state, None, note

    def choose(number: int | None, state: dict | None) -> tuple[dict, list, str]:
        """Another face of the same picture."""
        if not state or number is None:
            return {}, [], ""
        face = state["said"][number]
        note = "" if face["found"] else "No face was found: the middle of the picture is taken for one. "
        note += f"Too unsure to say ({face['label']} is most probable)." if face["abstained"] else ""
        return face["probabilities"], answers.votes(np.array(state["faces"][number], np.uint8)), note

    def explain(number: int | None, state: dict | None) -> Any:
        """What carries the answer."""
        if not state or number is None:
            raise gr.Error("There is no face yet. Upload a picture first.", duration=5)
        return answers.why(np.array(state["faces"][number], np.uint8), state["said"][number]["label"])

    def live(frame: NDArray[np.uint8] | None) -> tuple[Any, dict]:
        """A moment of the camera."""
        if frame is None:
            return None, {}
        found = _of_frame(frame)
        said = answers.say(found)
        return np.asarray(annotated(frame, said, enlarge=False)), said[0]["probabilities"] if said else {}

    with gr.Blocks(title="ensemble-fer", analytics_enabled=False, delete_cache=(600, 600)) as page:
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
            which.change(choose, [which, state], [bars, votes, note], api_name=False)
            button.click(explain, [which, state], why, api_name=False)
        with gr.Tab("Camera"), gr.Row():
            camera = gr.Image(sources=["webcam"], streaming=True, type="numpy", label="Camera", height=360)
            with gr.Column():
                seen = gr.Image(label="Faces", interactive=False, height=360, buttons=BUTTONS)
                now = gr.Label(label="Probabilities", num_top_classes=len(CLASSES))
            camera.stream(live, camera, [seen, now], stream_every=0.2, concurrency_limit=1, api_name=False)
    page.queue(max_size=WAITING, default_concurrency_limit=2)
    return page


def serve(
    graph: str | Path | Artifact | Graph | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    threshold: float | None = None,
    threads: int | None = None,
    block: bool = True,
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

    Raises
    ------
    UsageError
        The port is taken or out of range.
    MissingError
        gradio is not installed, or there is no such graph.
    """
    if not 1 <= port <= 65535:
        raise UsageError(f"port {port}: expected 1 to 65535.")
    page = build_page(graph, threshold=threshold, threads=threads)
    gr = _gradio()
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # none from elsewhere
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            max_file_size=MOST_BYTES,
            share=False,
            quiet=True,
            inbrowser=False,
            prevent_thread_lock=True,
            theme=theme,
            footer_links=[],
        )
    except OSError as error:
        raise UsageError(f"port {port} of {host} cannot be served: {error}. Take another one: --port") from error
    if block:
        page.block_thread()
    return address


def _of_frame(frame: NDArray[np.uint8]) -> Faces:
    """The faces of a camera's frame; none where none is found."""
    from ensemble_fer.detector.finding import cut_out, find, framed, settings_for

    height, width = frame.shape[:2]
    found = find(frame, settings_for(height, width))
    boxes = np.clip(np.rint(found.boxes), 0, [width, height, width, height]).astype(int)
    return Faces("", cut_out(frame, framed(found.boxes)), [tuple(box) for box in boxes.tolist()], True)


def _unread(payload: Any) -> str | None:
    """The uploaded file as it is, for our reader: gradio would open and convert it first, a bad or a huge one too.

    (Set on the one field; of a class of its own gradio would write a stub file into the package.)
    """
    return payload.path if payload else None


def _gradio() -> Any:
    # Both are read when gradio is imported.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import gradio
    except ImportError as error:
        raise MissingError(
            "the page is served by gradio, which is not installed. Get it:  pip install 'ensemble-fer[app]'"
        ) from error
    return gradio
