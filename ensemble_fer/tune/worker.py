"""One process that works on a study: takes a trial, runs it, tells how it ended, until nothing is left.

What a trial does is a function, the objective; ``training.train_candidate`` is the one that ``tune`` uses. A test, or a
search over something else, gives another: any function of a ``Candidate`` that returns the score.
"""

from __future__ import annotations

import hashlib
import shutil
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, TrialPruned, UpdateFinishedTrialError
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from ensemble_fer.config import Recipe
from ensemble_fer.errors import UsageError
from ensemble_fer.tune.choosing import Params
from ensemble_fer.tune.slots import ERROR, INTERRUPTED, Slots, heartbeat
from ensemble_fer.tune.spaces import Space
from ensemble_fer.tune.storage import Presence, open_storage, shown_url, sqlite_file
from ensemble_fer.tune.trouble import explained, is_of_database, way_out


class TrialDiverged(Exception):
    """A training that ended in no number. The trial counts as pruned: that these parameters fail is known now."""


class FileChanged(UsageError):
    """What all trials are made of was changed during the study. Nothing is wrong with the trial."""


@dataclass(frozen=True)
class Job:
    """What a process needs to know to work on a study; plain values, so that it can be sent to one.

    Parameters
    ----------
    url, study : str
        Address of the database and name of the study in it.
    folder : Path
        For checkpoints of trials and the like, on this machine.
    space : Space
        What is searched, over the recipe that is tuned.
    trials : int
        How many are to be done in the study, all sittings and machines together.
    fixed : tuple of dict
        Parameters of the first trials; of all, where the sampler is grid.
    sampler, pruner : str
        Of ``planning.SAMPLERS`` and ``planning.PRUNERS``.
    seed : int
        Of the sampler.
    begin : int
        Number of the first trial of this sitting.
    store : Path
    data : str or None
    files : dict
        sha256 of the file of a network of one's own (``model_sha256``) and of weights, which no trial may find changed.
    device : str
    threads : int or None
    until : float or None
        Time (as ``time.time``) after which no trial is begun.
    interval, grace : int
        Seconds between heartbeats, and without one until a trial of another machine counts as dead.
    most_kills : int
        How often a trial may die with its process.
    """

    url: str
    study: str
    folder: Path
    space: Space
    trials: int
    fixed: tuple[Params, ...] = ()
    sampler: str = "tpe"
    pruner: str = "none"
    seed: int = 0
    begin: int = 0
    store: Path = Path("artifacts")
    data: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    device: str = "auto"
    threads: int | None = None
    until: float | None = None
    interval: int = 20
    grace: int = 120
    most_kills: int = 5

    @property
    def way_out(self) -> str:
        """What to do where the database is damaged."""
        return way_out(self.url, self.study, self.store)


class Candidate:
    """One trial as its objective sees it.

    Attributes
    ----------
    job : Job
    recipe : Recipe
        What to try.
    folder : Path
        For its checkpoint; made, kept while the trial may be tried again, removed when it has ended.
    tick : callable
        To be called often with a few words about where the trial stands.
    """

    def __init__(
        self, job: Job, recipe: Recipe, trial: optuna.Trial, folder: Path, tick: Callable[[str], None]
    ) -> None:
        self.job, self.recipe, self.folder, self.tick = job, recipe, folder, tick
        self._trial = trial

    def report(self, epoch: int, score: float) -> None:
        """Note the score of an epoch (1-based).

        Raises
        ------
        TrialPruned
            Others were so much better at this point that going on is not worth it.
        """
        self._trial.report(score, epoch)
        # After the last epoch nothing is saved by pruning, and the best epoch may be an earlier one.
        if epoch < self.recipe.epochs and self._trial.should_prune():
            raise TrialPruned


Objective = Callable[[Candidate], float]


def open_study(job: Job, *, create: bool = False) -> tuple[optuna.Study, Slots]:
    """The study of a job and its slots."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(job.url, interval=job.interval, grace=job.grace, create=create, remedy=job.way_out)
    options: dict[str, Any] = {"storage": storage, "study_name": job.study, "pruner": _pruner(job)}
    with explained(job.url, job.way_out):
        if create:
            study = optuna.create_study(direction="maximize", load_if_exists=True, **options)
        else:
            study = optuna.load_study(**options)
    lock = sqlite_lock(job.url)
    slots = Slots(
        study,
        storage,
        slots=job.trials,
        fixed=job.fixed,
        grid=job.sampler == "grid",
        begin=job.begin,
        lock=lock,
        place=str(sqlite_file(job.url) or shown_url(job.url)),
        remedy=job.way_out,
        workers=lock.with_suffix(".workers") if lock else job.folder / "workers",
        most_kills=job.most_kills,
    )
    return study, slots


def sqlite_lock(url: str) -> Path | None:
    """The file whose lock stands for an SQLite database; None for a server, which locks rows itself."""
    file = sqlite_file(url)
    return file and file.with_name(f"{file.name}.lock")


def work(
    job: Job,
    objective: Objective,
    *,
    tick: Callable[[str], None] = lambda text: None,
    patience: float = 0.5,
) -> None:
    """Take and run trials until the study is over, or the job's time is.

    Parameters
    ----------
    job : Job
    objective : callable
        Is given a ``Candidate`` and returns its score, a higher one being better. It may raise ``TrialPruned`` (which
        ``Candidate.report`` does), ``TrialDiverged``, or any exception: then the trial has failed, and the study goes
        on.
    tick : callable
        Called often, also while waiting for others.
    patience : float
        Seconds between looks while others run the last trials, which may fail yet.

    Raises
    ------
    KeyboardInterrupt
        From the objective or a signal; the trial is back among those to be done.
    EnsembleFerError
        The database could not be written, the disk is full, or a file that all trials need was changed; the trial will
        be tried again.
    """
    study, slots = open_study(job)
    with explained(job.url, job.way_out), Presence(slots.workers) as presence:
        while job.until is None or time.time() < job.until:
            claimed = slots.claim(presence.token)
            if claimed is not None:
                run_trial(job, objective, study, slots, claimed, tick)
            elif slots.overview().over:
                return
            else:
                tick("")
                time.sleep(patience)


def run_trial(
    job: Job,
    objective: Objective,
    study: optuna.Study,
    slots: Slots,
    claimed: FrozenTrial,
    tick: Callable[[str], None],
) -> None:
    """Run one trial that is ours, and tell how it ended."""
    folder = None
    with heartbeat(slots.storage, claimed._trial_id, job.interval):
        try:
            study.sampler = _sampler(job, claimed)
            trial = optuna.Trial(study, claimed._trial_id)
            changes = job.space.changes(trial)
            trial.set_user_attr("changes", changes)
            recipe = replace(job.space.recipe, **changes)
            folder = job.folder / f"{claimed.user_attrs['slot']}-{_digest(recipe.to_toml())}"
            value = _known(study, trial, changes)
            if value is None:
                folder.mkdir(parents=True, exist_ok=True)
                value = objective(Candidate(job, recipe, trial, folder, tick))
            slots.tell(claimed, TrialState.COMPLETE, float(value))
        except TrialPruned:
            slots.tell(claimed, TrialState.PRUNED)
        except TrialDiverged as error:
            slots.tell(claimed, TrialState.PRUNED, reason=str(error))
        except (KeyboardInterrupt, FileChanged) as error:
            slots.end(claimed, INTERRUPTED, str(error) or "it was interrupted")
            raise
        except UpdateFinishedTrialError:
            return  # it was taken for dead, and is another's now, with its checkpoint
        except Exception as error:
            if is_of_database(error):
                # Not the recipe's fault. Whatever can still be written: the trial is tried again in any case.
                with suppress(Exception):
                    slots.end(claimed, INTERRUPTED, "the database or the disk could not be written")
                raise
            slots.end(claimed, ERROR, f"{type(error).__name__}: {error}".splitlines()[0][:500])
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _known(study: optuna.Study, trial: optuna.Trial, changes: dict[str, Any]) -> float | None:
    """The value of a complete trial of the same recipe: trained again it would be the same."""
    for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if other.user_attrs.get("changes") == changes:
            for epoch, score in other.intermediate_values.items():
                trial.report(score, epoch)
            trial.set_user_attr("same_as", other.user_attrs.get("same_as", other.number))
            return other.value
    return None


def _sampler(job: Job, trial: FrozenTrial) -> BaseSampler:
    """A sampler whose draws follow from the seed, the slot and the attempt, whichever process asks."""
    attrs = trial.user_attrs
    seed = int(_digest(f"{job.seed}:{attrs['slot']}:{attrs['attempt']}"), 16) % 2**32
    if job.sampler != "tpe":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # Groups, since numbers that depend on a choice are drawn together with those that they occur with.
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def _pruner(job: Job) -> BasePruner:
    epochs = job.space.recipe.epochs
    if job.pruner == "hyperband":
        # The first look after a ninth of the epochs: a score after one of many says little.
        return HyperbandPruner(min_resource=max(1, epochs // 9), max_resource=epochs, reduction_factor=3)
    if job.pruner == "median":
        return MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // 9))
    return NopPruner()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
