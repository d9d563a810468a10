"""A study's arms side by side: means and spreads over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ensemble_fer.study.cells import SEARCH

METRICS = ("accuracy", "macro_f1", "disgust_f1")


def summary(rows: Sequence[dict]) -> list[dict]:
    """What each arm and ensemble reached.

    Parameters
    ----------
    rows : sequence of dict
        As ``run_study`` gives them.

    Returns
    -------
    list of dict
        In the order of the arms, without searches: ``of``, ``kind``, ``done`` (runs), ``failed``, ``leaky``, and for
        the select part, and the test part where it was scored, ``{metric: {"mean", "spread", "each"}}``. The spread is
        the standard deviation between runs, None of a single one.
    """
    found = []
    for of in dict.fromkeys(row["of"] for row in rows if row["kind"] != SEARCH):
        own = [row for row in rows if row["of"] == of]
        line = {"of": of, "kind": own[0]["kind"], "done": sum("problem" not in row for row in own)}
        line["leaky"] = any(row.get("leaky") for row in own)
        line["failed"] = len(own) - line["done"]
        for part in ("select", "test"):
            scored = [row[part] for row in own if row.get(part)]
            if scored:
                line[part] = {metric: _over([_value(each, metric) for each in scored]) for metric in METRICS}
        found.append(line)
    return found


def _value(scored: dict, metric: str) -> float | None:
    if metric == "disgust_f1" and "per_class" in scored:
        own = scored["per_class"]["disgust"]
        return own["f1"] if own["support"] else None
    return scored.get(metric)


def _over(values: Sequence[float | None]) -> dict:
    known = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "spread": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "each": list(values),
    }
