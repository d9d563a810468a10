"""Which expression do the faces in these pictures show? One graph, onnxruntime, no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ensemble_fer.app.pictures import Faces, pictures_in, read_faces
from ensemble_fer.errors import UsageError
from ensemble_fer.export.session import GRAY, OUTPUT, Graph, open_graph
from ensemble_fer.export.shipped import shipped_graph
from ensemble_fer.runtime import progress
from ensemble_fer.store import Artifact

GRAPH = "ensemble.onnx"
THRESHOLD = 0.5
"""Of calibrated probabilities: below it, the label is more often wrong than right."""


def predict(
    paths: Iterable[str | Path] | str | Path,
    *,
    graph: str | Path | Artifact | Graph | None = None,
    threshold: float | None = None,
    threads: int | None = None,
    quiet: bool = True,
) -> list[dict]:
    """What the ensemble says of the faces in each picture, in the order given. All pictures or none, but for a folder.

    Parameters
    ----------
    paths : files, or one folder
        Pictures of any size and mode. MTCNN finds the faces; a picture of at most 64 pixels, or one without a face that
        is found, is used whole (its middle square). Of a folder all pictures in it and below, by name; a bad one among
        them is said to be so in its place.
    graph : path, ensemble artifact, or opened Graph, optional
        An ONNX file that ``fuse`` or ``export`` wrote. By default the ensemble that the package carries, which was
        trained on FER2013: its card is ``artifacts/released/README.md``.
    threshold : float, optional
        From 0 to 1: a face whose most probable class is less probable is ``abstained`` from. By default 0.5 where
        temperatures were fitted, and none elsewhere, since uncalibrated probabilities do not say how often they are
        right.
    threads : int, optional
        Threads inside one operation; all processors of this process by default.
    quiet : bool
        Draw no progress.

    Returns
    -------
    list of dict
        ``{"path", "faces": [{"box": [x0, y0, x1, y1], "found", "label", "probabilities": {class: p},
        "abstained"}]}``, the largest face first; with ``problem`` for a bad picture of a folder. The box is in pixels
        of the picture as a viewer shows it. ``label`` is always the most probable class (the first of equals).

    Raises
    ------
    UsageError
        No path, a folder beside other paths or without pictures, a threshold out of range, or a graph that is none or
        takes aligned faces.
    MissingError
        Pictures that are not there, all of them named; or there is no such graph.
    BadData
        Files that are no pictures, all of them listed.
    """
    files = [paths] if isinstance(paths, str | Path) else list(paths)
    if not files or any(not str(each).strip() for each in files):
        raise UsageError("no picture to predict. Name one or more files:  ensemble-fer predict face.jpg")
    check_threshold(threshold)
    folder = len(files) == 1 and Path(files[0]).is_dir()
    if folder:
        files = list(pictures_in(Path(files[0])))
    opened = opened_graph(graph, threads)
    with progress(len(files), "predict", quiet=quiet) as advance:
        found = read_faces(files, threads, skip=folder, advance=advance)
    return said_of(found, opened, threshold)


def check_threshold(threshold: float | None) -> None:
    """Raise ``UsageError`` for what is no probability; None is none."""
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"threshold {threshold}: expected a probability, 0 to 1.")


def opened_graph(graph: str | Path | Artifact | Graph | None, threads: int | None = None) -> Graph:
    """A graph that takes gray faces, opened; the shipped one if none is given.

    Raises
    ------
    MissingError
        There is no such file.
    UsageError
        It is no graph of ours, or takes aligned faces.
    """
    if graph is None:
        graph = shipped_graph()
    if isinstance(graph, Artifact):
        graph = graph.file(GRAPH)
    opened = graph if isinstance(graph, Graph) else open_graph(graph, threads)
    if opened.shape != GRAY:
        raise UsageError(
            f"{opened.path} takes aligned faces {list(opened.shape)}, and pictures are not aligned here. Predict with "
            "an ensemble of gray faces: fuse runs of a set that was not aligned."
        )
    return opened


def said_of(found: Sequence[Faces], graph: Graph, threshold: float | None = None) -> list[dict]:
    """What a graph says of faces that were found, as ``predict`` gives it."""
    limit = threshold if threshold is not None else THRESHOLD if graph.calibrated else 0.0
    shown = [each.pixels for each in found]
    probabilities = graph.run(np.concatenate(shown))[OUTPUT].astype(np.float64)
    parts = np.split(probabilities, np.cumsum([len(pixels) for pixels in shown])[:-1])
    return [
        {
            "path": each.path,
            "faces": [
                _described(box, each.found, row, graph.labels, limit) for box, row in zip(each.boxes, rows, strict=True)
            ],
            **({"problem": each.problem} if each.problem else {}),
        }
        for each, rows in zip(found, parts, strict=True)
    ]


def _described(
    box: tuple[int, ...], found: bool, probabilities: np.ndarray, labels: tuple[str, ...], limit: float
) -> dict:
    return {
        "box": list(box),
        "found": found,
        "label": labels[int(probabilities.argmax())],
        "probabilities": dict(zip(labels, probabilities.tolist(), strict=True)),
        "abstained": bool(probabilities.max() < limit),
    }
