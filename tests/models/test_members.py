"""Shapes, sizes and invariances of single members."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from ensemble_fer.errors import UsageError
from ensemble_fer.models import Member, build
from ensemble_fer.models.member import IMAGENET_MEAN, IMAGENET_SCALE


def faces(n: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


class Seen(nn.Module):
    """A body that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 7)

    def forward(self, x: Tensor) -> Tensor:
        self.given = x
        return self.head(x.mean((1, 2, 3))[:, None])


def given(member: Member, images: Tensor) -> Tensor:
    member(images)
    return member.body.given  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("name", "published", "within"),
    [
        ("vggnet", 29_890_759, 0),
        ("small_cnn", 784_263, 0.01),
        ("resnet_compact", 418_000, 0.01),
        ("mobilenet_compact", 130_000, 0.03),
        ("vgg16", 14_700_000, 0.01),
    ],
)
def test_sizes_are_the_published_ones(name: str, published: int, within: float) -> None:
    assert abs(build(name).parameter_count - published) <= within * published


def test_hidden_layer_of_resnet50v2_has_the_published_size() -> None:
    hidden = next(m for m in build("resnet50v2").body.head.modules() if isinstance(m, nn.Linear))  # type: ignore
    assert sum(p.numel() for p in hidden.parameters()) == 6_422_592


def test_compact_is_compact() -> None:
    assert build("compact").parameter_count <= 2_500_000


def test_unknown_model_names_the_near_match() -> None:
    with pytest.raises(UsageError, match="compact"):
        build("compakt")


def test_only_the_centre_crop_counts() -> None:
    member = build("compact").eval()
    images = faces(3, 48, 48)
    border = images.clone()
    border[:, :4], border[:, :, -4:] = 0, 255
    inner = images.clone()
    inner[:, 20] = 255 - inner[:, 20]
    assert torch.equal(member(images), member(border))
    assert not torch.equal(member(images), member(inner))


def test_bytes_and_floats_of_a_crop_agree() -> None:
    member = build("compact").eval()
    crops = faces(2, 40, 40)
    assert torch.equal(member.of_crops(crops), member.of_crops(crops.float()))


def test_the_crop_is_the_same_share_of_a_larger_face() -> None:
    member = Member(Seen(), 40)
    assert [member.crop_of(height) for height in (48, 96, 64)] == [40, 80, 53]
    small = faces(2, 48, 48)
    large = small.repeat_interleave(2, 1).repeat_interleave(2, 2)
    # Halving bilinearly is the mean of two by two pixels.
    torch.testing.assert_close(given(member, large), given(member, small))


def test_gray_goes_to_every_channel_and_is_normalized_by_each() -> None:
    member = Member(Seen(), 48, mean=IMAGENET_MEAN, scale=IMAGENET_SCALE)
    images = faces(2, 48, 48)
    x = given(member, images)
    assert x.shape == (2, 3, 48, 48)
    for channel, (mean, scale) in enumerate(zip(IMAGENET_MEAN, IMAGENET_SCALE, strict=True)):
        torch.testing.assert_close(x[:, channel], (images / 255 - mean) / scale)


def test_colour_goes_to_gray_where_the_body_has_one_channel() -> None:
    images = faces(2, 48, 48, 3)
    red, green, blue = images.float().unbind(-1)
    x = given(Member(Seen(), 48), images)
    torch.testing.assert_close(x[:, 0], ((0.299 * red + 0.587 * green + 0.114 * blue) / 255 - 0.5) / 0.25)


def test_colour_keeps_its_channels_where_the_body_has_three() -> None:
    images = faces(2, 48, 48, 3)
    x = given(Member(Seen(), 48, mean=IMAGENET_MEAN, scale=IMAGENET_SCALE), images)
    torch.testing.assert_close(x[:, 2], (images[..., 2] / 255 - IMAGENET_MEAN[2]) / IMAGENET_SCALE[2])


def test_a_gray_picture_in_colour_scores_as_the_gray_one() -> None:
    for name in ("compact", "resnet_compact"):
        member = build(name).eval()
        gray = faces(3, 48, 48)
        torch.testing.assert_close(member(gray[..., None].expand(-1, -1, -1, 3)), member(gray), atol=1e-5, rtol=1e-5)


def test_enlarging_is_bilinear_with_half_pixel_centres() -> None:
    member = Member(Seen(), 48, side=96)
    image = torch.zeros(1, 48, 48, dtype=torch.uint8)
    image[0, 10] = 200
    column = given(member, image)[0, 0, :, 0] * 0.25 + 0.5
    expected = torch.zeros(96)
    expected[19:23] = torch.tensor([0.25, 0.75, 0.75, 0.25]) * 200 / 255
    torch.testing.assert_close(column, expected, atol=1e-6, rtol=0)


def test_auxiliary_classifiers_count_by_their_weight_and_in_training_only() -> None:
    member = build("googlenet48", dropout=0.0)
    images, labels = faces(4, 48, 48), torch.arange(4)
    sizes: list[Tensor] = []

    def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
        sizes.append(nn.functional.cross_entropy(logits, targets))
        return sizes[-1]

    total = member.train().loss(images, labels, loss_of)
    assert len(sizes) == 3
    torch.testing.assert_close(total, sizes[0] + 0.3 * (sizes[1] + sizes[2]))
    sizes.clear()
    assert torch.equal(member.eval().loss(images, labels, loss_of), sizes[0])
    assert len(sizes) == 1
    assert member.train()(images).shape == (4, 7)


def test_stages_by_default_are_the_parts_of_the_body() -> None:
    body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 7))
    assert Member(body, 3).stages == [["0.weight", "0.bias"], ["2.weight", "2.bias"], ["4.weight", "4.bias"]]


def test_as_many_stages_cannot_be_frozen() -> None:
    member = build("compact")
    with pytest.raises(UsageError, match="has 4 before its head"):
        member.freeze(5)
    member.freeze(4)
    trained = {id(p) for p in member.parameters() if p.requires_grad}
    assert trained == {id(p) for p in member.head_parameters}


def test_a_batch_norm_without_weights_is_frozen_with_what_stands_before_it() -> None:
    body = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, affine=False), nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2, affine=False),
        nn.Flatten(), nn.Linear(2 * 44 * 44, 7),
    )  # fmt: skip
    member = Member(body, 48)
    member.freeze(1)
    member.train()(faces(4, 48, 48))
    assert [int(body[i].num_batches_tracked) for i in (1, 3)] == [0, 1]  # type: ignore[arg-type]
    assert [body[i].training for i in (1, 3)] == [False, True]


def test_system_b_freezes_all_of_the_transformer_but_its_last_block_the_norms_and_the_classifier() -> None:
    member = build("vit_base_patch16_224", 0.0)
    member.freeze(12, norms=True)
    for name, parameter in member.body.named_parameters():
        wanted = name.startswith(("blocks.11.", "head.")) or "norm" in name
        assert parameter.requires_grad == wanted, name


def test_timm_and_torchvision_are_not_imported_before_a_member_needs_them() -> None:
    script = (
        "import sys; from ensemble_fer import models; models.build('googlenet48');"
        "print([m for m in ('timm', 'torchvision', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
