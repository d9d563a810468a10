"""What a trial of ``tune`` does: train the recipe, and give the macro-F1 of its kept epoch on the select part."""

from __future__ import annotations

import warnings
from typing import Any

from ensemble_fer.config import Recipe
from ensemble_fer.errors import MissingError
from ensemble_fer.files import sha256_of
from ensemble_fer.models.paths import typed_path
from ensemble_fer.store import Store
from ensemble_fer.tune.worker import Candidate, FileChanged, Job, TrialDiverged


def train_candidate(candidate: Candidate) -> float:
    """Train the candidate's recipe and return the macro-F1 of the kept epoch on the select part.

    Goes on from a checkpoint in the candidate's folder. The test part is not read.

    Raises
    ------
    TrialPruned
        After an epoch whose macro-F1 is too low beside those of other trials.
    TrialDiverged
        The loss is no longer a number.
    FileChanged
        The network of one's own, or the weights, are not those that the study began with.
    EnsembleFerError
        The recipe cannot be trained here; memory included.
    """
    import torch

    from ensemble_fer.train import loop
    from ensemble_fer.train.device import set_threads
    from ensemble_fer.train.preparing import learn, prepare

    job = candidate.job
    set_threads(job.threads)

    def on_epoch(record: dict[str, Any]) -> None:
        candidate.report(record["epoch"], record["macro_f1"])

    def report(step: int, values: dict[str, Any]) -> None:
        candidate.tick(f"epoch {values.get('epoch', 0) + 1} of {candidate.recipe.epochs}, loss {values['loss']:.3f}")

    try:
        with warnings.catch_warnings():
            # A trial that is tried again may have another number of threads: its bits are not promised to anybody.
            warnings.simplefilter("ignore", loop.ResumedOtherwise)
            try:
                prepared = prepare(Store(job.store), candidate.recipe, data=job.data, quiet=True)
            except Exception:
                check_files(job, candidate.recipe)  # a file that is gone or torn now is not the recipe's fault
                raise
            check_files(job, candidate.recipe, prepared.spec)
            learned = learn(prepared, candidate.folder, device=job.device, report=report, on_epoch=on_epoch)
        state = learned[1]
        return state.scores[state.best_epoch - 1]
    except loop.Diverged as error:
        raise TrialDiverged(str(error).partition(".")[0]) from None
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def check_files(job: Job, recipe: Recipe, found: dict[str, Any] | None = None) -> None:
    """Raise FileChanged unless the files that all trials are made of are those that the study began with.

    ``found`` holds the sha256 of what was read; by default the files are read.
    """
    for key, sha256 in job.files.items():
        what = key.removesuffix("_sha256")
        named = getattr(recipe, what)
        now = _sha256_of(named.rpartition(":")[0] if what == "model" else named) if found is None else found.get(key)
        if now != sha256:
            raise FileChanged(
                f"the file of {what} {named} was changed during study {job.study!r}, or is gone, and all its trials "
                "are to be of the same. Put it back and give the same command, or begin another study with --name."
            )


def _sha256_of(path: str) -> str | None:
    """Of a file as it is now; None where it cannot be read."""
    try:
        return sha256_of(typed_path(path))
    except (OSError, MissingError):
        return None
