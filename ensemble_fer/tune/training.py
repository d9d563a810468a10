"""What a trial of ``tune`` does: train the recipe, and give its best macro-F1 on the select part."""

from __future__ import annotations

import warnings
from typing import Any

from ensemble_fer.errors import EnsembleFerError
from ensemble_fer.store import Store
from ensemble_fer.tune.worker import Candidate, FileChanged, TrialDiverged


def train_candidate(candidate: Candidate) -> float:
    """Train the candidate's recipe and return the best macro-F1 of its epochs on the select part.

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
            prepared = prepare(Store(job.store), candidate.recipe, data=job.data, quiet=True)
            for key, sha256 in job.files.items():
                if prepared.spec.get(key) != sha256:
                    what = key.removesuffix("_sha256")
                    raise FileChanged(
                        f"the file of {what} {getattr(candidate.recipe, what)} was changed during study {job.study!r}, "
                        "whose trials are compared with each other. Put it back and give the same command, or "
                        "begin another study with --name."
                    )
            learned = learn(prepared, candidate.folder, device=job.device, report=report, on_epoch=on_epoch)
        return max(learned[1].scores)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise EnsembleFerError(
            f"out of memory with batch_size {candidate.recipe.batch_size}: {str(error).partition('.')[0]}"
        ) from None
    except loop.Diverged as error:
        raise TrialDiverged(str(error).partition(".")[0]) from None
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
