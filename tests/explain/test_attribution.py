"""Maps of what decides: not zero, of these weights and this class, and where the evidence is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ensemble_fer.ensemble import plain
from ensemble_fer.errors import UsageError
from ensemble_fer.explain import attribution
from ensemble_fer.explain.attribution import LEAST_MAP, METHODS, Subject, attribute, cam_layer
from ensemble_fer.models import build
from ensemble_fer.models.member import Member, conv_bn
from tests.contracts.members import drawn, settle
from tests.export import making

ALL = sorted(METHODS)


def member(seed: int = 0) -> Member:
    """A small residual network with norms that have seen the faces."""
    torch.manual_seed(seed)
    return settle(build("compact", 0.0), drawn()[0])


def faces(count: int = 3) -> np.ndarray:
    return drawn()[0][:count].numpy()


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Mean correlation of maps."""
    return float(np.mean([np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(a, b, strict=True)]))


class Window(nn.Module):
    """Class 0 is the brightness of one window of the crop, minus that of another; the rest is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 1, 1)
        self.head = nn.Linear(1, 1)
        nn.init.ones_(self.first.weight)
        nn.init.zeros_(self.first.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        score = x[:, 0, 8:14, 8:14].mean((1, 2)) - x[:, 0, 26:32, 26:32].mean((1, 2))
        return torch.cat([4 * score[:, None], torch.zeros(len(x), 6)], 1)


@pytest.mark.parametrize("method", ALL)
def test_maps_are_not_zero_and_scaled(method: str) -> None:
    maps = attribute(Subject.of_member(member()), faces(), np.array([0, 3, 5]), method)
    assert maps.shape == (3, 48, 48)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(np.abs(maps).max((1, 2)), 1, rtol=1e-5)
    assert (maps.std((1, 2)) > 0.01).all()
    if method in ("saliency", "grad_cam"):
        assert maps.min() >= 0


@pytest.mark.parametrize("method", ALL)
def test_other_weights_give_other_maps(method: str) -> None:
    """Adebayo et al. 2018: a map that random weights do not change explains the picture, not the network."""
    wanted = np.array([0, 3, 5])
    own, other = (attribute(Subject.of_member(member(seed)), faces(), wanted, method) for seed in (0, 1))
    again = attribute(Subject.of_member(member()), faces(), wanted, method)
    np.testing.assert_allclose(own, again, atol=1e-4)
    assert likeness(own, other) < 0.8


@pytest.mark.parametrize("method", ALL)
def test_other_classes_give_other_maps(method: str) -> None:
    subject = Subject.of_member(member())
    a, b = (attribute(subject, faces(), np.full(3, label), method) for label in (1, 4))
    assert np.abs(a - b).max() > 0.1


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients", "lime"])
def test_the_evidence_is_found_where_it_is(method: str) -> None:
    """Of a network that looks at two windows alone, most of the map lies in them, with the right sign."""
    subject = Subject.of_member(Member(Window(), 48))
    bright = np.full((1, 48, 48), 220, np.uint8)
    bright[0, 24:] = 30  # the window that counts against it is dark
    (shown,) = attribute(subject, bright, np.array([0]), method)
    inside = np.zeros((48, 48), bool)
    # LIME's patches of 6 pixels cover the windows and what is beside them.
    edge = 2 if method == "lime" else 0
    inside[8 - edge : 14 + edge + 2, 8 - edge : 14 + edge + 2] = True
    inside[26 - edge : 32 + edge + 2, 26 - edge : 32 + edge + 2] = True
    assert np.abs(shown[inside]).mean() > 4 * np.abs(shown[~inside]).mean()
    if method != "saliency":
        assert shown[8:14, 8:14].mean() > 0
        assert shown[26:32, 26:32].mean() > 0, "dark where brightness counts against it speaks for it"


class Bright(nn.Module):
    """Two maps of a crop, its brightness and its darkness; class 0 has the mean of the first, class 1 of the second."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 2, 1)
        self.head = nn.Linear(1, 1)
        with torch.no_grad():
            self.maps.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
            nn.init.zeros_(self.maps.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = torch.relu(self.maps(x)).mean((2, 3))
        return torch.cat([4 * seen, torch.zeros(len(x), 5)], 1)


def test_grad_cam_finds_the_evidence_with_its_sign() -> None:
    subject = Subject.of_member(Member(Bright(), 48))
    half = np.full((1, 48, 48), 220, np.uint8)
    half[0, :, 24:] = 30
    for label, bright in ((0, True), (1, False)):
        (shown,) = attribute(subject, half, np.array([label]), "grad_cam")
        inside, outside = (shown[:, :20], shown[:, 28:])[:: 1 if bright else -1]
        assert inside.mean() > 0.9
        assert outside.mean() < 0.1


def test_an_answer_that_is_sure_to_rounding_is_explained_or_said_to_be_blank() -> None:
    network, given = member(), torch.from_numpy(faces()).float()
    logits = network(given).detach()
    first, second = logits.topk(2).values.T
    sharp = (first - second).min().numpy() / 20
    alone = Subject([network], replace(plain("mean", 1), temperatures=np.array([sharp])))
    answers = logits.argmax(1).numpy()
    assert (alone.scores(given).exp().amax(1) == 1).all()
    for method in ("saliency", "integrated_gradients"):
        assert (np.abs(attribute(alone, faces(), answers, method)).max((1, 2)) == 1).all(), method
    twice = Subject([network, network], replace(plain("mean", 2), temperatures=np.array([sharp, sharp]) / 20))
    with pytest.warns(attribution.BlankMap, match="3 of 3 maps of saliency are blank"):
        assert (attribute(twice, faces(), answers, "saliency") == 0).all()


def test_grad_cam_is_what_its_paper_says() -> None:
    """The maps of the layer, each by the mean of its gradient, summed, without what is below 0."""
    network = member()
    given = torch.from_numpy(faces(1)).float()
    layer = cam_layer(network, given)
    kept: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda module, into, out: kept.append(out))
    logits = network(given)
    hook.remove()
    (gradient,) = torch.autograd.grad(logits[0, 3], kept[0])
    cam = torch.relu((gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1, keepdim=True)).detach()
    cam = nn.functional.interpolate(cam, (40, 40), mode="bilinear", align_corners=False)[0, 0].numpy()
    (shown,) = attribute(Subject.of_member(network), faces(1), np.array([3]), "grad_cam")
    np.testing.assert_allclose(shown[4:44, 4:44], cam / cam.max(), atol=1e-5)
    assert shown[:4].max() == 0


@pytest.mark.parametrize("name", ["compact", "resnet14", "resnet_compact", "googlenet48"])
def test_grad_cam_takes_whole_blocks_not_branches(name: str) -> None:
    """Held at what it gave for one face, the layer makes every other face that face."""
    torch.manual_seed(0)
    network = settle(build(name, 0.0), drawn()[0])
    one, other = torch.from_numpy(faces(2)).float().split(1)
    layer = cam_layer(network, one)
    kept: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda module, into, out: kept.append(out))
    with torch.no_grad():
        answer = network(one)
    hook.remove()
    hook = layer.register_forward_hook(lambda module, into, out: kept[0])
    with torch.no_grad():
        torch.testing.assert_close(network(other), answer)
    hook.remove()
    assert not torch.allclose(network(other), answer)


def test_integrated_gradients_add_up_to_what_they_explain() -> None:
    subject = Subject.of_member(member())
    given, wanted = torch.from_numpy(faces()).float(), torch.tensor([0, 3, 5])
    maps = METHODS["integrated_gradients"](subject, given, wanted)
    grey = torch.full_like(given, 127.5)
    with torch.no_grad():
        rise = (subject.scores(given) - subject.scores(grey)).gather(1, wanted[:, None])[:, 0]
    torch.testing.assert_close(maps.sum((1, 2)).detach(), rise, rtol=0.03, atol=0.01)


def test_lime_counts_what_is_nearly_whole_more() -> None:
    weights = [
        attribution._near(None, None, torch.arange(64)[None] < shown)  # type: ignore[arg-type]
        for shown in (64, 60, 32, 6, 0)
    ]
    assert weights == sorted(weights, reverse=True)
    assert weights[0] == 1
    assert weights[2] == pytest.approx(0.503, abs=0.001), "half of the patches, as the authors' kernel has it"
    assert weights[3] < 0.03


def test_of_an_ensemble_and_of_one_member_alone() -> None:
    one, two = member(0), member(1)
    wanted = np.array([0, 3, 5])
    together = Subject([one, two], plain("mean", 2), tta="flip")
    shares = together.scores(torch.from_numpy(faces()).float()).exp()
    torch.testing.assert_close(shares.sum(1), torch.ones(3))
    for method in ("saliency", "grad_cam"):
        maps = attribute(together, faces(), wanted, method)
        alone = attribute(Subject.of_member(one), faces(), wanted, method)
        assert np.abs(maps - alone).max() > 0.1
    both = [attribute(Subject.of_member(m), shown, wanted, "grad_cam")[:, :, ::step]
            for m in (one, two) for step, shown in ((1, faces()), (-1, faces()[:, :, ::-1]))]  # fmt: skip
    mean = sum(both)
    np.testing.assert_allclose(
        attribute(together, faces(), wanted, "grad_cam"), mean / mean.max((1, 2))[:, None, None], atol=1e-4
    )


def test_colour_faces_have_one_map() -> None:
    torch.manual_seed(0)
    body = nn.Sequential(conv_bn(3, 4, stride=2), nn.Flatten(), nn.Linear(4 * 20 * 20, 7))
    subject = Subject.of_member(Member(body, 40, mean=(0.5,) * 3, scale=(0.25,) * 3))
    rng = np.random.default_rng(0)
    given = rng.integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    for method in ALL:
        assert attribute(subject, given, np.array([0, 1]), method).shape == (2, 96, 96)


def test_grad_cam_takes_a_layer_that_shows_a_place() -> None:
    network = member()
    layer = cam_layer(network, torch.from_numpy(faces(1)).float())
    seen = []
    handle = layer.register_forward_hook(lambda module, given, out: seen.append(out.shape[2:]))
    network(torch.from_numpy(faces(1)))
    handle.remove()
    assert min(seen[0]) >= LEAST_MAP
    flat = Member(nn.Sequential(nn.Flatten(), nn.Linear(1600, 7)), 40)
    with pytest.raises(UsageError, match="Take saliency"):
        attribute(Subject.of_member(flat), faces(1), np.array([0]), "grad_cam")


def test_layers_that_work_in_place_are_no_trouble() -> None:
    """As in vgg16, where ReLU changes what a convolution gave."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 19 * 19, 7))
    maps = attribute(Subject.of_member(Member(body, 40)), faces(), np.array([0, 1, 2]), "grad_cam")
    assert np.isfinite(maps).all()


def test_an_unknown_method_names_the_near_one() -> None:
    with pytest.raises(UsageError, match="saliency"):
        attribute(Subject.of_member(making.drawn(0)), faces(1), np.array([0]), "salience")
