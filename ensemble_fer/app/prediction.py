"""Which expression do these pictures show? One graph, onnxruntime, no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ensemble_fer.app.pictures import read_faces
from ensemble_fer.errors import UsageError
from ensemble_fer.export.session import GRAY, OUTPUT, Graph, open_graph
from ensemble_fer.store import Artifact

GRAPH = "ensemble.onnx"


def predict(
    paths: Iterable[str | Path] | str | Path, *, graph: str | Path | Artifact | Graph, threads: int | None = None
) -> list[dict]:
    """What the ensemble says of each picture, in the order given. All pictures or none.

    Parameters
    ----------
    paths : files
        Of any size and mode. For now the middle square of each is taken for the face.
    graph : path, ensemble artifact, or opened Graph
        An ONNX file that ``fuse`` wrote.
    threads : int, optional
        Threads inside one operation; all processors of this process by default.

    Returns
    -------
    list of dict
        ``{"path", "faces": [{"box": [x0, y0, x1, y1], "found", "label", "probabilities": {class: p},
        "abstained"}]}``. The box is in pixels of the picture as a viewer shows it. ``found`` is False: no
        detector looked. ``label`` is always the most probable class (the first of equals). ``abstained`` is
        False: the probabilities are not calibrated, and no threshold is set on them.

    Raises
    ------
    UsageError
        No path, a folder, or a graph that is not one.
    MissingError
        Pictures that are not there, all of them named; or there is no such graph.
    BadData
        Files that are no pictures, all of them listed.
    """
    files = [paths] if isinstance(paths, str | Path) else list(paths)
    if not files:
        raise UsageError("no picture to predict. Name one or more files:  ensemble-fer predict face.jpg")
    found = read_faces(files)
    if isinstance(graph, Artifact):
        graph = graph.file(GRAPH)
    opened = graph if isinstance(graph, Graph) else open_graph(graph, threads)
    if opened.shape != GRAY:
        raise UsageError(
            f"{opened.path} takes aligned faces {list(opened.shape)}, and pictures are not aligned here. Predict with "
            "an ensemble of gray faces: fuse runs of a set that was not aligned."
        )
    probabilities = opened.run(np.stack([face.pixels for face in found]))[OUTPUT].astype(np.float64)
    return [
        {"path": str(path), "faces": [_described(face.box, row, opened.labels)]}
        for path, face, row in zip(files, found, probabilities, strict=True)
    ]


def _described(box: tuple[int, ...], probabilities: np.ndarray, labels: tuple[str, ...]) -> dict:
    return {
        "box": list(box),
        "found": False,
        "label": labels[int(probabilities.argmax())],
        "probabilities": dict(zip(labels, probabilities.tolist(), strict=True)),
        "abstained": False,
    }
