"""How differently the members of an ensemble err."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ensemble_fer.ensemble.members import check_together
from ensemble_fer.types import Predictions


def diversity(members: Sequence[Predictions]) -> dict:
    """How differently the members err.

    Returns
    -------
    dict
        ``pairs``: for each pair ``{"a", "b", "disagreement", "double_fault"}``, the shares of rows on which
        they say different classes, and on which both are wrong; ``disagreement`` and ``double_fault``, their
        means (None for one member); ``oracle``, the share of rows on which at least one is right, which no
        rule that picks among the members' answers can exceed.

    Raises
    ------
    SplitMisuse, UsageError
        As ``combine``.
    """
    check_together(members)
    said = np.stack([p.logits.argmax(axis=1) for p in members])
    wrong = said != members[0].labels
    pairs = [
        {
            "a": members[i].source,
            "b": members[j].source,
            "disagreement": float((said[i] != said[j]).mean()),
            "double_fault": float((wrong[i] & wrong[j]).mean()),
        }
        for i in range(len(members))
        for j in range(i + 1, len(members))
    ]
    means = {
        key: float(np.mean([pair[key] for pair in pairs])) if pairs else None
        for key in ("disagreement", "double_fault")
    }
    return {"pairs": pairs, **means, "oracle": float(1 - wrong.all(axis=0).mean())}
