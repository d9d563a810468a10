"""Every rule and every augmentation inside the graph gives what stored predictions give; alike crops are made once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from ensemble_fer.ensemble import RULES, Combination
from ensemble_fer.export.fused import BLENDS, Fused
from ensemble_fer.export.graph import export_onnx
from ensemble_fer.export.parity import measure, require_parity, torch_probabilities
from ensemble_fer.export.session import open_graph
from ensemble_fer.models.member import IMAGENET_MEAN, IMAGENET_SCALE, Member, conv_bn
from ensemble_fer.train.prediction import TTA
from tests.export.making import drawn, faces


def wide(seed: int, channels: int = 3) -> Member:
    """A member that enlarges its crop and takes three channels."""
    torch.manual_seed(seed)
    body = nn.Sequential(
        conv_bn(channels, 6, kernel=5, stride=4), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(54, 7)
    )
    with torch.no_grad():
        body[3].weight.mul_(8)
    return Member(body, 44, side=64, mean=IMAGENET_MEAN, scale=IMAGENET_SCALE).eval()


def some_combination(rule: str, members: int, seed: int = 0) -> Combination:
    """Numbers that are all different, so that a wrong order of members shows."""
    rng = np.random.default_rng(seed)
    weights = np.full(members, 1 / members) if RULES[rule].fit is None else rng.dirichlet(np.ones(members))
    more = {}
    if rule == "stacking":
        more = {"coefficients": rng.normal(size=(7, 7 * members)) / 3, "intercept": rng.normal(size=7)}
    elif rule == "logit_adjustment":
        weights, more = np.full(members, 1 / members), {"intercept": rng.uniform(0, 3, 7)}
    return Combination(rule, weights, rng.uniform(0.5, 2, members), 1.7, **more)


def test_a_graph_knows_every_rule() -> None:
    assert set(BLENDS) == set(RULES)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_in_a_graph(rule: str, tmp_path: Path) -> None:
    members = {"a": drawn(0), "b": wide(1), "c": drawn(2)}
    by, images = some_combination(rule, 3), faces(70)
    export_onnx(members, tmp_path / "e.onnx", {}, combination=by)
    expected = torch_probabilities(members, images, combination=by)
    require_parity(measure(open_graph(tmp_path / "e.onnx"), expected, images))
    said = np.stack([p.argmax(1) for p in expected.values()])
    assert (said[1] != said[2]).mean() > 0.2, "members that say the same would test nothing"


@pytest.mark.parametrize("tta", sorted(TTA))
def test_every_augmentation_in_a_graph(tta: str, tmp_path: Path) -> None:
    members = {"a": drawn(0), "b": wide(1)}
    by, images = some_combination("weights", 2), faces(70)
    export_onnx(members, tmp_path / "e.onnx", {}, combination=by, tta=tta)
    expected = torch_probabilities(members, images, combination=by, tta=tta)
    require_parity(measure(open_graph(tmp_path / "e.onnx"), expected, images))
    centre = torch_probabilities(members, images, combination=by)
    assert (np.abs(expected["probabilities"] - centre["probabilities"]).max() > 0.01) == (tta != "none")


def test_aligned_faces_in_colour_are_taken_as_they_are(tmp_path: Path) -> None:
    members = {"a": wide(0), "b": drawn(1)}
    images = np.random.default_rng(0).integers(0, 256, (20, 96, 96, 3), dtype=np.uint8)
    body = nn.Sequential(conv_bn(1, 8, kernel=5, stride=4), nn.AdaptiveAvgPool2d(5), nn.Flatten(), nn.Linear(200, 7))
    members["b"] = Member(body, 40).eval()
    export_onnx(members, tmp_path / "e.onnx", {}, shape=(96, 96, 3), tta="flip")
    graph = open_graph(tmp_path / "e.onnx")
    assert graph.shape == (96, 96, 3)
    require_parity(measure(graph, torch_probabilities(members, images, tta="flip"), images))


def test_alike_members_share_their_preprocessing(tmp_path: Path) -> None:
    found = {}
    for name, members in {"one": [drawn(0)], "alike": [drawn(0), drawn(1)], "other": [drawn(0), wide(1)]}.items():
        export_onnx({f"m{i}": member for i, member in enumerate(members)}, tmp_path / "e.onnx", {})
        found[name] = Counter(node.op_type for node in onnx.load(tmp_path / "e.onnx").graph.node)
    assert found["one"]["Cast"] == found["alike"]["Cast"] == 1
    assert found["other"]["Cast"] == 2
    assert found["alike"]["Conv"] == 2


def test_crops_of_a_module_that_is_no_member_are_not_guessed() -> None:
    fused = Fused([nn.Identity()], some_combination("mean", 1), "flip")
    with pytest.raises(TypeError, match="crops of a Identity are not known"):
        fused(torch.zeros(2, 48, 48))


class Doubling(Member):
    """A member of one's own that prepares crops otherwise."""

    def prepare(self, crops: torch.Tensor) -> torch.Tensor:
        return 2 * super().prepare(crops)


@pytest.mark.parametrize("tta", ["none", "flip"])
def test_a_member_that_computes_otherwise_is_left_to_itself(tta: str, tmp_path: Path) -> None:
    plain = drawn(0)
    own = Doubling(plain.body, 40).eval()
    members, images = {"plain": plain, "own": own}, faces(40)
    export_onnx(members, tmp_path / "e.onnx", {}, tta=tta)
    expected = torch_probabilities(members, images, tta=tta)
    require_parity(measure(open_graph(tmp_path / "e.onnx"), expected, images))
    assert np.abs(expected["probabilities_own"] - expected["probabilities_plain"]).max() > 0.01
