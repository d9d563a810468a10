"""Graphs made simpler or in whole numbers: what they keep, what they may lose, where they are right."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime import quantization
from torch import nn

from ensemble_fer.ensemble import Combination
from ensemble_fer.errors import EnsembleFerError, ParityError, SplitMisuse, UsageError
from ensemble_fer.export import exporting
from ensemble_fer.export.exporting import NotFaster, export
from ensemble_fer.export.fusing import fuse
from ensemble_fer.export.graph import export_onnx
from ensemble_fer.export.parity import measure, require_parity
from ensemble_fer.export.session import open_graph
from ensemble_fer.export.variants import BITS, member_nodes, quantize, simplify
from ensemble_fer.files import sha256_of
from ensemble_fer.models.member import Member, conv_bn
from ensemble_fer.store import Store
from tests.export import making
from tests.export.making import drawn, faces, untrained_run
from tests.export.test_fused import some_combination, wide


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one ensemble of stacking with ten crops as plain.onnx, simplified.onnx and int8.onnx."""
    folder = tmp_path_factory.mktemp("variants")
    members = {"a": drawn(0), "b": wide(1), "c": drawn(2)}
    by = some_combination("stacking", 3)
    export_onnx(members, folder / "plain.onnx", {"stamp": {"split": "official"}}, combination=by, tta="ten_crop")
    simplify(folder / "plain.onnx", folder / "simplified.onnx")
    quantize(folder / "plain.onnx", folder / "int8.onnx", faces(64, seed=9))
    return folder


def test_a_simplified_graph_gives_the_same_numbers_with_fewer_nodes(made: Path) -> None:
    images = faces(70)
    plain, simple = (open_graph(made / f"{name}.onnx") for name in ("plain", "simplified"))
    expected = {name: p.astype(np.float64) for name, p in plain.run(images).items()}
    require_parity(measure(simple, expected, images))
    nodes = [len(onnx.load(made / f"{name}.onnx").graph.node) for name in ("plain", "simplified")]
    assert nodes[1] < nodes[0]


def test_whole_numbers_are_close_and_smaller(made: Path) -> None:
    images = faces(200)
    plain, int8 = (open_graph(made / f"{name}.onnx").run(images) for name in ("plain", "int8"))
    assert set(plain) == set(int8)
    for name, expected in plain.items():
        assert 0 < np.abs(int8[name] - expected).max() < 0.25, name
        assert (int8[name].argmax(1) == expected.argmax(1)).mean() > 0.95, name
    kinds = Counter(node.op_type for node in onnx.load(made / "int8.onnx").graph.node)
    assert kinds["QuantizeLinear"] > 0
    onnx.checker.check_model(str(made / "int8.onnx"), full_check=True)


def test_metadata_stays_and_says_what_was_done(made: Path) -> None:
    plain, simple, int8 = (
        {p.key: p.value for p in onnx.load(made / f"{name}.onnx").metadata_props}
        for name in ("plain", "simplified", "int8")
    )
    assert {key: int8[key] for key in plain} == plain
    assert simple == {**plain, "variant": "simplified"}
    assert (int8["variant"], int8["weight_bits"]) == ("int8", "7")
    assert int8["calibration"] == "64 faces of the training part"
    assert json.loads(int8["stamp"]) == {"split": "official"}


def test_only_what_computes_the_logits_is_in_whole_numbers(made: Path) -> None:
    """The product of stacking, the softmax and the crops stay in float32."""
    proto = onnx.load(made / "plain.onnx")
    inside = set(member_nodes(proto))
    outside = [node for node in proto.graph.node if node.name not in inside]
    assert sum(node.op_type in ("MatMul", "Gemm") for node in outside) == 1, "that of stacking"
    kinds = Counter(node.op_type for node in proto.graph.node if node.name in inside)
    assert kinds["Conv"] == kinds["Gemm"] == 3
    assert kinds["Softmax"] == 0
    quantized = onnx.load(made / "int8.onnx").graph
    from_whole = {name for node in quantized.node if node.op_type == "DequantizeLinear" for name in node.output}
    products = [node for node in quantized.node if node.op_type in ("MatMul", "Gemm")]
    assert sorted(set(node.input[:2]) <= from_whole for node in products) == [False, True, True, True]


def test_weights_have_seven_bits_and_each_channel_its_scale(made: Path) -> None:
    """So that two products never leave 16 bits, in which processors without VNNI add them up."""
    graph = onnx.load(made / "int8.onnx").graph
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    dequantized = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in values]
    pairs = [(values[node.input[0]], values[node.input[1]]) for node in dequantized]
    kernels = [(whole, scale) for whole, scale in pairs if whole.dtype == np.int8 and whole.ndim > 1]
    assert len(kernels) == 6
    assert max(int(np.abs(whole.astype(int)).max()) for whole, _ in kernels) <= 2 ** (BITS - 1)
    assert 2 * 255 * 2 ** (BITS - 1) < 2**15
    assert sorted(scale.size for whole, scale in kernels if whole.ndim == 4) == [6, 8, 8], "one for each channel"


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="an instruction set of x86 is limited")
@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="qemu-user limits the instruction set; it is not here")
def test_whole_numbers_are_right_without_vnni(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with AVX2 and nothing newer gives the answers of this one; with weights of 8 bits it would not."""
    members = {"a": drawn(0), "b": wide(1), "c": drawn(2)}
    export_onnx(members, tmp_path / "plain.onnx", {}, combination=some_combination("stacking", 3))
    quantize(tmp_path / "plain.onnx", tmp_path / "7.onnx", faces(64, seed=9))
    whole = quantization.quantize_static
    monkeypatch.setattr(quantization, "quantize_static", lambda *a, **k: whole(*a, **{**k, "reduce_range": False}))
    quantize(tmp_path / "plain.onnx", tmp_path / "8.onnx", faces(64, seed=9))
    images = faces(40)
    np.save(tmp_path / "faces.npy", images)
    code = f"""
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
faces = np.load({str(tmp_path / "faces.npy")!r})
for bits in (7, 8):
    session = onnxruntime.InferenceSession(f"{tmp_path}/{{bits}}.onnx", options)
    np.save(f"{tmp_path}/{{bits}}.npy", session.run(["probabilities"], {{"faces": faces}})[0])
"""
    command = ["qemu-x86_64", "-cpu", "Haswell", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    off = {}
    for bits in (7, 8):
        here = open_graph(tmp_path / f"{bits}.onnx", threads=1).run(images)["probabilities"]
        off[bits] = np.abs(np.load(tmp_path / f"{bits}.npy") - here).max()
    assert off[7] < 1e-4
    if "avx512_vnni" in Path("/proc/cpuinfo").read_text():
        assert off[8] > 0.01, "the emulated processor does not cut sums off, so that it proves nothing"


@pytest.fixture
def duo(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    from ensemble_fer.models import MODELS

    monkeypatch.setitem(MODELS, "tiny", making.tiny)
    for seed, name in enumerate(("first", "second")):
        untrained_run(store, name, seed)
    return store


@pytest.mark.filterwarnings("ignore::ensemble_fer.export.exporting.NotFaster")
def test_an_ensemble_and_a_run_are_exported_and_measured(duo: Store) -> None:
    ensemble = fuse(duo, ["first", "second"], name="duo", quiet=True)
    plain = export(duo, "duo", quiet=True)
    assert plain.file("graph.onnx").read_bytes() == ensemble.file("ensemble.onnx").read_bytes()
    assert (plain.metrics["variant"], plain.metrics["lost_points"]) == ("float32", 0)
    simple = export(duo, "duo", simplified=True, quiet=True)
    assert simple.metrics["max_abs_diff"] <= 1e-5
    int8 = export(duo, "duo", int8=True, simplified=True, faces=40, called="small", quiet=True)
    assert int8.metrics["variant"] == "simplified-int8"
    assert int8.metrics["rows_checked"] == 15
    assert 0 < int8.metrics["max_abs_diff"] < 0.2
    graphs = int8.metrics["graphs"]
    lost = graphs["before"]["accuracy"] - graphs["after"]["accuracy"]
    assert int8.metrics["lost_points"] == pytest.approx(100 * lost)
    assert int8.metrics["select"] == plain.metrics["select"] == ensemble.metrics["select"]
    assert int8.metrics["lost_points"] <= 0.5
    assert duo.get("graph", "small").id == int8.id
    assert export(duo, "duo", int8=True, simplified=True, faces=40, quiet=True).id == int8.id
    alone = export(duo, "first", quiet=True)
    found = open_graph(alone.file("graph.onnx"))
    assert found.members[0]["run"] == duo.get("run", "first").id
    assert found.members[0]["weights_sha256"] == sha256_of(duo.get("run", "first").file("weights.safetensors"))
    assert alone.metrics["flips"] == 0
    with pytest.raises(UsageError, match="need faces; found 0"):
        export(duo, "first", int8=True, faces=0)
    with pytest.raises(UsageError, match="were not asked for"):
        export(duo, "first", faces=9)
    with pytest.raises(UsageError, match=r"unknown run or ensemble.*'frist'"):
        export(duo, "frist")


def test_a_graph_that_loses_too_much_is_refused(duo: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(source: Path, out: Path, images: np.ndarray) -> None:
        proto = onnx.load(source)
        for each in proto.graph.initializer:
            if each.data_type == onnx.TensorProto.FLOAT and len(each.dims) == 2:
                each.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(each), each.name))
        onnx.save(proto, out)

    monkeypatch.setattr(exporting, "quantize", spoiled)
    said = exporting.load_predictions(duo.get("run", "first").file("select.npz"))
    # Labels that the network gives, so that there is something to lose.
    own = exporting._Faces(making.face_set().images[said.rows], said.logits.argmax(1).astype(np.uint8), faces(4))
    monkeypatch.setattr(exporting, "_faces_of", lambda *_: own)
    with pytest.raises(EnsembleFerError, match=r"loses \d+\.\d points .* on 15 select rows.*Nothing was stored"):
        export(duo, "first", int8=True, quiet=True)
    monkeypatch.setattr(exporting, "simplify", lambda a, b: spoiled(a, b, faces(1)))
    with pytest.raises(ParityError):
        export(duo, "first", simplified=True, quiet=True)
    assert duo.ids("graph") == []


def test_whole_numbers_that_are_slower_are_said_to_be(duo: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.0, 1.0, 2.0])
    monkeypatch.setattr(exporting, "graph_latency", lambda graph: {"ms": next(times)})
    with pytest.warns(NotFaster, match=r"not faster here: 2\.00 ms a face, 1\.00 before"):
        export(duo, "first", int8=True, faces=20, quiet=True)


def test_what_was_trained_on_the_select_part_has_nothing_to_be_measured_on(duo: Store) -> None:
    run = duo.get("run", "first")
    spec = {**run.spec, "recipe": {**run.spec["recipe"], "train_on": "train+select"}}
    duo.put("run", spec, run.inputs, lambda folder: {"name": "all"}, name="all")
    with pytest.raises(SplitMisuse, match=r"trained on train\+select"):
        export(duo, "all", quiet=True)


def test_a_mean_of_members_with_temperatures_is_walked_through(tmp_path: Path) -> None:
    body = nn.Sequential(conv_bn(1, 4, kernel=5, stride=4), nn.Flatten(), nn.Linear(4 * 100, 7))
    by = Combination("mean", np.ones(1), np.array([2.0]), 0.5)
    export_onnx({"a": Member(body, 40).eval()}, tmp_path / "e.onnx", {}, combination=by)
    proto = onnx.load(tmp_path / "e.onnx")
    inside = {node.op_type for node in proto.graph.node if node.name in member_nodes(proto)}
    assert "Gemm" in inside
    assert "Softmax" not in inside
