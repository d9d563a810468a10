"""Several members as one ONNX graph: bytes of faces in, probabilities of the ensemble and of each member out."""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ensemble_fer import __version__
from ensemble_fer.ensemble import Combination, plain
from ensemble_fer.errors import EnsembleFerError, UsageError
from ensemble_fer.export.fused import Fused
from ensemble_fer.export.session import GRAY, INPUT, OUTPUT
from ensemble_fer.files import write_atomic
from ensemble_fer.types import CLASSES, N_CLASSES

OPSET = 20
"""Of 2023: old enough for every onnxruntime that has wheels for Python 3.11, new enough for all we need."""
LARGEST = 2_000_000_000
"""Bytes of weights in one file: protobuf ends at 2^31, and a second data file is what we do not want."""


def output_names(names: Iterable[str]) -> dict[str, str]:
    """The output of each member: ``probabilities_<name>``, of letters, digits and _ only, all different."""
    chosen: dict[str, str] = {}
    for name in names:
        base = f"{OUTPUT}_{re.sub(r'[^A-Za-z0-9_]', '_', name)}"
        output, count = base, 1
        while output in chosen.values():
            count += 1
            output = f"{base}_{count}"
        chosen[name] = output
    return chosen


def export_onnx(
    members: Mapping[str, nn.Module],
    path: str | Path,
    metadata: Mapping[str, Any],
    *,
    combination: Combination | None = None,
    tta: str = "none",
    shape: tuple[int, ...] = GRAY,
) -> None:
    """Write one ONNX file that holds every member, preprocessing, test-time augmentation and fusion.

    Input ``faces`` uint8 [n, 48, 48] with any n, or [n, 96, 96, 3] of aligned faces; outputs ``probabilities`` [n, 7]
    of the ensemble and ``probabilities_<name>`` [n, 7] of each member, after its temperature.

    Parameters
    ----------
    members : dict of nn.Module
        Each maps uint8 faces to float32 logits [n, 7], its preprocessing inside. They are set to
        evaluation mode.
    path : path
        Written whole or not at all.
    metadata : dict
        Goes into the file as JSON, text as it is. A list ``members`` of dicts with ``name`` is completed with
        the name of each one's output. ``labels``, ``input``, ``combination``, ``tta`` and ``ensemble_fer`` are written
        by this function.
    combination : Combination, optional
        The rule with its numbers; the mean of probabilities by default.
    tta : str
        As ``predict_rows`` has it: all crops of a face go through every member, inside the graph.
    shape : tuple of int
        Of one face.

    Raises
    ------
    UsageError
        No members, or weights too large for one file.
    EnsembleFerError
        A member cannot be traced with a free batch size.
    """
    if not members:
        raise UsageError("a graph needs at least one member.")
    by = combination or plain("mean", len(members))
    fused = Fused(members.values(), by, tta).eval()
    size = sum(t.numel() * t.element_size() for t in [*fused.parameters(), *fused.buffers()])
    if size > LARGEST:
        raise UsageError(
            f"the weights of {', '.join(members)} take {size / 1e9:.1f} GB; one ONNX file holds at most "
            f"{LARGEST / 1e9:.0f} GB. Fuse fewer or smaller members."
        )
    outputs = output_names(members)
    proto = _traced(fused, [OUTPUT, *outputs.values()], shape)
    forget_the_machine(proto)
    about = dict(metadata)
    described = {entry["name"]: entry for entry in about.get("members", [])}
    about["members"] = [{**described.get(n, {}), "name": n, "output": o} for n, o in outputs.items()]
    about["labels"] = list(CLASSES)
    levels = "grey levels" if len(shape) == 2 else "red, green and blue of aligned faces,"
    about["input"] = f"{INPUT}: uint8 [n, {', '.join(map(str, shape))}], {levels} 0 to 255; preprocessing is inside"
    about["combination"] = by.to_dict()
    about["tta"] = tta
    about["ensemble_fer"] = __version__
    _write(proto, Path(path), about)


def _traced(fused: Fused, outputs: list[str], shape: tuple[int, ...]) -> Any:
    """The fused members as an ONNX ModelProto, batch size free."""
    # Two faces: with one, the exporter would take the batch size for a constant.
    example = torch.zeros((2, *shape), dtype=torch.uint8, device=next(fused.parameters()).device)
    try:
        with torch.no_grad(), silence():
            program = torch.onnx.export(
                fused,
                (example,),
                dynamo=True,
                dynamic_shapes={"faces": {0: "n"}},
                input_names=[INPUT],
                output_names=outputs,
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason: BaseException = error
        while reason.__cause__ is not None:  # the outer errors are advice to torch's own developers
            reason = reason.__cause__
        raise EnsembleFerError(
            f"a member cannot be exported to ONNX: {type(reason).__name__}: {str(reason).partition(chr(10))[0]}\n"
            "Expected modules without branches on values or on the batch size."
        ) from error
    assert program is not None
    proto = program.model_proto
    shapes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in proto.graph.output}
    wrong = {name: shape for name, shape in shapes.items() if len(shape) != 2 or shape[1] != N_CLASSES}
    fixed = [name for name, shape in shapes.items() if isinstance(shape[0], int)]
    if wrong or fixed:
        raise EnsembleFerError(f"expected outputs [n, {N_CLASSES}] with any n from every member; found {shapes}.")
    return proto


def forget_the_machine(proto: Any) -> None:
    """Take out what the exporter notes of source files and their folders on the exporting machine."""
    graph = proto.graph
    for part in [graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    proto.ClearField("metadata_props")


def _write(proto: Any, path: Path, about: dict) -> None:
    import onnx

    onnx.helper.set_model_props(
        proto, {k: v if isinstance(v, str) else json.dumps(v, sort_keys=True) for k, v in about.items()}
    )
    onnx.checker.check_model(proto, full_check=True)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in proto.graph.initializer):
        raise EnsembleFerError("the exporter put weights outside of the graph; expected one file.")
    write_atomic(path, proto.SerializeToString(deterministic=True))


@contextmanager
def silence() -> Iterator[None]:
    """Keep the exporter's notes to its developers off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
