"""Export of one member and what onnxruntime makes of it."""

from __future__ import annotations

from pathlib import Path

from ensemble_fer.export.graph import export_onnx
from ensemble_fer.export.parity import TOLERANCE, measure, require_parity, torch_probabilities
from ensemble_fer.export.session import open_graph
from tests.contracts.members import drawn, full, make_telling, small

AT_224 = ("resnet50v2", "vit_base_patch16_224")


def exports_with_parity(name: str, folder: Path, count: int = 8) -> None:
    """The graph gives torch's numbers for faces that it tells apart, at batch 1 and 7 as in a larger one."""
    faces = drawn()[0][:count]
    # The two that take 224 pixels: the graph has the same operations at 64, and 4 to 12 times less to compute.
    member = make_telling(small(name, 64) if name in AT_224 else full(name), faces)
    path = folder / "graph.onnx"
    export_onnx({name: member}, path, {})
    expected = torch_probabilities({name: member}, faces.numpy())
    answers = expected["probabilities"]
    assert answers.std(0).min() > 500 * TOLERANCE
    assert len(set(answers.argmax(1))) > 1
    found = require_parity(measure(open_graph(path, threads=1), expected, faces.numpy()))
    assert found["rows_checked"] == count
    assert set(found["batches"]) == {"1", "7", "64"}
