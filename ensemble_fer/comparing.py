"""Any two rows of the leaderboard beside each other, from stored predictions: nothing is looked at for it."""

from __future__ import annotations

from collections.abc import Sequence

from ensemble_fer.errors import MissingError, UsageError, unknown_name
from ensemble_fer.evaluate.pairs import compare_predictions
from ensemble_fer.evaluate.predictions import load_predictions
from ensemble_fer.report import evaluate, tta_for
from ensemble_fer.scoring import PREDICTIONS, find_source, stored
from ensemble_fer.store import Store
from ensemble_fer.types import Predictions, Role


def compare(store: Store, a: str, b: str, *, part: str | None = None, tta: str | Sequence[str] | None = None) -> dict:
    """Paired tests between two runs or ensembles of the same split.

    Parameters
    ----------
    a, b : str
        Names or ids of runs or ensembles.
    part : str, optional
        ``test`` or ``select``. By default the test part if both were evaluated there, else the select part. The test
        part is never looked at for a comparison.
    tta : str or two of them, optional
        Test-time augmentation of both, or of each; by default each one's own. One network can so be compared with
        itself.

    Returns
    -------
    dict
        As ``compare_predictions``, with ``part`` and of both sides ``{"name", "id", "tta", "stamp"}`` under ``a`` and
        ``b``.

    Raises
    ------
    UsageError
        An unknown name, part or augmentation.
    MissingError
        The test part was asked for, and one was not evaluated there.
    SplitMisuse
        They were not scored on the same rows.
    """
    if part not in (None, *list(Role)[1:]):
        raise unknown_name("part", str(part), (Role.TEST, Role.SELECT))
    sources = [find_source(store, name) for name in (a, b)]
    asked = [tta, tta] if tta is None or isinstance(tta, str) else list(tta)
    if len(asked) != 2:
        raise UsageError(f"{len(asked)} augmentations for two sides. Give one for both, or one for each.")
    ttas = [tta_for(source, own) for source, own in zip(sources, asked, strict=True)]
    tested = [stored(store, source, Role.TEST, own) for source, own in zip(sources, ttas, strict=True)]
    if part == Role.TEST and None in tested:
        lacking = [name for name, found in zip((a, b), tested, strict=True) if found is None]
        raise MissingError(
            f"not evaluated on the test part with this augmentation: {' and '.join(lacking)}; a comparison does not "
            f"look there. Evaluate first:  {'  and  '.join(f'ensemble-fer evaluate {name}' for name in lacking)}"
        )
    role = Role.TEST if part != Role.SELECT and None not in tested else Role.SELECT
    said: list[Predictions] = []
    for source, found, own in zip(sources, tested, ttas, strict=True):
        if role == Role.TEST and found is not None:
            said.append(load_predictions(found.file(PREDICTIONS)))
        else:
            said.append(evaluate(store, f"{source.kind}:{source.id}", tta=own, role=role, quiet=True).predictions)
    sides = {
        side: {"name": name, "id": source.id, "tta": own, "stamp": p.protocol.line()}
        for side, name, source, own, p in zip("ab", (a, b), sources, ttas, said, strict=True)
    }
    return {"part": str(role), **sides, **compare_predictions(*said)}
