"""One battery over every member of the table."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ensemble_fer.config import MODEL_DEFAULTS
from ensemble_fer.config import MODELS as RECIPE_MODELS
from ensemble_fer.models import MODELS, build


def test_recipes_know_the_same_models() -> None:
    assert set(RECIPE_MODELS) == set(MODELS) == set(MODEL_DEFAULTS)


@pytest.fixture(params=sorted(MODELS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def faces(n: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))


def test_bytes_become_seven_float_logits(name: str) -> None:
    out = build(name)(faces(4))
    assert out.shape == (4, 7)
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()


def test_gradients_reach_every_parameter(name: str) -> None:
    member = build(name)
    nn.functional.cross_entropy(member(faces(8)), torch.arange(8) % 7).backward()
    without = [k for k, p in member.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    # A bias before batch norm has no effect, so its gradient is zero or rounding.
    assert [k for k in without if "bias" not in k] == []
    assert all(p.grad is not None for p in member.parameters() if p.requires_grad)


def test_a_face_alone_scores_as_in_a_batch(name: str) -> None:
    member = build(name).eval()
    batch = faces(5)
    with torch.inference_mode():
        together = member(batch)
        alone = torch.cat([member(face[None]) for face in batch])
    assert torch.allclose(together, alone, atol=1e-5)


def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    torch.manual_seed(3)
    first = build(name).state_dict()
    torch.manual_seed(3)
    second = build(name).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_remembers_a_handful_of_faces(name: str) -> None:
    """Enough capacity and a working gradient: random faces with random labels are learned by heart."""
    torch.manual_seed(0)
    member = build(name, dropout=0.0)
    images, labels = faces(21), torch.arange(21) % 7
    optimizer = torch.optim.Adam(member.parameters(), 2e-3 if name == "compact" else 1e-4)
    for _ in range(40):
        logits = member(images)
        loss = nn.functional.cross_entropy(logits, labels)
        if loss.item() < 0.05:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(logits.argmax(1), labels)
