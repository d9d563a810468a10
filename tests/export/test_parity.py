"""Parity sees a wrong weight, a wrong batch size, a flip, and what is not a number."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ensemble_fer.errors import ParityError
from ensemble_fer.export.parity import flipped, measure, require_parity, torch_probabilities
from ensemble_fer.export.session import open_graph
from ensemble_fer.types import FaceSet
from tests.export.making import faces, members


def stub(answer: Any) -> Any:
    """Something that runs like a Graph."""
    return SimpleNamespace(run=answer)


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    return torch_probabilities(members(), faces(100))


def test_reference_is_softmax_of_the_members_own_logits(expected: dict[str, np.ndarray]) -> None:
    with torch.no_grad():
        each = [torch.softmax(m(torch.from_numpy(faces(100))).double(), 1).numpy() for m in members().values()]
    np.testing.assert_allclose(expected["probabilities"], sum(each) / 3, atol=1e-7)
    np.testing.assert_allclose(expected["probabilities_ros_s0_2"], each[2], atol=1e-7)


def test_graph_agrees_on_every_row_and_batch(graph_file: Path, expected: dict[str, np.ndarray]) -> None:
    images = faces(100)
    seen = []
    found = measure(open_graph(graph_file), expected, images, spread=50, advance=seen.append)
    assert require_parity(found) is found
    assert (found["rows_checked"], found["flips"]) == (100, 0)
    assert 0 < found["max_abs_diff"] <= 1e-5
    assert {b: e["rows"] for b, e in found["batches"].items()} == {"1": 50, "7": 50, "64": 100}
    assert set(found["outputs"]) == set(expected)
    assert sum(seen) == 200


@pytest.mark.real
def test_graph_agrees_on_all_real_select_rows(graph_file: Path, real_faces: FaceSet) -> None:
    images = real_faces.images[real_faces.rows_of("PublicTest")]
    graph = open_graph(graph_file, threads=1)
    found = require_parity(measure(graph, torch_probabilities(members(), images), images))
    assert found["rows_checked"] == 3589
    assert {b: e["rows"] for b, e in found["batches"].items()} == {"1": 449, "7": 449, "64": 3589}


def test_another_weight_is_seen(graph_file: Path) -> None:
    changed = members()
    with torch.no_grad():
        next(changed["ros-s0"].parameters()).add_(1e-3)
    images = faces(100)
    found = measure(open_graph(graph_file), torch_probabilities(changed, images), images)
    assert found["outputs"]["probabilities_plain"]["max_abs_diff"] <= 1e-5
    assert found["outputs"]["probabilities_ros_s0"]["max_abs_diff"] > 1e-5
    with pytest.raises(ParityError, match=r"probabilities_ros_s0: largest difference [^0].*(?s:.*)Nothing was stored"):
        require_parity(found)


def test_reference_is_in_evaluation_mode_whatever_it_was_given_in(graph_file: Path) -> None:
    training = {name: member.train() for name, member in members().items()}
    images = faces(20)
    require_parity(measure(open_graph(graph_file), torch_probabilities(training, images), images))


@pytest.mark.parametrize("wrong_batch", [1, 7, 64])
def test_an_error_at_one_batch_size_only_is_seen(wrong_batch: int) -> None:
    images = faces(30)
    truth = np.full((30, 7), 1 / 7) + np.arange(7) * 1e-3

    def answer(rows: np.ndarray, batch: int) -> dict:
        out = truth[: len(rows)].astype(np.float32)
        if batch == wrong_batch:
            out[-1, 2] += 2e-5
        return {"probabilities": out}

    found = measure(stub(answer), {"probabilities": truth}, images)
    assert found["worst_row"] == 29
    assert [b for b, e in found["batches"].items() if e["max_abs_diff"] > 1e-5] == [str(wrong_batch)]
    with pytest.raises(ParityError, match="row 129"):
        require_parity(found, np.arange(100, 130))


def test_a_flip_below_the_tolerance_is_a_failure_and_counted_once_a_row() -> None:
    truth = np.full((10, 7), 0.1)
    truth[:, 3] = 0.2 + 1e-6
    truth[:, 5] = 0.2
    truth /= truth.sum(axis=1, keepdims=True)
    said = truth.copy()
    said[4, [3, 5]] = truth[4, [5, 3]]
    found = measure(stub(lambda rows, batch: {"probabilities": said[: len(rows)]}), {"probabilities": truth}, faces(10))
    assert found["max_abs_diff"] < 1e-5
    assert found["flips"] == 1
    with pytest.raises(ParityError, match="1 rows with another label"):
        require_parity(found)


def test_what_is_not_a_number_is_a_failure() -> None:
    truth = np.full((10, 7), 1 / 7)
    said = truth.copy()
    said[2, 2] = np.nan
    found = measure(stub(lambda rows, batch: {"probabilities": said[: len(rows)]}), {"probabilities": truth}, faces(10))
    with pytest.raises(ParityError):
        require_parity(found)


def test_another_set_of_outputs_is_a_failure() -> None:
    with pytest.raises(ParityError, match="has outputs"):
        measure(stub(lambda rows, batch: {}), {"probabilities": np.full((3, 7), 1 / 7)}, faces(3))


def test_no_rows_prove_nothing(graph_file: Path) -> None:
    none = {name: np.empty((0, 7)) for name in torch_probabilities(members(), faces(1))}
    with pytest.raises(ParityError, match="no rows"):
        require_parity(measure(open_graph(graph_file), none, faces(0)))


@pytest.mark.parametrize(
    ("expected_row", "found_row", "flip"),
    [
        ([0.5, 0.3, 0.2], [0.5, 0.3, 0.2], False),
        ([0.5, 0.3, 0.2], [0.3, 0.5, 0.2], True),
        ([0.4, 0.4, 0.2], [0.39999, 0.4, 0.2], False),  # torch has a tie: either is its answer
        ([0.40001, 0.4, 0.2], [0.4, 0.4, 0.2], False),  # the graph has a tie that includes torch's answer
        ([0.4, 0.4, 0.2], [0.2, 0.39, 0.41], True),
        ([0.5, 0.3, 0.2], [np.nan, 0.3, 0.2], True),
    ],
)
def test_ties_are_no_flips(expected_row: list, found_row: list, flip: bool) -> None:
    assert flipped(np.array([expected_row]), np.array([found_row])).tolist() == [flip]
