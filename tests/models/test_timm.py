"""Any network of timm: sizes, stages, and names that are none."""

from __future__ import annotations

import pytest
import torch

from ensemble_fer.errors import EnsembleFerError, UsageError
from ensemble_fer.models import build, transfer


def test_any_classifier_of_timm_is_a_member() -> None:
    made = build("timm:convnext_atto", 0.3)
    assert (made.crop, made.side, made.channels) == (48, 96, 3)
    assert len(made.stages) == 6
    assert made.eval()(torch.zeros(2, 48, 48, dtype=torch.uint8)).shape == (2, 7)
    made.freeze(5, norms=True)
    for name, module in made.body.named_modules():
        wanted = name.startswith("head") or "Norm" in type(module).__name__
        assert all(p.requires_grad == wanted for p in module.parameters(recurse=False)), name


def test_a_network_that_insists_on_a_size_gets_it() -> None:
    made = build("timm:vit_tiny_patch16_224", 0.0)
    assert made.side == 224
    assert len(made.stages) == 14
    assert build("timm:halonet26t", 0.0).side == 256


def test_weights_of_a_tag_are_known_by_name() -> None:
    made = build("timm:resnet18.a3_in1k", 0.0)
    assert made.body.pretrained_cfg["hf_hub_id"] == "timm/resnet18.a3_in1k"  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:convnet_nano", "Did you mean convnext_nano"),
        ("timm:", "has no network ''"),
        ("timm:resnet18.a9_in1k", "no weights 'a9_in1k' of resnet18. Known: .*a1_in1k"),
        ("timm:hf-hub:timm/resnet18.a1_in1k", "has no network"),
    ],
)
def test_unknown_names_are_named(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(name)


def test_a_network_that_cannot_score_faces_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "SIDE", 8)
    with pytest.raises(EnsembleFerError, match=r"inception_v3 does not score faces enlarged to 8 pixels") as caught:
        build("timm:inception_v3", 0.0)
    assert "\n" not in str(caught.value)
