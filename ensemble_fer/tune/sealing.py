"""A digest on every finished trial: a database does not notice that a bit of a score or of a parameter has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from ensemble_fer.errors import StoreError
from ensemble_fer.tune.storage import open_storage, sqlite_url
from ensemble_fer.tune.trouble import explained, refuse_emptied, way_out

SEAL = "sha256"
_SAID = ("slot", "attempt", "changes", "same_as", "retry_of", "reason", "seconds")
"""What a trial says of itself and is shown or gone by later."""


def seal(storage: RDBStorage, trial_id: int, state: TrialState, value: float | None) -> None:
    """Write the digest of a trial that is about to be told complete or pruned; afterwards nothing can be added."""
    storage.set_trial_user_attr(trial_id, SEAL, _digest(storage.get_trial(trial_id), state, value))


def damaged(trials: Iterable[FrozenTrial]) -> list[int]:
    """Numbers of the trials that are complete or pruned and not as they were told."""
    done = (trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED))
    return [trial.number for trial in done if trial.user_attrs.get(SEAL) != _digest(trial, trial.state, trial.value)]


def read_sealed(read: Callable[[], Sequence[FrozenTrial]], place: object, remedy: str) -> Sequence[FrozenTrial]:
    """All trials of a study, of which the finished ones are as they were told.

    Parameters
    ----------
    read : callable
        Gets them from the database.
    place : Path or str
        Of the database, for the message.
    remedy : str
        What to do.

    Raises
    ------
    StoreError
    """
    try:
        trials = read()
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # Optuna takes it for granted that what it has written can be read.
        raise StoreError(f"{place} is damaged: a trial cannot be read ({error!r}). {remedy}") from error
    if missing := sorted(set(range(len(trials))) - {trial.number for trial in trials}):
        raise StoreError(f"{place} is damaged: trial {missing[0]} is gone, and later ones are there. {remedy}")
    if numbers := damaged(trials):
        which = "trial " + ", ".join(map(str, numbers[:5])) + (" and others" if len(numbers) > 5 else "")
        raise StoreError(
            f"{place} is damaged: {which} is not what was written when it ended, or an earlier version of "
            f"ensemble-fer wrote it, without a digest. {remedy}"
        )
    return trials


def check_study_file(file: Path, study: str, store: Path) -> None:
    """Read a study's SQLite file whole; of one that was just begun there may be nothing in it yet.

    Parameters
    ----------
    file : Path
    study : str
        Its name.
    store : Path
        Root of the store it lies in.

    Raises
    ------
    StoreError
        It is damaged.
    EnsembleFerError
        It cannot be read now.
    """
    url = sqlite_url(file)
    remedy = way_out(url, study, store)
    refuse_emptied(url, remedy)
    if not file.stat().st_size:
        return
    with explained(url, remedy):
        storage = open_storage(url, interval=1, grace=1, create=False, remedy=remedy)
        with storage.engine.connect() as connection:
            (found,) = connection.exec_driver_sql("PRAGMA integrity_check(1)").first() or ("nothing was read",)
        if found != "ok":
            raise StoreError(f"{file} is damaged: {found}. {remedy}")
        if study in {known.study_name for known in storage.get_all_studies()}:
            read_sealed(partial(storage.get_all_trials, storage.get_study_id_from_name(study)), file, remedy)


def _digest(trial: FrozenTrial, state: TrialState, value: float | None) -> str:
    # A pruned trial has no value of its own: Optuna gives it that of its last epoch, which is among the scores.
    said = {
        "number": trial.number,
        "state": state.name,
        "value": repr(value) if state == TrialState.COMPLETE else "",
        "params": {name: repr(value) for name, value in trial.params.items()},
        "ranges": {name: repr(range_) for name, range_ in trial.distributions.items()},
        "scores": {str(epoch): repr(score) for epoch, score in trial.intermediate_values.items()},
        **{key: trial.user_attrs.get(key) for key in _SAID},
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
