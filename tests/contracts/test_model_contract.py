"""One battery over every member of the table; learning and export have files of their own, so that they run beside."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ensemble_fer.config import MODEL_DEFAULTS
from ensemble_fer.config import MODELS as RECIPE_MODELS
from ensemble_fer.models import MODELS, Member
from ensemble_fer.models.cost import flops
from tests.contracts.members import SETTINGS, card, crops_of, drawn, full, small


def test_every_member_is_in_every_table() -> None:
    assert set(RECIPE_MODELS) == set(MODELS) == set(MODEL_DEFAULTS) == set(SETTINGS)


# Of module scope: all tests of a member follow one another, and it is built once.
@pytest.fixture(scope="module", params=sorted(MODELS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def train_twice(member: Member, count: int = 4) -> None:
    """Two training steps on drawn faces, after which gradients are those of the second.

    Some residual branches begin multiplied by zero: what is in them has a gradient from the second step on.
    """
    faces, labels = drawn()
    crops = crops_of(member.train(), faces[:count])
    optimizer = torch.optim.SGD(member.parameters(), 0.02, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        member.loss(crops, labels[:count], nn.functional.cross_entropy).backward()
        optimizer.step()


def test_gray_and_coloured_bytes_become_seven_float_logits_alone_as_in_a_batch(name: str) -> None:
    member = full(name).eval()
    coloured = torch.randint(0, 256, (1, 96, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    faces = drawn()[0][:2]
    with torch.inference_mode():
        together = member(faces)
        alone = torch.cat([member(face[None]) for face in faces])
        of_colour = member(coloured)
    for logits, count in ((together, 2), (of_colour, 1)):
        assert logits.shape == (count, 7)
        assert logits.dtype == torch.float32
        assert torch.isfinite(logits).all()
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert not torch.equal(together[0], together[1])


def test_size_and_work_are_what_the_card_says(name: str) -> None:
    member = full(name)
    parameters, millions = card(name)
    assert member.parameter_count == parameters
    assert round(flops(member) / 1e6) == millions
    assert member.training


def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    first = full(name).state_dict()
    torch.manual_seed(0)
    second = MODELS[name](0.0).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_gradients_reach_every_parameter(name: str) -> None:
    member = small(name)
    train_twice(member)
    without = [key for key, p in member.named_parameters() if p.grad is None or not p.grad.any()]
    # A bias before batch norm has no effect, so its gradient is zero or rounding.
    assert [key for key in without if "bias" not in key] == []
    assert all(p.grad is not None for p in member.parameters())


def test_every_parameter_is_in_one_stage_and_the_head_is_the_last(name: str) -> None:
    member = small(name)
    listed = [key for stage in member.stages for key in stage]
    assert sorted(listed) == sorted(key for key, _ in member.body.named_parameters())
    assert len(member.stages) >= 4
    last = [m for m in member.body.modules() if isinstance(m, nn.Linear)][-1]
    assert any(last.weight is parameter for parameter in member.head_parameters)


def _state(member: Member) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in member.body.state_dict().items()}


def _frozen(member: Member, stages: int) -> tuple[set[str], set[str]]:
    """Names of the parameters of the first stages, and of the statistics of their batch norms."""
    weights = {key for stage in member.stages[:stages] for key in stage}
    places = {key.rpartition(".")[0] for key in weights}
    return weights, {key for key, _ in member.body.named_buffers() if key.rpartition(".")[0] in places}


@pytest.mark.parametrize("norms", [False, True])
def test_frozen_stages_stay_as_they_are(name: str, norms: bool) -> None:
    member = small(name)
    stages = len(member.stages) // 2
    member.freeze(stages, norms=norms)
    weights, statistics = _frozen(member, stages)
    before = _state(member)
    train_twice(member)
    changed = {key for key, value in _state(member).items() if not torch.equal(value, before[key])}
    kinds: dict[str, Any] = dict(member.body.named_modules())
    of_norms = {key for key in weights if "Norm" in type(kinds[key.rpartition(".")[0]]).__name__}
    assert changed & (weights | statistics) == (of_norms if norms else set())
    assert set(member.stages[-1]) <= changed
    member.freeze(0)
    assert all(parameter.requires_grad for parameter in member.parameters())
    train_twice(member)
    after = _state(member)
    assert all(not torch.equal(after[key], before[key]) for key in weights | statistics)
