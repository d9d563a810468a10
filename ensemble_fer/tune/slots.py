"""Which trial of a study runs next, so that N trials are done in the end however many processes come and go.

A study of N trials has N slots, 0 to N - 1; a grid has one for each point. A trial belongs to a slot for good, and a
slot is done when one of its trials is. What a slot needs follows from the trials in the database alone, so that nothing
has to be put right after a kill: whoever comes next sees that a slot has no living trial and makes it one, with the
parameters of the one that was killed. Where the database cannot lock a row (SQLite), the lock of a file makes claims
exclusive; elsewhere the first trial of a slot (its number is the database's) is the one that counts, and others are
withdrawn.
"""

from __future__ import annotations

import random
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from ensemble_fer.locking import locked
from ensemble_fer.tune.sealing import read_sealed, seal
from ensemble_fer.tune.storage import is_alive, sweep

# What ended a failed trial: its process died, somebody stopped it, training raised, or another had its slot.
KILLED, INTERRUPTED, ERROR, SURPLUS = "killed", "interrupted", "error", "surplus"
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
_LIVE = (*DONE, TrialState.RUNNING, TrialState.WAITING)

MOST_ERRORS = 3
"""Trials of a slot that may raise; each is drawn anew."""
MOST_ERRORS_IN_VAIN = 10
"""Trials that may raise before any trial of the study is done."""


@dataclass(frozen=True)
class Overview:
    """How a study stands.

    Parameters
    ----------
    done, running : int
        Slots that are done and that somebody works on.
    given_up : int
        Slots whose trials failed too often.
    slots : int
        All.
    """

    done: int
    running: int
    given_up: int
    slots: int

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.done + self.given_up == self.slots


class Slots:
    """The slots of one study, as one process sees them.

    Parameters
    ----------
    study : optuna.Study
    storage : RDBStorage
        That of the study.
    slots : int
        How many trials are to be done.
    fixed : sequence of dict
        Parameters of the first slots: all points of a grid, or what a search starts with.
    grid : bool
        Whether every slot is fixed: then a point that raised is not tried again in this sitting.
    begin : int
        Number of the first trial of this sitting; errors of earlier ones are forgotten.
    place, remedy : str
        Of the database, and what to do where it is damaged, for messages.
    lock : Path or None
        A file whose lock makes claims exclusive, where the database has no row locks.
    workers : Path
        Where processes of this machine show that they are alive.
    most_kills : int
        How often a trial may die with its process before it counts as what kills it.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: RDBStorage,
        *,
        slots: int,
        fixed: Sequence[dict[str, Any]],
        grid: bool,
        begin: int,
        place: str,
        remedy: str,
        lock: Path | None,
        workers: Path,
        most_kills: int = 5,
    ) -> None:
        self.study, self.storage, self.slots, self.fixed = study, storage, slots, fixed
        self.begin, self.lock, self.workers = begin, lock, workers
        self.place, self.remedy = place, remedy
        self.most_errors, self.most_kills = 1 if grid else MOST_ERRORS, most_kills
        self._checked_heartbeats = -float("inf")

    def overview(self) -> Overview:
        """How the study stands now."""
        return self._overview(self._by_slot())

    def claim(self, token: str) -> FrozenTrial | None:
        """A trial that is from now on this process's to run; None where there is none to begin now."""
        with locked(self.lock):
            by_slot = self._by_slot()
            if self.bury([t for trials in by_slot for t in trials if t.state == TrialState.RUNNING]):
                by_slot = self._by_slot()
            if self._overview(by_slot).over:
                return None
            idle = [s for s, trials in enumerate(by_slot) if self._needs_trial(trials)]
            if self.lock is None:
                # Without a lock others are choosing too; whoever comes second to a slot has made a trial in vain.
                random.shuffle(idle)
            for slot in idle:
                waiting = [t for t in by_slot[slot] if t.state == TrialState.WAITING]
                trial_id = waiting[0]._trial_id if waiting else self._add(slot, by_slot[slot])
                if self._take(slot, trial_id):
                    self.storage.set_trial_user_attr(trial_id, "worker", token)
                    return self.storage.get_trial(trial_id)
        return None

    def bury(self, running: Sequence[FrozenTrial]) -> bool:
        """Mark the trials of dead processes as failed: those of this machine at once, others after the grace period.

        Returns whether there may be any.
        """
        found = False
        for trial in running:
            token = trial.user_attrs.get("worker")
            alive = is_alive(self.workers, token) if token else None
            # Under the lock nobody is between taking a trial and signing it, and all sign in one folder.
            if alive is False or (alive is None and self.lock is not None):
                self.end(trial, KILLED, "its process was killed")
                found = True
        interval = self.storage.heartbeat_interval or 1
        if running and time.monotonic() - self._checked_heartbeats >= interval:
            self._checked_heartbeats = time.monotonic()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                optuna.storages.fail_stale_trials(self.study)
            found = True
        if self.lock is not None:
            sweep(self.workers)
        return found

    def end(self, trial: FrozenTrial, ended: str, reason: str) -> None:
        """Mark a trial as failed, unless it has ended meanwhile."""
        try:
            self.storage.set_trial_user_attr(trial._trial_id, "ended", ended)
            self.storage.set_trial_user_attr(trial._trial_id, "reason", reason)
            self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            pass

    def tell(self, trial: FrozenTrial, state: TrialState, value: float | None = None, reason: str = "") -> None:
        """Mark a trial as complete, with its score, or pruned, for a reason where it was not by the others.

        Raises
        ------
        UpdateFinishedTrialError
            It was taken for dead, and is another's now.
        """
        if reason:
            self.storage.set_trial_user_attr(trial._trial_id, "reason", reason)
        begun = trial.datetime_start or datetime.now()
        seconds = round((datetime.now() - begun).total_seconds(), 1)
        self.storage.set_trial_user_attr(trial._trial_id, "seconds", seconds)
        seal(self.storage, trial._trial_id, state, value)
        try:
            self.study.tell(trial.number, value, state=state)
        except ValueError:
            # The value is no number.
            if not self.storage.get_trial(trial._trial_id).state.is_finished():
                raise

    def trials(self) -> list[FrozenTrial]:
        """All trials of the study that were really begun.

        Raises
        ------
        StoreError
            One is not as it was told.
        """
        found = self._all()
        return [t for t in found if t.user_attrs.get("ended") != SURPLUS and t.state != TrialState.WAITING]

    def _all(self) -> list[FrozenTrial]:
        return [*read_sealed(partial(self.study.get_trials, deepcopy=False), self.place, self.remedy)]

    def _by_slot(self) -> list[list[FrozenTrial]]:
        """The trials of each slot, by number."""
        by_slot: list[list[FrozenTrial]] = [[] for _ in range(self.slots)]
        for trial in sorted(self._all(), key=lambda t: t.number):
            slot = trial.user_attrs.get("slot", self.slots)
            if slot < self.slots:
                by_slot[slot].append(trial)
        return by_slot

    def _overview(self, by_slot: list[list[FrozenTrial]]) -> Overview:
        done = sum(any(t.state in DONE for t in trials) for trials in by_slot)
        running = sum(any(t.state == TrialState.RUNNING for t in trials) for trials in by_slot)
        given_up = sum(self._given_up(trials) for trials in by_slot)
        in_vain = sum(self._raised(t) for trials in by_slot for t in trials)
        if not done and in_vain >= MOST_ERRORS_IN_VAIN:
            given_up = self.slots
        return Overview(done, running, given_up, self.slots)

    def _needs_trial(self, trials: list[FrozenTrial]) -> bool:
        if self._given_up(trials):
            return False
        living = [t for t in trials if t.state in _LIVE]
        return not living or living[0].state == TrialState.WAITING

    def _given_up(self, trials: list[FrozenTrial]) -> bool:
        if any(t.state in _LIVE for t in trials):
            return False
        kills = sum(t.state == TrialState.FAIL and t.user_attrs.get("ended", KILLED) == KILLED for t in trials)
        return sum(map(self._raised, trials)) >= self.most_errors or kills >= self.most_kills

    def _raised(self, trial: FrozenTrial) -> bool:
        raised = trial.state == TrialState.FAIL and trial.user_attrs.get("ended") == ERROR
        return raised and trial.number >= self.begin

    def _add(self, slot: int, former: list[FrozenTrial]) -> int:
        """A new trial of a slot, waiting: with fixed parameters, those of the one that was stopped, or none yet."""
        begun = [t for t in former if t.user_attrs.get("ended") != SURPLUS]
        attrs: dict[str, Any] = {"slot": slot, "attempt": len(begun)}
        params: dict[str, Any] = self.fixed[slot] if slot < len(self.fixed) else {}
        if begun and begun[-1].user_attrs.get("ended", KILLED) != ERROR:
            attrs["retry_of"] = begun[-1].number
            params = params or _parameters(begun[-1])
        trial = optuna.trial.create_trial(
            state=TrialState.WAITING, user_attrs=attrs, system_attrs={"fixed_params": params} if params else {}
        )
        # By the study's own view of the storage, which has to know a trial before parameters are asked for.
        return self.study._storage.create_new_trial(self.study._study_id, trial)

    def _take(self, slot: int, trial_id: int) -> bool:
        """Whether a waiting trial is ours now."""
        if self.lock is None:
            living = [t for t in self._by_slot()[slot] if t.state in _LIVE]
            own = next((t for t in living if t._trial_id == trial_id), None)
            if own is None or living[0]._trial_id != trial_id:
                if own is not None and own.state == TrialState.WAITING:
                    self.end(own, SURPLUS, "another process was first")
                return False
        # Before it runs, so that a trial whose process dies at once is found by its heartbeat all the same.
        self.storage.record_heartbeat(trial_id)
        try:
            return self.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False


def _parameters(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial was begun with: what was fixed for it, and what it had drawn."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


@contextmanager
def heartbeat(storage: RDBStorage, trial_id: int, interval: float) -> Iterator[None]:
    """Record every so many seconds that a trial is worked on."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(interval):
            try:
                storage.record_heartbeat(trial_id)
            except Exception:  # a database that is away for a moment: the next beat may reach it
                continue
        storage.remove_session()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def count_done(study: optuna.Study) -> int:
    """Trials of a study that are complete or pruned."""
    return len(study.get_trials(deepcopy=False, states=DONE))
