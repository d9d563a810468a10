"""A fused graph opened in onnxruntime: bytes of faces in, probabilities out. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import EnsembleFerError, MissingError, UsageError
from ensemble_fer.runtime import cpu_count

INPUT, OUTPUT = "faces", "probabilities"
SIDE = 48
GRAY = (SIDE, SIDE)
"""Shape of a face as FER2013 has it. Graphs of members that were trained on aligned faces take [96, 96, 3]."""
SHAPES = (GRAY, (96, 96, 3))
METADATA = {"labels": "[]", "members": "[]", "stamp": "{}", "combination": "{}"}
"""What is read of a file's metadata, as JSON, and what stands for what is not there."""
_ADVICE = "Expected a file that  ensemble-fer fuse  wrote."
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
        EnsembleFerError
            The graph fails, or answers with something else.
        """
        if faces.dtype != np.uint8 or faces.shape[1:] != self.shape:
            raise UsageError(
                f"the graph takes faces uint8 [n, {', '.join(map(str, self.shape))}]; found {faces.dtype} "
                f"{list(faces.shape)}. "
                "Grey levels stay bytes 0 to 255: preprocessing is inside the graph."
            )
        names = [output.name for output in self.session.get_outputs()]
        parts = []
        for start in range(0, len(faces), batch):
            some = faces[start : start + batch]
            try:
                answers = self.session.run(names, {INPUT: some})
            except Exception as error:  # onnxruntime has no common base for its errors
                raise EnsembleFerError(f"{self.path} could not be computed: {error}") from error
            if any(np.shape(answer) != (len(some), len(self.labels)) for answer in answers):
                raise EnsembleFerError(f"{self.path} does not give {len(self.labels)} numbers for each face.")
            parts.append(answers)
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
        The file is no ONNX graph, not one of ours, or has weights in other files.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"there is no graph {path}. Make one:  ensemble-fer fuse RUN RUN RUN")
    content = path.read_bytes()
    if b"location" in content and weights_outside(content):
        raise UsageError(f"{path} has weights in other files, which are not read. {_ADVICE}")
    import onnxruntime

    threads = threads or cpu_count()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: what onnxruntime thinks of a machine is no message to our users
    try:
        # What was looked at, and not what lies there by now.
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common base for its errors
        raise UsageError(f"{path} cannot be opened as an ONNX graph ({error}). {_ADVICE}") from error
    metadata = session.get_modelmeta().custom_metadata_map
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if INPUT not in [g.name for g in inputs] or OUTPUT not in [g.name for g in outputs] or "labels" not in metadata:
        raise UsageError(
            f"{path} is an ONNX graph, but not an ensemble: it lacks {INPUT!r}, {OUTPUT!r} or labels. {_ADVICE}"
        )
    told: dict[str, Any] = {}
    try:
        told |= {key: json.loads(metadata.get(key, empty)) for key, empty in METADATA.items()}
        problem = _problem_of(told, list(inputs), list(outputs))
    except (ValueError, RecursionError) as error:
        problem = f"its metadata cannot be read ({error})"
    if problem:
        raise UsageError(f"{path} is an ONNX graph, but not an ensemble of ours: {problem}. {_ADVICE}")
    return Graph(
        path=path,
        labels=tuple(told["labels"]),
        members=told["members"],
        stamp=told["stamp"],
        threads=threads,
        combination=told["combination"],
        session=session,
    )


def weights_outside(content: bytes) -> bool:
    """Whether a graph, as it lies in a file, takes weights from other files; wherever in it they are named."""
    import onnx

    try:
        model = onnx.ModelProto.FromString(content)
    except Exception:  # of protobuf, which onnx brings; onnxruntime will not open it either
        return False
    parts: list[Any] = [model]
    while parts:
        part = parts.pop()
        if isinstance(part, onnx.TensorProto) and (part.external_data or part.data_location == part.EXTERNAL):
            return True
        for kind, value in part.ListFields():
            if kind.type == kind.TYPE_MESSAGE:
                parts += [value] if hasattr(value, "ListFields") else list(value)
    return False


def _problem_of(told: dict[str, Any], inputs: list[Any], outputs: list[Any]) -> str:
    """What is wrong with a graph's metadata, input or outputs, in words; nothing if it is as ``fuse`` writes it."""
    for key, value in told.items():
        if type(value) is not type(json.loads(METADATA[key])):
            return f"its {key} are no {type(json.loads(METADATA[key])).__name__}"
    labels, by = told["labels"], told["combination"]
    if not labels or not all(isinstance(label, str) and label.isprintable() for label in labels):
        return "its labels are no names"
    if not all(isinstance(member, dict) for member in told["members"]):
        return "its members are no tables"
    numbers = [by.get("temperature", 1), *(found if isinstance(found := by.get("temperatures", []), list) else [None])]
    if not all(isinstance(each, int | float) for each in numbers):
        return "its temperatures are no numbers"
    if len(inputs) != 1 or inputs[0].type != "tensor(uint8)" or list(inputs[0].shape[1:]) not in map(list, SHAPES):
        return f"it takes {', '.join(f'{each.name} {each.type} {each.shape}' for each in inputs)}"
    wrong = [o for o in outputs if o.type != "tensor(float)" or len(o.shape) != 2 or o.shape[1] != len(labels)]
    if wrong:
        return f"{wrong[0].name} is {wrong[0].type} {wrong[0].shape}, for {len(labels)} labels"
    return ""
