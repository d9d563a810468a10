"""Does a graph give the numbers of the networks it was made from? Measured with onnxruntime, on real faces."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ensemble_fer.ensemble import Combination, plain
from ensemble_fer.errors import ParityError, UsageError
from ensemble_fer.export.graph import output_names
from ensemble_fer.export.session import BATCH, OUTPUT, Graph
from ensemble_fer.models import Member
from ensemble_fer.train.prediction import predict_rows
from ensemble_fer.types import softmax

TOLERANCE = 1e-5
BATCHES = (1, 7, 64)
SPREAD = 449
"""Rows tried at the small batches: 64 batches of seven and one face left over."""

Outputs = dict[str, NDArray[np.float64]]


def _nothing(n: int = 1) -> None:
    """Progress that nobody watches."""


def torch_probabilities(
    members: Mapping[str, nn.Module],
    images: NDArray[np.uint8],
    *,
    combination: Combination | None = None,
    tta: str = "none",
    advance: Callable[[int], None] = _nothing,
) -> Outputs:
    """What the graph of these members should give, from torch.

    Logits in float32 by each member's own forward, or by ``predict_rows`` where it is to see several crops; all after
    them in float64 by ``combination``, which knows nothing of the fused module.

    Parameters
    ----------
    images : uint8 [n, 48, 48] or [n, 96, 96, 3]
    combination : Combination, optional
        The mean of probabilities by default.
    tta : str
        As ``predict_rows`` has it.
    advance : callable
        Called with the number of faces after each batch of each member.

    Returns
    -------
    dict of float64 [n, 7]
        By output name, ``probabilities`` first.
    """
    by = combination or plain("mean", len(members))
    logits = [_logits_of(name, member, images, tta, advance) for name, member in members.items()]
    each = [softmax(z / temperature) for z, temperature in zip(logits, by.temperatures, strict=True)]
    return {OUTPUT: softmax(by(np.stack(logits))), **dict(zip(output_names(members).values(), each, strict=True))}


def _logits_of(
    name: str, member: nn.Module, images: NDArray[np.uint8], tta: str, advance: Callable[[int], None]
) -> NDArray[np.float64]:
    """Logits of one member, computed in float32."""
    member.eval()
    if isinstance(member, Member) and tta != "none":
        return predict_rows(member, images, tta, advance=advance).astype(np.float64)
    parts = []
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        with torch.inference_mode():
            logits = member(torch.from_numpy(batch.copy()))
        if logits.dtype != torch.float32:
            raise UsageError(f"member {name} gives {logits.dtype}; parity is measured against float32.")
        parts.append(logits.numpy().astype(np.float64))
        advance(len(batch))
    return np.concatenate(parts)


def flipped(expected: NDArray, found: NDArray) -> NDArray[np.bool_]:
    """Rows whose most probable class differs, bool [n].

    Where either side has several classes at exactly the same highest value, its choice among them says nothing:
    such a row is a flip only if no class is highest on both sides. A row that is not a number is always one.
    """
    highest = (expected == expected.max(axis=1, keepdims=True)) & (found == found.max(axis=1, keepdims=True))
    return ~highest.any(axis=1)


def measure(
    graph: Graph,
    expected: Outputs,
    images: NDArray[np.uint8],
    *,
    spread: int = SPREAD,
    advance: Callable[[int], None] = _nothing,
) -> dict:
    """Largest difference and flips of a graph against the expected probabilities.

    Every row goes through in batches of 64; rows spread evenly over all of them go through at batch 1 and 7 too,
    where onnxruntime takes other paths through its matrix products.

    Parameters
    ----------
    expected : dict of float64 [n, 7]
        By output name, from ``torch_probabilities``.
    images : uint8 [n, 48, 48]
    spread : int
        Rows at batch 1 and 7 (all, if there are fewer).

    Returns
    -------
    dict
        ``rows_checked``, ``max_abs_diff``, ``flips`` over all outputs and batches; ``outputs`` and ``batches``
        with the same for each; ``worst_row`` (position among the images).
    """
    some = np.unique(np.linspace(0, len(images) - 1, min(spread, len(images))).round().astype(int))
    outputs = {name: {"max_abs_diff": 0.0, "flips": 0} for name in expected}
    batches: dict[str, dict] = {}
    worst, worst_row = 0.0, None
    flipped_rows: set[int] = set()
    for batch in BATCHES:
        rows = np.arange(len(images)) if batch == max(BATCHES) else some
        found = graph.run(images[rows], batch)
        advance(len(rows))
        if set(found) != set(expected):
            raise ParityError(f"the graph has outputs {sorted(found)}; expected {sorted(expected)}.")
        entry = batches[str(batch)] = {"rows": len(rows), "max_abs_diff": 0.0, "flips": 0}
        for name, said in found.items():
            gap = np.abs(said - expected[name][rows]).max(axis=1)
            gap[np.isnan(gap)] = np.inf
            flips = flipped(expected[name][rows], said)
            flipped_rows |= set(rows[flips].tolist())
            for summary in (entry, outputs[name]):
                summary["max_abs_diff"] = max(summary["max_abs_diff"], float(gap.max(initial=0.0)))
                summary["flips"] += int(flips.sum())
            if len(gap) and gap.max() > worst:
                worst, worst_row = float(gap.max()), int(rows[gap.argmax()])
    return {
        "rows_checked": len(images),
        "max_abs_diff": worst,
        "flips": len(flipped_rows),
        "worst_row": worst_row,
        "outputs": outputs,
        "batches": batches,
    }


def require_parity(parity: dict, rows: NDArray | None = None) -> dict:
    """The measurement itself if it is good enough.

    Parameters
    ----------
    parity : dict
        Of ``measure``.
    rows : int64 [n], optional
        Row ids of the images, to name the worst one.

    Raises
    ------
    ParityError
        A probability is off by more than 1e-5, a label flipped, or nothing was checked.
    """
    if parity["max_abs_diff"] <= TOLERANCE and parity["flips"] == 0 and parity["rows_checked"] > 0:
        return parity
    if parity["rows_checked"] == 0:
        raise ParityError("there are no rows to check the graph on; a graph that was not checked is not kept.")
    worst = parity["worst_row"]
    where = "" if worst is None else f", largest at row {worst if rows is None else rows[worst]}"
    each = "\n".join(
        f"  {name}: largest difference {o['max_abs_diff']:.2e}, {o['flips']} flips"
        for name, o in parity["outputs"].items()
    )
    raise ParityError(
        f"the graph does not give the numbers of torch on {parity['rows_checked']} rows: difference of probabilities "
        f"{parity['max_abs_diff']:.2e} (at most {TOLERANCE:.0e} allowed){where}; {parity['flips']} rows with another "
        f"label (none allowed).\n{each}\nNothing was stored. Look for a member that is not deterministic or not in "
        "float32; one lone flip at a small difference is a face whose two best classes are as good as equal."
    )
