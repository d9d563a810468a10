"""One file, any batch size, the members' mean, and nothing of the machine in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from ensemble_fer.errors import EnsembleFerError, MissingError, UsageError
from ensemble_fer.export import graph as graph_module
from ensemble_fer.export.graph import export_onnx, output_names
from ensemble_fer.export.latency import graph_latency
from ensemble_fer.export.session import open_graph
from ensemble_fer.types import CLASSES
from tests.export.making import METADATA, drawn, faces, members


def test_interface_is_the_one_that_users_rely_on(graph_file: Path) -> None:
    session = onnxruntime.InferenceSession(str(graph_file))
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape) == ("faces", "tensor(uint8)", ["n", 48, 48])
    outputs = {o.name: (o.type, o.shape) for o in session.get_outputs()}
    names = ["probabilities", "probabilities_plain", "probabilities_ros_s0", "probabilities_ros_s0_2"]
    assert list(outputs) == names
    assert all(found == ("tensor(float)", ["n", 7]) for found in outputs.values())


def test_mean_of_softmax_of_each_member_at_any_batch(graph_file: Path) -> None:
    session = onnxruntime.InferenceSession(str(graph_file))
    images = faces(33)
    with torch.no_grad():
        expected = [torch.softmax(m(torch.from_numpy(images)), 1).numpy() for m in members().values()]
    said = np.stack(expected).argmax(axis=2)
    assert len(np.unique(said)) >= 5, "faces on which all members say the same would test nothing"
    assert (said[0] != said[1]).mean() > 0.2
    for batch in (1, 2, 32, 33):
        first, *each = session.run(None, {"faces": images[:batch]})
        np.testing.assert_allclose(first, np.mean(expected, axis=0)[:batch], atol=1e-6)
        for found, one in zip(each, expected, strict=True):
            np.testing.assert_allclose(found, one[:batch], atol=1e-6)


def test_metadata_is_enough_for_a_stranger(graph_file: Path) -> None:
    found = {p.key: p.value for p in onnx.load(graph_file).metadata_props}
    assert json.loads(found["labels"]) == list(CLASSES)
    assert json.loads(found["stamp"]) == METADATA["stamp"]
    listed = json.loads(found["members"])
    assert listed[0] == {"name": "plain", "output": "probabilities_plain", "run": "0123456789ab"}
    assert [m["output"] for m in listed[1:]] == ["probabilities_ros_s0", "probabilities_ros_s0_2"]
    assert "uint8" in found["input"]
    assert "preprocessing is inside" in found["input"]


def test_one_checked_file_without_traces_of_this_machine(graph_file: Path) -> None:
    assert [p.name for p in graph_file.parent.iterdir()] == ["ensemble.onnx"]
    onnx.checker.check_model(str(graph_file), full_check=True)
    content = graph_file.read_bytes()
    for trace in (b"stack_trace", b".py", str(Path.cwd()).encode(), str(Path(torch.__file__).parent).encode()):
        assert trace not in content


def test_same_members_give_same_bytes_and_no_word_on_the_terminal(
    graph_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    export_onnx(members(), tmp_path / "again.onnx", METADATA)
    assert (tmp_path / "again.onnx").read_bytes() == graph_file.read_bytes()
    assert capfd.readouterr() == ("", "")


def test_one_member_alone_has_both_outputs(tmp_path: Path) -> None:
    export_onnx({"solo": drawn(5)}, tmp_path / "solo.onnx", {})
    found = open_graph(tmp_path / "solo.onnx").run(faces(3))
    assert list(found) == ["probabilities", "probabilities_solo"]
    np.testing.assert_array_equal(found["probabilities"], found["probabilities_solo"])
    np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1, atol=1e-6)


def test_output_names_are_safe_and_all_different() -> None:
    names = ["a.b", "a-b", "a_b", "a_b_2", "é", ""]
    found = output_names(names)
    assert list(found) == names
    assert len(set(found.values())) == len(names)
    assert all(o.startswith("probabilities_") and o.isascii() and o.replace("_", "").isalnum() for o in found.values())


def test_weights_that_do_not_fit_one_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "LARGEST", 1_000)
    with pytest.raises(UsageError, match=r"one ONNX file holds at most.*Fuse fewer"):
        export_onnx({"solo": drawn(0)}, tmp_path / "large.onnx", {})
    with pytest.raises(UsageError, match="at least one member"):
        export_onnx({}, tmp_path / "none.onnx", {})
    assert not list(tmp_path.iterdir())


class Branching(nn.Module):
    """Looks at the values: cannot become a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(48 * 48, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x.flatten(1).float())
        return y if y.sum() > 0 else -y


class Wide(Branching):
    """Gives eight logits."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x.flatten(1).float())
        return torch.cat([y, y[:, :1]], dim=1)


@pytest.mark.parametrize(
    ("module", "reason"), [(Branching(), "cannot be exported"), (Wide(), r"expected outputs \[n, 7\]")]
)
def test_what_is_no_member_is_refused_in_words(
    module: nn.Module, reason: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EnsembleFerError, match=reason):
        export_onnx({"odd": module}, tmp_path / "odd.onnx", {})
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_opening_says_what_is_wrong(graph_file: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="ensemble-fer fuse"):
        open_graph(tmp_path / "absent.onnx")
    (tmp_path / "torn.onnx").write_bytes(graph_file.read_bytes()[:2000])
    with pytest.raises(UsageError, match="cannot be opened as an ONNX graph"):
        open_graph(tmp_path / "torn.onnx")
    stranger = onnx.load(graph_file)
    del stranger.metadata_props[:]
    onnx.save(stranger, tmp_path / "stranger.onnx")
    with pytest.raises(UsageError, match="not an ensemble"):
        open_graph(tmp_path / "stranger.onnx")
    with pytest.raises(UsageError, match=r"uint8 \[n, 48, 48\]; found float64 \[2, 48, 48\]"):
        open_graph(graph_file).run(np.zeros((2, 48, 48)))  # pyright: ignore[reportArgumentType]


def test_empty_batch_gives_empty_outputs(graph_file: Path) -> None:
    found = open_graph(graph_file).run(faces(0))
    assert {name: p.shape for name, p in found.items()} == dict.fromkeys(found, (0, 7))
    assert len(found) == 4


def test_latency_names_engine_batch_and_threads(graph_file: Path) -> None:
    found = graph_latency(graph_file, repeats=5, threads=1)
    assert found["ms"] > 0
    assert {k: found[k] for k in ("engine", "batch", "threads")} == {"engine": "onnxruntime", "batch": 1, "threads": 1}
    with pytest.raises(UsageError, match="1 or more"):
        graph_latency(graph_file, repeats=0)
