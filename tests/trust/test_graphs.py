"""ONNX files of anybody are opened as graphs of ours, or refused with a reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ensemble_fer.app.pictures import Faces
from ensemble_fer.app.prediction import said_of
from ensemble_fer.errors import EnsembleFerError, UsageError
from ensemble_fer.export.session import METADATA, Graph, open_graph, weights_outside
from ensemble_fer.types import CLASSES
from tests.trust.campaign import answered, cases, mutated, whole, within_memory

ODD = (
    '{"temperature": NaN}',
    '{"temperatures": [1, Infinity]}',
    '{"temperature": 0}',
    '[{"output": []}]',
    json.dumps(CLASSES[::-1]),
    json.dumps(["a"] * 7),
)
"""Metadata that can be read, and that no graph of ours has."""


def small_graph(more: dict[str, str] | None = None, weights: float = 1 / 2304) -> onnx.ModelProto:
    """A graph that says it is an ensemble."""
    weight = numpy_helper.from_array(np.full((2304, 7), weights, np.float32), "w")
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
    told = {**METADATA, "labels": json.dumps(CLASSES), **(more or {})}
    helper.set_model_props(model, told)
    return model


def not_text(model: onnx.ModelProto, key: str, where: str = "value") -> bytes:
    """The graph as it lies in a file, with a byte in its metadata that UTF-8 does not know."""
    for prop in model.metadata_props:
        if prop.key == key:
            setattr(prop, where, getattr(prop, where) + "~~~~")
    content = model.SerializeToString()
    assert content.count(b"~~~~") == 1
    return content.replace(b"~~~~", b"~\xff\xfe~")


def predicted(graph: Graph) -> None:
    """One face goes the way that ``predict`` takes, whose answer is one of the seven classes with finite numbers."""
    face = np.random.default_rng(0).integers(0, 256, (1, 48, 48), dtype=np.uint8)
    (said,) = said_of([Faces("face.png", face, [(0, 0, 48, 48)], False)], graph, 0.5)[0]["faces"]
    assert said["label"] in CLASSES
    assert tuple(said["probabilities"]) == CLASSES
    assert np.isfinite(list(said["probabilities"].values())).all()


def test_graphs_are_opened_or_refused(tmp_path: Path) -> None:
    """300: damaged, with metadata or weights that are something else, and with weights in files outside.

    What is opened predicts a face.
    """
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
            match int(rng.integers(6)):
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
                        rng.choice(["", "{", "[1", "null", "3", '"x"', "[[]]", "{}", "1" * 5000, "[" * 100_000, *ODD])
                    )
                    path.write_bytes(small_graph({key: value}).SerializeToString())
                case 2:
                    key, where = str(rng.choice(list(METADATA))), str(rng.choice(["key", "value"]))
                    path.write_bytes(not_text(model, key, where))
                    assert answered(lambda: open_graph(path)) is None, (number, key, where)
                    continue
                case 3:
                    odd = float(rng.choice([np.nan, np.inf, -np.inf, 3e38]))
                    path.write_bytes(small_graph(weights=odd).SerializeToString())
                case 4:
                    path.write_bytes(mutated(model.SerializeToString(), rng))
                case _:
                    path.write_bytes(model.SerializeToString())
            graph = answered(lambda: open_graph(path))
            if graph is not None:
                opened += 1
                answered(lambda graph=graph: predicted(graph))
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
        ({"labels": "[]"}, r'its labels are \[\]; expected \["angry", "disgust"'),
        ({"labels": json.dumps([{}] * 7)}, "its labels are .*; expected"),
        ({"labels": json.dumps(["a"] * 3)}, r"its labels are \['a', 'a', 'a'\]; expected"),
        ({"labels": json.dumps(["angry"] * 7)}, "its labels are .*; expected"),
        ({"labels": json.dumps(CLASSES[::-1])}, r"its labels are \['neutral', 'surprise'.*; expected"),
        ({"labels": json.dumps(["\x1b[2J"] * 7)}, "its labels are .*; expected"),
        ({"members": "[1]"}, "members are no tables"),
        ({"members": '[{"output": []}]'}, "members are no tables with name and output"),
        ({"combination": '{"temperatures": 5}'}, "a temperature of it is None; expected a finite number above 0"),
        ({"combination": '{"temperature": "x"}'}, "a temperature of it is 'x'"),
        ({"combination": '{"temperature": NaN}'}, "a temperature of it is nan"),
        ({"combination": '{"temperature": true}'}, "a temperature of it is True"),
        ({"combination": '{"temperature": %s}' % ("9" * 400)}, "a temperature of it is 9999"),
        ({"combination": '{"temperatures": [1, 0]}'}, "a temperature of it is 0"),
        ({"stamp": "[]"}, "stamp are no dict"),
    ],
)
def test_graphs_that_are_not_as_ours_are_refused_when_they_are_opened(
    tmp_path: Path, told: dict[str, str], reason: str
) -> None:
    (tmp_path / "g.onnx").write_bytes(small_graph(told).SerializeToString())
    with pytest.raises(UsageError, match=reason):
        open_graph(tmp_path / "g.onnx")


@pytest.mark.parametrize("where", ["key", "value"])
def test_metadata_that_are_no_text_are_refused_with_a_reason(tmp_path: Path, where: str) -> None:
    (tmp_path / "g.onnx").write_bytes(not_text(small_graph(), "labels", where))
    with pytest.raises(UsageError, match=r"g\.onnx is an ONNX graph whose texts are not UTF-8 .*ensemble-fer fuse"):
        open_graph(tmp_path / "g.onnx")


def test_a_name_of_an_input_that_is_no_text_is_refused_with_a_reason(tmp_path: Path) -> None:
    model = small_graph()
    model.graph.input[0].name = model.graph.node[0].input[0] = "~~~~"
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString().replace(b"~~~~", b"~\xff\xfe~"))
    with pytest.raises(UsageError, match=r"whose texts are not UTF-8|cannot be opened"):
        open_graph(tmp_path / "g.onnx")


@pytest.mark.parametrize("weights", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_no_answer(tmp_path: Path, weights: float) -> None:
    (tmp_path / "g.onnx").write_bytes(small_graph(weights=weights).SerializeToString())
    with pytest.raises(EnsembleFerError, match=r"probabilities of 1 of 1 faces holds numbers that are not finite; exp"):
        predicted(open_graph(tmp_path / "g.onnx"))


def test_more_threads_than_any_machine_has_are_refused_before_the_graph_is_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"threads 99,999,999,999: this machine has .* expected at most \d+\."):
        open_graph(tmp_path / "none.onnx", threads=99_999_999_999)


def test_a_graph_with_more_columns_than_classes_is_refused(tmp_path: Path) -> None:
    model = small_graph()
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 8
    del model.graph.initializer[0]
    model.graph.initializer.append(numpy_helper.from_array(np.ones((2304, 8), np.float32), "w"))
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match=r"probabilities is tensor\(float\) .*, for 7 labels"):
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
