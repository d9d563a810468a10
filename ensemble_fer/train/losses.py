"""Losses by name.

``LOSSES[name](counts, recipe, progress)`` gives a function of logits float32 [n, 7] and labels to a scalar. Labels are
classes int64 [n], or shares of the classes float [n, 7] (votes of annotators, mixed faces). One rule serves both: **the
loss of shares is the mean of the losses of the classes, by share**, so that a share of 1 is a plain label. A new loss
is one function, which says what a row would cost under each label, and one line in ``LOSSES``.

The mean is over the rows of the batch, with class weights too: these are 1 on average over the rows that were counted,
so that the gradient of a batch is that of the whole set on average. (PyTorch divides by the sum of the batch's weights
where labels are classes, which makes rows count for more in batches without rare classes; and by n where they are
shares.)

Label smoothing takes its share from the label and spreads it so that the best answer for a row stays the best: evenly,
within the row and with the weight of its label; for ``balanced_softmax`` as the classes are spread in training.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from ensemble_fer.config import Recipe
from ensemble_fer.types import N_CLASSES

Loss = Callable[[Tensor, Tensor], Tensor]
DEFERRED = 0.8
"""Share of the training after which ``ldam`` weights the classes: their 160th of 200 epochs."""


def loss_of(recipe: Recipe, counts: Tensor, progress: float) -> Loss:
    """The recipe's loss.

    Parameters
    ----------
    recipe : Recipe
    counts : Tensor
        float32 [7], how many rows each class has, which losses that look at frequency go by. ``train`` counts rows by
        their own labels, also where shares of votes are trained on; other callers may give sums of shares, since
        nothing here needs whole numbers.
    progress : float
        Share of the training that is done, 0 to 1; ``ldam`` changes on the way.
    """
    return LOSSES[recipe.loss](counts, recipe, progress)


def plain(counts: Tensor, recipe: Recipe, progress: float) -> Loss:
    """Cross entropy, with the recipe's label smoothing (Szegedy et al. 2016, section 7)."""
    return lambda logits, labels: cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)


def weighted(counts: Tensor, recipe: Recipe, progress: float) -> Loss:
    """Cross entropy with weights inverse to frequency."""
    return _weighted(inverse_frequency(counts), recipe)


def effective(counts: Tensor, recipe: Recipe, progress: float) -> Loss:
    """Cross entropy with weights inverse to the effective number of rows (Cui et al. 2019, proposition 1)."""
    return _weighted(effective_number(counts, recipe.effective_beta), recipe)


def focal(counts: Tensor, recipe: Recipe, progress: float) -> Loss:
    """``-(1 - p)^gamma log p`` of the label's probability p (Lin et al. 2017, equation 4)."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        log_p = torch.log_softmax(logits, 1)
        # Kept off zero: there the power has no finite slope for gamma below 1, and nothing is left to learn.
        missed = (-torch.expm1(log_p)).clamp(min=1e-8)
        each = -(missed**recipe.focal_gamma) * log_p
        smoothing = recipe.label_smoothing
        return _mean((1 - smoothing) * each + smoothing * each.mean(1, keepdim=True), labels)

    return loss


def balanced_softmax(counts: Tensor, recipe: Recipe, progress: float) -> Loss:
    """Cross entropy of logits to which ``tau`` times the log of each class's share was added.

    Balanced softmax (Ren et al. 2020) where ``tau`` is 1; logit adjustment (Menon et al. 2021, equation 10) otherwise.
    A class without rows counts as one row.
    """
    shift = recipe.logit_tau * torch.log(counts.clamp(min=1) / counts.sum())
    # Spread evenly, smoothing would raise a rare class above others for every row, once the shift is left out.
    spread = torch.softmax(shift, 0)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        log_p = torch.log_softmax(logits + shift.to(logits.device), 1)
        return _mean(_smoothed(log_p, recipe.label_smoothing, spread.to(logits.device)), labels)

    return loss


def ldam(counts: Tensor, recipe: Recipe, progress: float) -> Loss:
    """Cross entropy with a margin of ``C / n^(1/4)`` taken off the label's logit (Cao et al. 2019, section 3).

    C is such that the rarest class has the margin ``ldam_margin``. After 80 % of the training the classes are weighted
    by their effective number (their deferred re-weighting).
    """
    rows = counts.clamp(min=1)
    rarest = rows[counts > 0].min()
    margins = recipe.ldam_margin * (rarest / rows).clamp(max=1) ** 0.25
    weights = effective_number(counts, recipe.effective_beta) if progress >= DEFERRED else None

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        # [n, label, class]: the logits under each label.
        lowered = logits.unsqueeze(1) - torch.diag(margins.to(logits.device))
        log_p = torch.log_softmax(lowered, 2)
        smoothing = recipe.label_smoothing
        each = -(1 - smoothing) * log_p.diagonal(dim1=1, dim2=2) - smoothing * log_p.mean(2)
        return _mean(each, labels, weights)

    return loss


LOSSES: dict[str, Callable[[Tensor, Recipe, float], Loss]] = {
    "cross_entropy": plain,
    "weighted": weighted,
    "effective": effective,
    "focal": focal,
    "balanced_softmax": balanced_softmax,
    "ldam": ldam,
}


def inverse_frequency(counts: Tensor) -> Tensor:
    """Weights float32 [7] in proportion to 1 / rows, of mean 1 over the rows; 0 for a class without rows."""
    return _of_mean_one(counts.double(), counts)


def effective_number(counts: Tensor, beta: float) -> Tensor:
    """Weights float32 [7] in proportion to (1 - beta) / (1 - beta^rows), of mean 1 over the rows.

    0 for a class without rows.
    """
    rows = counts.double()
    return _of_mean_one((1 - beta**rows) / (1 - beta), counts)


def _of_mean_one(numbers: Tensor, counts: Tensor) -> Tensor:
    weights = torch.where(counts > 0, 1 / numbers.clamp(min=1e-12), 0.0)
    return (weights * (counts.sum() / (counts * weights).sum())).float()


def _weighted(weights: Tensor, recipe: Recipe) -> Loss:
    even = torch.full((N_CLASSES,), 1 / N_CLASSES)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        each = _smoothed(torch.log_softmax(logits, 1), recipe.label_smoothing, even.to(logits.device))
        return _mean(each, labels, weights)

    return loss


def _smoothed(log_p: Tensor, smoothing: float, spread: Tensor) -> Tensor:
    """Cross entropy [n, 7] under each label, of which smoothing spreads a share over the classes."""
    return -(1 - smoothing) * log_p - smoothing * (log_p * spread).sum(1, keepdim=True)


def _mean(each: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over rows of what each label would cost [n, 7], by the labels' shares and the classes' weights."""
    shares = labels if labels.is_floating_point() else one_hot(labels, N_CLASSES)
    if weights is not None:
        shares = shares * weights.to(each.device)
    return (shares * each).sum(1).mean()
