"""ONNX files of anybody are opened as graphs of ours, or refused with a reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ensemble_fer.errors import EnsembleFerError, UsageError
from ensemble_fer.export.session import METADATA, open_graph, weights_outside
from tests.trust.campaign import answered, cases, mutated, whole, within_memory


def small_graph(more: dict[str, str] | None = None) -> onnx.ModelProto:
    """A graph that says it is an ensemble."""
    weight = numpy_helper.from_array(np.ones((2304, 7), np.float32) / 2304, "w")
    shape = numpy_helper.from_array(np.array([-1, 2304], np.int64), "s")
    nodes = [
        helper.make_node("Cast", ["faces"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["f", "s"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("faces", TensorProto.UINT8, ["n", 48, 48])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 7])],
        [weight, shape],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    told = {**METADATA, "labels": json.dumps(["a"] * 7), **(more or {})}
    helper.set_model_props(model, told)
    return model


def test_graphs_are_opened_or_refused(tmp_path: Path) -> None:
    """300: damaged, with metadata that is something else, and with weights in files outside."""
    secret = tmp_path / "secret"
    secret.write_bytes(np.full((2304, 7), 42, np.float32).tobytes())
    inside = tmp_path / "graphs"
    (inside / "sub").mkdir(parents=True)
    for beside in ("weights.bin", "sub/weights.bin"):
        (inside / beside).write_bytes(secret.read_bytes())
    path = inside / "g.onnx"
    opened = 0
    with within_memory():
        for number, rng in cases("graphs", 300, quick=60):
            model = small_graph()
            match int(rng.integers(4)):
                case 0:
                    tensor = model.graph.initializer[0]
                    tensor.ClearField("raw_data")
                    tensor.data_location = TensorProto.EXTERNAL
                    place = rng.choice(
                        ["../secret", str(secret), "/etc/passwd", "nothing", "weights.bin", "sub/weights.bin"]
                    )
                    for key, value in (("location", str(place)), ("offset", "0"), ("length", "64512")):
                        tensor.external_data.add(key=key, value=value)
                    path.write_bytes(model.SerializeToString())
                    assert answered(lambda: open_graph(path)) is None, (number, place)
                    continue
                case 1:
                    key = str(rng.choice(list(METADATA)))
                    value = str(
                        rng.choice(["", "{", "[1", "null", "3", '"x"', "[[]]", "{}", "1" * 5000, "[" * 100_000])
                    )
                    path.write_bytes(small_graph({key: value}).SerializeToString())
                case 2:
                    path.write_bytes(mutated(model.SerializeToString(), rng))
                case _:
                    path.write_bytes(model.SerializeToString())
            graph = answered(lambda: open_graph(path))
            if graph is not None:
                opened += 1
                answered(lambda graph=graph: graph.run(np.zeros((2, 48, 48), np.uint8)))
    assert opened or not whole("graphs")


def test_weights_outside_are_found_wherever_they_are_named(tmp_path: Path) -> None:
    """In a constant of a node, and in a branch of one."""
    (tmp_path / "weights.bin").write_bytes(np.full((2304, 7), 42, np.float32).tobytes())
    whole = small_graph()
    for deep in (False, True):
        model = small_graph()
        weight = model.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="weights.bin")
        node = helper.make_node("Constant", [], ["w"], value=weight)
        if deep:
            branch = helper.make_graph(
                [node], "b", [], [helper.make_tensor_value_info("w", TensorProto.FLOAT, [2304, 7])]
            )
            condition = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))
            model.graph.node.insert(0, helper.make_node("If", ["c"], ["w"], then_branch=branch, else_branch=branch))
            model.graph.node.insert(0, condition)
        else:
            model.graph.node.insert(0, node)
        del model.graph.initializer[0]
        assert weights_outside(model.SerializeToString())
        (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(UsageError, match="weights in other files"):
            open_graph(tmp_path / "g.onnx")
    assert not weights_outside(whole.SerializeToString())
    assert not weights_outside(b"no graph, location")


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"labels": "[]"}, "labels are no names"),
        ({"labels": json.dumps([{}] * 7)}, "labels are no names"),
        ({"labels": json.dumps(["a"] * 3)}, r"probabilities is tensor\(float\) .*, for 3 labels"),
        ({"labels": json.dumps(["\x1b[2J"] * 7)}, "labels are no names"),
        ({"members": "[1]"}, "members are no tables"),
        ({"combination": '{"temperatures": 5}'}, "temperatures are no numbers"),
        ({"combination": '{"temperature": "x"}'}, "temperatures are no numbers"),
        ({"stamp": "[]"}, "stamp are no dict"),
    ],
)
def test_graphs_that_are_not_as_ours_are_refused_when_they_are_opened(
    tmp_path: Path, told: dict[str, str], reason: str
) -> None:
    (tmp_path / "g.onnx").write_bytes(small_graph(told).SerializeToString())
    with pytest.raises(UsageError, match=reason):
        open_graph(tmp_path / "g.onnx")


def test_a_graph_of_other_numbers_or_that_fails_says_so(tmp_path: Path) -> None:
    path = tmp_path / "g.onnx"
    model = small_graph()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    path.write_bytes(model.SerializeToString())
    assert answered(lambda: open_graph(path)) is None
    model = small_graph()
    path.write_bytes(model.SerializeToString())
    graph = open_graph(path)
    assert graph.run(np.zeros((2, 48, 48), np.uint8))["probabilities"].shape == (2, 7)

    class Fails:
        def __getattr__(self, name: str) -> object:
            return getattr(graph.session, name)

        def run(self, *given: object) -> list:
            raise RuntimeError("Non-zero status code returned while running Reshape node.")

    with pytest.raises(EnsembleFerError, match="could not be computed: Non-zero status"):
        replace(graph, session=Fails()).run(np.zeros((2, 48, 48), np.uint8))
