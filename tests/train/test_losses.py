"""Losses against loops in float64 written from the papers' formulas, values worked by hand, and finite differences."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ensemble_fer import config
from ensemble_fer.config import Recipe
from ensemble_fer.train.losses import LOSSES, effective_number, inverse_frequency, loss_of

COUNTS = torch.tensor([3995.0, 436.0, 4097.0, 7215.0, 4830.0, 3171.0, 4965.0])
NAMES = sorted(LOSSES)
PLAIN = Recipe(label_smoothing=0.0)


def recipe_of(name: str, smoothing: float = 0.0) -> Recipe:
    settings = {"logit_tau": 0.7, "focal_gamma": 1.5, "effective_beta": 0.9995, "ldam_margin": 1.2}
    return replace(PLAIN, loss=name, label_smoothing=smoothing, **settings)


def batch(n: int = 9, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits float64, hard labels, shares."""
    rng = np.random.default_rng(seed)
    logits = torch.tensor(rng.normal(0, 3, (n, 7)))
    shares = torch.tensor(rng.dirichlet(np.full(7, 0.5), n))
    return logits, torch.tensor(rng.integers(0, 7, n)), shares


def naive_row(z: list[float], label: int, recipe: Recipe, n: list[float], progress: float) -> float:
    """What a row costs under one label, from the formulas."""
    spread = [1 / 7] * 7
    lifted = list(z)
    if recipe.loss == "balanced_softmax":
        lifted = [z[j] + recipe.logit_tau * math.log(n[j] / sum(n)) for j in range(7)]
        powers = [n[j] ** recipe.logit_tau for j in range(7)]
        spread = [power / sum(powers) for power in powers]
    if recipe.loss == "ldam":
        constant = recipe.ldam_margin * min(n) ** 0.25
        lifted[label] -= constant / n[label] ** 0.25
    total = sum(math.exp(value) for value in lifted)
    p = [math.exp(value) / total for value in lifted]
    cost = [-math.log(q) for q in p]
    if recipe.loss == "focal":
        cost = [(1 - p[j]) ** recipe.focal_gamma * cost[j] for j in range(7)]
    smoothing = recipe.label_smoothing
    value = (1 - smoothing) * cost[label] + smoothing * sum(spread[j] * cost[j] for j in range(7))
    raw = [1.0] * 7
    if recipe.loss == "weighted":
        raw = [1 / rows for rows in n]
    if recipe.loss == "effective" or (recipe.loss == "ldam" and progress >= 0.8):
        raw = [(1 - recipe.effective_beta) / (1 - recipe.effective_beta**rows) for rows in n]
    return value * raw[label] * sum(n) / sum(raw[j] * n[j] for j in range(7))


def naive(logits: Tensor, shares: Tensor, recipe: Recipe, progress: float) -> float:
    rows = []
    for z, t in zip(logits.tolist(), shares.tolist(), strict=True):
        rows.append(sum(t[c] * naive_row(z, c, recipe, COUNTS.tolist(), progress) for c in range(7)))
    return sum(rows) / len(rows)


def one_hot(labels: Tensor) -> Tensor:
    return torch.eye(7, dtype=torch.float64)[labels]


def test_recipes_know_the_same_names() -> None:
    assert set(config.LOSSES) == set(LOSSES)


@pytest.mark.parametrize("progress", [0.0, 0.9])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", NAMES)
def test_against_the_formulas(name: str, smoothing: float, progress: float) -> None:
    logits, labels, shares = batch()
    recipe = recipe_of(name, smoothing)
    loss = loss_of(recipe, COUNTS, progress)
    assert loss(logits, labels).item() == pytest.approx(naive(logits, one_hot(labels), recipe, progress), rel=1e-6)
    assert loss(logits, shares).item() == pytest.approx(naive(logits, shares, recipe, progress), rel=1e-6)
    assert loss(logits, one_hot(labels)).item() == pytest.approx(loss(logits, labels).item(), rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_by_finite_differences(name: str, smoothing: float) -> None:
    logits, labels, shares = batch(4)
    loss = loss_of(recipe_of(name, smoothing), COUNTS, 0.9)
    for target in (labels, shares):
        assert torch.autograd.gradcheck(lambda z, t=target: loss(z, t), (logits.clone().requires_grad_(),))


@pytest.mark.parametrize("name", NAMES)
def test_float32_in_float32_out(name: str) -> None:
    logits, labels, shares = batch()
    loss = loss_of(recipe_of(name, 0.1), COUNTS, 0.9)
    for target in (labels, shares.float()):
        value = loss(logits.float(), target)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(loss(logits, target).item(), rel=1e-5)


# The first class has logit ln 2 and the others 0, so that its probability is 2 / 8.
TWICE = torch.tensor([[math.log(2), 0, 0, 0, 0, 0, 0]], dtype=torch.float64)
EVEN = torch.zeros(1, 7, dtype=torch.float64)
SIXTEEN = torch.tensor([16.0, 1.0, 16.0, 16.0, 16.0, 16.0, 16.0])


@pytest.mark.parametrize(
    ("name", "logits", "label", "counts", "expected"),
    [
        ("cross_entropy", TWICE, 0, SIXTEEN, math.log(4)),
        ("focal", TWICE, 0, SIXTEEN, (3 / 4) ** 2 * math.log(4)),
        ("focal", TWICE, 1, SIXTEEN, (7 / 8) ** 2 * math.log(8)),
        # 97 rows, 7 classes: weights 97 / (7 * 16) and 97 / 7.
        ("weighted", TWICE, 0, SIXTEEN, 97 / 112 * math.log(4)),
        ("weighted", TWICE, 1, SIXTEEN, 97 / 7 * math.log(8)),
        # Shares of the rows are what zero logits stand for.
        ("balanced_softmax", EVEN, 1, SIXTEEN, math.log(97)),
        ("balanced_softmax", EVEN, 0, SIXTEEN, math.log(97 / 16)),
        # Margins 0.5 for one row, 0.25 for sixteen.
        ("ldam", EVEN, 1, SIXTEEN, math.log(1 + 6 * math.exp(0.5))),
        ("ldam", EVEN, 0, SIXTEEN, math.log(1 + 6 * math.exp(0.25))),
    ],
)
def test_values_worked_by_hand(name: str, logits: Tensor, label: int, counts: Tensor, expected: float) -> None:
    loss = loss_of(replace(PLAIN, loss=name), counts, 0.0)
    assert loss(logits, torch.tensor([label])).item() == pytest.approx(expected, rel=1e-6)


def test_effective_numbers_worked_by_hand() -> None:
    """With beta 1/2 one row counts as 1, two as 3/2, three as 7/4."""
    weights = effective_number(torch.tensor([1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0]), 0.5)
    assert (weights / weights[0]).tolist() == pytest.approx([1, 2 / 3, *[4 / 7] * 5])


def test_weights_are_one_on_average() -> None:
    for weights in (inverse_frequency(COUNTS), effective_number(COUNTS, 0.999), effective_number(COUNTS, 0.9999)):
        assert (weights * COUNTS).sum() / COUNTS.sum() == pytest.approx(1, rel=1e-6)
        assert weights.argmax() == 1
        assert weights.argmin() == 3
    assert inverse_frequency(COUNTS).tolist() == pytest.approx([28_709 / 7 / rows for rows in COUNTS.tolist()])


def test_effective_number_lies_between_no_weights_and_inverse_frequency() -> None:
    assert effective_number(COUNTS, 0.0).tolist() == [1.0] * 7
    assert effective_number(COUNTS, 1 - 1e-9).tolist() == pytest.approx(inverse_frequency(COUNTS).tolist(), rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_batches_average_to_the_whole_set(name: str) -> None:
    """The mean is over rows, so that the gradient of batches is on average that of the set."""
    logits, labels, _ = batch(12)
    loss = loss_of(recipe_of(name), COUNTS, 0.9)
    parts = [loss(logits[i : i + 3], labels[i : i + 3]) for i in range(0, 12, 3)]
    assert torch.stack(parts).mean().item() == pytest.approx(loss(logits, labels).item(), rel=1e-9)


def test_what_pytorch_has_gives_the_same() -> None:
    logits, labels, shares = batch()
    for smoothing in (0.0, 0.1):
        reference = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
        ours = loss_of(recipe_of("cross_entropy", smoothing), COUNTS, 0.0)
        for target in (labels, shares):
            assert torch.equal(ours(logits, target), reference(logits, target))
    for name, weights in (("weighted", inverse_frequency(COUNTS)), ("effective", effective_number(COUNTS, 0.9995))):
        reference = torch.nn.CrossEntropyLoss(weights.double(), reduction="sum")
        ours = loss_of(recipe_of(name), COUNTS, 0.0)
        for target in (labels, shares):
            assert ours(logits, target).item() == pytest.approx(reference(logits, target).item() / len(logits))


AT_ZERO = {
    "focal": "focal_gamma",
    "balanced_softmax": "logit_tau",
    "effective": "effective_beta",
    "ldam": "ldam_margin",
}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_at_zero_they_are_cross_entropy(smoothing: float) -> None:
    logits, labels, shares = batch()
    reference = loss_of(recipe_of("cross_entropy", smoothing), COUNTS, 0.0)
    for name, setting in AT_ZERO.items():
        ours = loss_of(replace(recipe_of(name, smoothing), **{setting: 0.0}), COUNTS, 0.0)
        for target in (labels, shares):
            assert ours(logits, target).item() == pytest.approx(reference(logits, target).item(), rel=1e-6)


def best_answer(posterior: Tensor, recipe: Recipe) -> Tensor:
    """Logits of least expected loss, where a face bears each label as often as ``posterior`` says."""
    loss = loss_of(recipe, COUNTS, 0.0)
    logits = torch.zeros(1, 7, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(logits, posterior.unsqueeze(0))
        value.backward()
        return value

    optimizer.step(closure)
    return logits.detach()[0]


@pytest.mark.parametrize("name", ["cross_entropy", "weighted", "effective", "focal", "balanced_softmax"])
def test_smoothing_keeps_the_best_answer(name: str) -> None:
    """Happy or neutral, hardly disgust: smoothing spread evenly over weighted classes would say disgust."""
    posterior = torch.tensor([0.08, 0.004, 0.05, 0.42, 0.046, 0.05, 0.35], dtype=torch.float64)
    without = best_answer(posterior, recipe_of(name, 0.0))
    smoothed = best_answer(posterior, recipe_of(name, 0.2))
    assert smoothed.argsort().tolist() == without.argsort().tolist()


def test_balanced_softmax_answers_as_if_classes_were_even() -> None:
    """Without the shift its logits are those of the posterior divided by the classes' shares."""
    posterior = torch.tensor([0.2, 0.1, 0.1, 0.2, 0.1, 0.1, 0.2], dtype=torch.float64)
    logits = best_answer(posterior, replace(PLAIN, loss="balanced_softmax"))
    expected = posterior / COUNTS
    assert torch.softmax(logits, 0).tolist() == pytest.approx((expected / expected.sum()).tolist(), abs=1e-4)


def test_ldam_weights_classes_after_four_fifths() -> None:
    recipe = replace(PLAIN, loss="ldam")
    rare, common = torch.tensor([1]), torch.tensor([3])
    before, after = (loss_of(recipe, COUNTS, progress) for progress in (0.79, 0.8))
    weights = effective_number(COUNTS, recipe.effective_beta)
    assert (after(EVEN, rare) / before(EVEN, rare)).item() == pytest.approx(weights[1].item())
    assert (after(EVEN, common) / before(EVEN, common)).item() == pytest.approx(weights[3].item())


@pytest.mark.parametrize("name", NAMES)
def test_a_class_without_rows(name: str) -> None:
    """Votes may name it all the same; nothing becomes infinite, and other classes count as they would without it."""
    counts = COUNTS.clone()
    counts[1] = 0
    logits, labels, shares = batch()
    for progress in (0.0, 1.0):
        loss = loss_of(recipe_of(name, 0.1), counts, progress)
        for target in (labels, shares):
            z = logits.clone().requires_grad_()
            value = loss(z, target)
            value.backward()
            assert torch.isfinite(value)
            assert z.grad is not None
            assert torch.isfinite(z.grad).all()


def test_weights_of_a_class_without_rows() -> None:
    counts = torch.tensor([10.0, 0.0, 10.0, 10.0, 10.0, 10.0, 20.0])
    assert inverse_frequency(counts).tolist() == pytest.approx([70 / 60, 0, *[70 / 60] * 4, 70 / 120])
    assert effective_number(counts, 0.9)[1] == 0
    # Of the margins the largest is that of the rarest class that has rows.
    loss = loss_of(replace(PLAIN, loss="ldam"), counts, 0.0)
    assert loss(EVEN, torch.tensor([0])).item() == pytest.approx(math.log(1 + 6 * math.exp(0.5)))
    assert loss(EVEN, torch.tensor([1])).item() == pytest.approx(math.log(1 + 6 * math.exp(0.5)))


@given(
    st.sampled_from(NAMES),
    st.floats(0, 5),
    st.lists(st.floats(-300, 300, width=32), min_size=7, max_size=7),
    st.integers(0, 6),
    st.sampled_from([0.0, 0.1]),
)
@settings(max_examples=150, deadline=None)
def test_far_logits_stay_finite(name: str, gamma: float, row: list[float], label: int, smoothing: float) -> None:
    recipe = replace(recipe_of(name, smoothing), focal_gamma=gamma)
    z = torch.tensor([row], requires_grad=True)
    value = loss_of(recipe, COUNTS, 1.0)(z, torch.tensor([label]))
    value.backward()
    assert value.item() >= 0
    assert math.isfinite(value.item())
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_rows_may_be_counted_in_parts() -> None:
    """Votes give a class half a row."""
    counts = torch.tensor([2.5, 0.5, 3.0, 1.0, 1.0, 1.0, 1.0])
    assert inverse_frequency(counts).tolist() == pytest.approx([10 / 7 / rows for rows in counts.tolist()])
    assert (effective_number(counts, 0.9) * counts).sum() == pytest.approx(10)
