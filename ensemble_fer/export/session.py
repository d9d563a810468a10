"""A fused graph opened in onnxruntime: bytes of faces in, probabilities out. No torch."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import EnsembleFerError, MissingError, UsageError, brief
from ensemble_fer.export.outline import is_mostly_weights
from ensemble_fer.files import UnfitFile, opened_file
from ensemble_fer.runtime import check_threads, cpu_count
from ensemble_fer.types import CLASSES

INPUT, OUTPUT = "faces", "probabilities"
SIDE = 48
GRAY = (SIDE, SIDE)
"""Shape of a face as FER2013 has it. Graphs of members that were trained on aligned faces take [96, 96, 3]."""
SHAPES = (GRAY, (96, 96, 3))
METADATA = {"labels": "[]", "members": "[]", "stamp": "{}", "combination": "{}"}
"""What is read of a file's metadata, as JSON, and what stands for what is not there."""
_TEXTS = ("name", "output")
"""What is read of each member."""
_ADVICE = "Expected a file that  ensemble-fer fuse  wrote."
MOST_BYTES = 2**31 - 1
"""Of a file; protobuf ends there."""
MOST_BESIDE = 50_000_000
"""Bytes of a graph that are no weights, such as nodes and what its metadata say; ours have at most 2,000,000."""
BATCH = 64
"""Faces given to the graph at once; more gains nothing on a CPU and costs memory."""


@dataclass(frozen=True)
class Graph:
    """An opened graph with what its metadata says.

    Parameters
    ----------
    labels : tuple of str
        Names of the outputs' columns: the seven classes, in the order that all of this program has.
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
            for name, answer in zip(names, answers, strict=True):
                # The largest of such numbers would be a label all the same, and no threshold would hold it back.
                if wrong := int(np.count_nonzero(~np.isfinite(answer).all(axis=1))):
                    raise EnsembleFerError(
                        f"{self.path}: {name} of {wrong} of {len(some)} faces holds numbers that are not finite; "
                        "expected probabilities. Its weights are damaged, or its training went astray: export it "
                        "again from a run that came to its end, or give another graph."
                    )
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
        The file is no ONNX graph, not one of ours, or has weights in other files; or more threads than make sense.
    """
    check_threads(threads)
    path = Path(path)
    if not path.exists() or path.is_dir():
        raise MissingError(f"there is no graph {path}. Make one:  ensemble-fer fuse RUN RUN RUN")
    content = _content_of(path)
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
    try:
        metadata = session.get_modelmeta().custom_metadata_map
        inputs, outputs = list(session.get_inputs()), list(session.get_outputs())
        given, answered = [each.name for each in inputs], [each.name for each in outputs]
    except UnicodeDecodeError as error:  # onnxruntime hands text on as it lies in the file
        raise UsageError(f"{path} is an ONNX graph whose texts are not UTF-8 ({error}). {_ADVICE}") from error
    if INPUT not in given or OUTPUT not in answered or "labels" not in metadata:
        raise UsageError(
            f"{path} is an ONNX graph, but not an ensemble: it lacks {INPUT!r}, {OUTPUT!r} or labels. {_ADVICE}"
        )
    told: dict[str, Any] = {}
    try:
        told |= {key: json.loads(metadata.get(key, empty)) for key, empty in METADATA.items()}
        problem = _problem_of(told, inputs, outputs)
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


def _content_of(path: Path) -> bytes:
    """Of a file that may be a graph; what cannot be one is not read."""
    try:
        with opened_file(path, MOST_BYTES) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MOST_BESIDE and not is_mostly_weights(file, size, MOST_BESIDE):
                raise UsageError(
                    f"{path} cannot be opened as an ONNX graph: of {size:,} bytes more than {MOST_BESIDE:,} are no "
                    f"weights of one. {_ADVICE}"
                )
            file.seek(0)
            return file.read(size)
    except UnfitFile as error:
        raise UsageError(f"{path} cannot be opened as an ONNX graph: {error.strerror}. {_ADVICE}") from error


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
    # In another order, or under other names, every label would be another's.
    if labels != list(CLASSES):
        return f"its labels are {brief(labels)}; expected {json.dumps(CLASSES)}"
    texts = [member.get(key, "") if isinstance(member, dict) else None for member in told["members"] for key in _TEXTS]
    if not all(isinstance(text, str) for text in texts):
        return "its members are no tables with name and output"
    numbers = [by.get("temperature", 1), *(found if isinstance(found := by.get("temperatures", []), list) else [None])]
    for number in numbers:
        if type(number) not in (int, float) or not 0 < number <= sys.float_info.max:
            return f"a temperature of it is {brief(number)}; expected a finite number above 0"
    if len(inputs) != 1 or inputs[0].type != "tensor(uint8)" or list(inputs[0].shape[1:]) not in map(list, SHAPES):
        return f"it takes {', '.join(f'{each.name} {each.type} {each.shape}' for each in inputs)}"
    wrong = [o for o in outputs if o.type != "tensor(float)" or len(o.shape) != 2 or o.shape[1] != len(labels)]
    if wrong:
        return f"{wrong[0].name} is {wrong[0].type} {wrong[0].shape}, for {len(labels)} labels"
    return ""
