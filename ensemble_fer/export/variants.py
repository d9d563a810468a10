"""The same graph made simpler or in whole numbers: onnxsim, and static quantization by onnxruntime."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.errors import EnsembleFerError
from ensemble_fer.export.graph import silence
from ensemble_fer.export.session import INPUT
from ensemble_fer.files import write_atomic

BITS = 7
"""Of weights. With eight, processors without VNNI add two products of a grey level and a weight beyond 16 bits and cut
them off: 2 x 255 x 127 = 64,770 is above 32,767, and 2 x 255 x 63 = 32,130 is not."""
QUANTIZED = (
    *("Conv", "Gemm", "MatMul", "Add", "Mul", "Relu", "Clip"),
    *("MaxPool", "AveragePool", "Concat"),
)
"""Operations that compute in whole numbers; preprocessing and what joins the members stay in float32."""
_AFTER = ("Softmax", "Div", "Log", "Clip", "Max", "ReduceMean", "Reshape", "Identity")
CALIBRATION_BATCH = 16


def simplify(source: Path, out: Path) -> None:
    """Write a graph with constants folded and operations fused, by onnxsim. Its own check is not asked for: parity is
    measured on faces.

    Raises
    ------
    EnsembleFerError
        onnxsim fails at this graph.
    """
    import onnx
    import onnxsim

    try:
        proto, _ = onnxsim.simplify(onnx.load(source))
    except Exception as error:  # onnxsim raises whatever its C++ parts raise
        raise EnsembleFerError(f"onnxsim cannot simplify this graph: {type(error).__name__}: {error}") from error
    _write(proto, out, onnx.load(source, load_external_data=False).metadata_props, {"variant": "simplified"})


def quantize(source: Path, out: Path, faces: NDArray[np.uint8]) -> None:
    """Write the graph in whole numbers: static, per channel, weights of 7 bits, activations of 8.

    Convolutions, products of matrices and what stands between them compute in int8 (QDQ format); each tensor's range is
    what it was on the given faces (min and max). Batch norms are folded into convolutions first.

    Parameters
    ----------
    source, out : Path
    faces : uint8 [n, *shape]
        Of the training part: they set the ranges.

    Raises
    ------
    EnsembleFerError
        onnxruntime cannot quantize this graph.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Faces(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(range(0, len(faces), CALIBRATION_BATCH))

        def get_next(self) -> dict[str, NDArray[np.uint8]]:  # pyright: ignore[reportIncompatibleMethodOverride]
            start = next(self.batches, None)
            return {} if start is None else {INPUT: faces[start : start + CALIBRATION_BATCH]}

    with tempfile.TemporaryDirectory(prefix="ensemble-fer-") as folder, silence():
        prepared, made = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        try:
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            inside = member_nodes(onnx.load(prepared))
            quantization.quantize_static(
                prepared,
                made,
                Faces(),
                op_types_to_quantize=list(QUANTIZED),
                nodes_to_quantize=inside,
                per_channel=True,
                reduce_range=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
        except Exception as error:  # the quantizer raises whatever it meets
            raise EnsembleFerError(f"this graph cannot be quantized: {type(error).__name__}: {error}") from error
        about = {"variant": "int8", "calibration": f"{len(faces)} faces of the training part", "weight_bits": str(BITS)}
        _write(onnx.load(made), out, onnx.load(source).metadata_props, about)


def member_nodes(proto: Any) -> list[str]:
    """Names of the nodes that compute the members' logits; those after them are not among them.

    A member's output is a softmax of its logits, perhaps with a mean over crops and a temperature between.
    """
    makers = {name: node for node in proto.graph.node for name in node.output}
    waiting = []
    for output in proto.graph.output[1:]:
        node = makers[output.name]
        while node.op_type in _AFTER:
            node = makers[node.input[0]]
        waiting.append(node)
    found: dict[str, None] = {}
    while waiting:
        node = waiting.pop()
        if node.name not in found:
            found[node.name] = None
            waiting += [makers[name] for name in node.input if name in makers]
    return list(found)


def _write(proto: Any, out: Path, properties: Any, more: dict[str, str]) -> None:
    import onnx

    about = {each.key: each.value for each in properties} | more
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, about)
    proto.graph.ClearField("doc_string")
    onnx.checker.check_model(proto, full_check=True)
    write_atomic(out, proto.SerializeToString(deterministic=True))
