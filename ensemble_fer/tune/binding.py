"""What a study is bound to: trials of two searches in one study would be neither's."""

from __future__ import annotations

from typing import Any

import optuna

from ensemble_fer.errors import UsageError

BOUND = "tunes"


def bind(study: optuna.Study, wanted: dict[str, Any]) -> None:
    """Write down what a study is for, or check that it is what it was begun for.

    Parameters
    ----------
    study : optuna.Study
    wanted : dict
        Names to JSON values.

    Raises
    ------
    UsageError
        The study was begun for something else; says what differs.
    """
    if BOUND not in study.user_attrs:
        if study.get_trials(deepcopy=False):
            raise UsageError(
                f"study {study.study_name!r} holds trials of another program. Give another --name or --storage."
            )
        study.set_user_attr(BOUND, wanted)
    # Read again: of two that begin a study at once, one wins.
    before = study.user_attrs[BOUND]
    differences = [
        f"{name}: {_shown(before.get(name))}, now {_shown(wanted.get(name))}"
        for name in dict.fromkeys([*before, *wanted])
        if before.get(name) != wanted.get(name)
    ]
    if differences:
        raise UsageError(
            f"study {study.study_name!r} was begun for something else. It has " + "; ".join(differences) + ". "
            "Give the same as before to go on with it. Another search needs a --name of its own: the automatic one "
            "says no more than model, resampling, spaces and seed."
        )


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
