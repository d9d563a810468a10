"""A fused graph opened in onnxruntime: bytes of faces in, probabilities out. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import MissingError, UsageError
from ensemble_fer.runtime import cpu_count

INPUT, OUTPUT = "faces", "probabilities"
SIDE = 48
GRAY = (SIDE, SIDE)
"""Shape of a face as FER2013 has it. Graphs of members that were trained on aligned faces take [96, 96, 3]."""
METADATA = {"labels": "[]", "members": "[]", "stamp": "{}", "combination": "{}"}
"""What is read of a file's metadata, as JSON, and what stands for what is not there."""
BATCH = 64
"""Faces given to the graph at once; more gains nothing on a CPU and costs memory."""


@dataclass(frozen=True)
class Graph:
    """An opened graph with what its metadata says.

    Parameters
    ----------
    labels : tuple of str
        Class names in the order of the outputs' columns.
    members : list of dict
        For each member its ``name``, ``output`` and whatever else was written (run, sha256, recipe).
    stamp : dict
        Protocol of the ensemble's select scores; empty if none was written.
    threads : int
        Threads inside one operation.
    combination : dict
        The rule with its numbers, as ``Combination.to_dict`` has them; empty if none were written.
    """

    path: Path
    labels: tuple[str, ...]
    members: list[dict]
    stamp: dict
    threads: int
    combination: dict
    session: Any = field(repr=False)

    @property
    def calibrated(self) -> bool:
        """Whether a temperature was fitted, so that probabilities mean what they say."""
        by = self.combination
        return by.get("temperature", 1) != 1 or any(each != 1 for each in by.get("temperatures", ()))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one face: (48, 48), or (96, 96, 3) for a graph of aligned faces."""
        (given,) = (given for given in self.session.get_inputs() if given.name == INPUT)
        return tuple(given.shape[1:])

    def run(self, faces: NDArray[np.uint8], batch: int = BATCH) -> dict[str, NDArray[np.float32]]:
        """Every output for faces uint8 [n, *shape]: float32 [n, 7] by output name.

        Raises
        ------
        UsageError
            The faces have another shape or type.
        """
        if faces.dtype != np.uint8 or faces.shape[1:] != self.shape:
            raise UsageError(
                f"the graph takes faces uint8 [n, {', '.join(map(str, self.shape))}]; found {faces.dtype} "
                f"{list(faces.shape)}. "
                "Grey levels stay bytes 0 to 255: preprocessing is inside the graph."
            )
        names = [output.name for output in self.session.get_outputs()]
        parts = [self.session.run(names, {INPUT: faces[i : i + batch]}) for i in range(0, len(faces), batch)]
        if not parts:
            return {name: np.empty((0, len(self.labels)), np.float32) for name in names}
        return {name: np.concatenate(column) for name, column in zip(names, zip(*parts, strict=True), strict=True)}


def open_graph(path: str | Path, threads: int | None = None) -> Graph:
    """Open a graph that ``fuse`` wrote.

    Parameters
    ----------
    threads : int, optional
        Threads inside one operation; all processors of this process by default.

    Raises
    ------
    MissingError
        There is no such file.
    UsageError
        The file is no ONNX graph, or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"there is no graph {path}. Make one:  ensemble-fer fuse RUN RUN RUN")
    import onnxruntime

    threads = threads or cpu_count()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: what onnxruntime thinks of a machine is no message to our users
    advice = "Expected a file that  ensemble-fer fuse  wrote."
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common base for its errors
        raise UsageError(f"{path} cannot be opened as an ONNX graph ({error}). {advice}") from error
    metadata = session.get_modelmeta().custom_metadata_map
    outputs = [output.name for output in session.get_outputs()]
    if INPUT not in [given.name for given in session.get_inputs()] or OUTPUT not in outputs or "labels" not in metadata:
        raise UsageError(
            f"{path} is an ONNX graph, but not an ensemble: it lacks {INPUT!r}, {OUTPUT!r} or labels. {advice}"
        )
    try:
        told = {key: json.loads(metadata.get(key, empty)) for key, empty in METADATA.items()}
        if any(type(value) is not type(json.loads(METADATA[key])) for key, value in told.items()):
            raise ValueError("a value of another kind")
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is an ONNX graph whose metadata cannot be read ({error}). {advice}") from error
    return Graph(
        path=path,
        labels=tuple(told["labels"]),
        members=told["members"],
        stamp=told["stamp"],
        threads=threads,
        combination=told["combination"],
        session=session,
    )
