"""What a study would cost on this machine, before anything is trained."""

from __future__ import annotations

from functools import lru_cache

from ensemble_fer.config import Recipe, resolve_recipe
from ensemble_fer.data.importing import load_faces
from ensemble_fer.data.synthetic import TRAINING_COUNTS, class_counts
from ensemble_fer.models import build
from ensemble_fer.models.cost import flops
from ensemble_fer.resample.planning import plan
from ensemble_fer.runtime import check_threads, cpu_count
from ensemble_fer.store import Store
from ensemble_fer.study.cells import cells_of
from ensemble_fer.study.done import is_done
from ensemble_fer.study.plan import DRAWN, Arm, Study
from ensemble_fer.study.searching import trials_of
from ensemble_fer.train.loop import steps_of
from ensemble_fer.train.timing import seconds_a_step
from ensemble_fer.types import CLASSES

BACKWARD = 3
"""A training step costs about three times what saying something of its faces costs."""
TIMED_FACES, REPEATS = 8, 2
SLOW = 0.5
"""Seconds of a step of so few faces from which whole batches take too long to be timed."""
PIXELS = 48 * 48


def forecast(store: Store, study: Study, *, jobs: int = 1, threads: int = 1) -> dict:
    """Runs, operations and hours of a study.

    Counted are the steps of training, not scoring, which adds some per cent; an arm that stops early or combines others
    counts as written in the file.

    Parameters
    ----------
    jobs, threads : int
        As for ``run_study``; the hours are those of one run at a time divided by ``jobs``, or by as many as the
        processors have threads for.

    Returns
    -------
    dict
        ``runs``, ``done`` (of them, already in the store), ``ensembles``, ``flop`` (multiplications and additions) and
        ``hours`` of what is to be done, ``arms``: for each ``of, runs, done, rows, steps, flop, hours``.
    """
    check_threads(threads)
    counts = _counts(store, study)
    known, searches = store.refs("run"), store.refs("tuning")
    arms = []
    at_once = max(1, min(jobs, cpu_count() // threads))
    cells = [cell for cell in cells_of(study) if not cell.worker]
    for arm in study.arms:
        own = [cell for cell in cells if cell.what is arm]
        done = sum(is_done(store, study, cell, searches if arm.search else known) for cell in own)
        recipe = resolve_recipe(**arm.recipe)
        rows = _rows(study, arm, counts)
        # Of a search all its trials, as if none were cut short.
        steps = steps_of(recipe, rows)[1] * trials_of(arm)
        faces = steps * recipe.batch_size
        left = len(own) - done
        arms.append(
            {
                "of": arm.name,
                "runs": len(own),
                "done": done,
                "rows": rows,
                "steps": steps,
                "flop": 2 * BACKWARD * _multiplications(recipe.model) * faces * left,
                "hours": _seconds_a_face(recipe.model, recipe.optimizer, recipe.batch_size, threads)
                * faces
                * left
                / 3600
                / at_once,
            }
        )
    return {
        "runs": sum(arm["runs"] for arm in arms),
        "done": sum(arm["done"] for arm in arms),
        "ensembles": len(cells) - sum(arm["runs"] for arm in arms),
        "flop": sum(arm["flop"] for arm in arms),
        "hours": sum(arm["hours"] for arm in arms),
        "arms": arms,
    }


def _counts(store: Store, study: Study) -> list[int]:
    """Training rows of each class of the official split; of FER2013 where the set is not there yet."""
    if study.data.startswith(DRAWN):
        return class_counts(int(study.data.removeprefix(DRAWN)))[0].tolist()
    if study.data in store.refs("data"):
        faces = load_faces(store.get("data", study.data))
        return faces.counts(faces.rows_of("Training"))
    return list(TRAINING_COUNTS)


def _rows(study: Study, arm: Arm, counts: list[int]) -> int:
    """About how many rows an arm trains on."""
    # The official training part is 80 % of all rows, K - 2 of K folds the others.
    share = (study.folds - 2) / study.folds / 0.8 if study.folds else 1.0
    here = [round(count * share) for count in counts]
    method = arm.resample.get("method", "none")
    classes = arm.resample.get("classes")
    codes = None if classes is None else tuple(CLASSES.index(name) for name in classes)
    return plan(here, method, pixels=PIXELS, target=arm.resample.get("target"), classes=codes).rows


@lru_cache(maxsize=64)
def _multiplications(model: str) -> int:
    return flops(build(model, 0.0))


@lru_cache(maxsize=64)
def _seconds_a_face(model: str, optimizer: str, batch: int, threads: int) -> float:
    """Of a step of a whole batch, in which a face takes less than in a small one; of slow networks of a small one."""
    recipe = Recipe(model=model, optimizer=optimizer)
    few = min(TIMED_FACES, batch)
    seconds = seconds_a_step(recipe, faces=few, repeats=REPEATS, threads=threads)
    if seconds > SLOW:
        return seconds / few
    return seconds_a_step(recipe, faces=batch, repeats=REPEATS, threads=threads) / batch
