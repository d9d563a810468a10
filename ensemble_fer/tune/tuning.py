"""From a request to a stored search: bind the study, let processes work on it, keep the best recipe and pictures."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble_fer.devices import choose_device
from ensemble_fer.errors import EnsembleFerError, UsageError
from ensemble_fer.locking import locked
from ensemble_fer.store import Artifact, Store, artifact_id, check_name
from ensemble_fer.tune.planning import automatic_name, base_recipe, first_points, methods_of, number_of_trials
from ensemble_fer.tune.spaces import Space, parse_spaces

if TYPE_CHECKING:
    from ensemble_fer.tune.slots import Slots
    from ensemble_fer.tune.worker import Job, Objective

KIND = "tuning"
# Raised when the same request gives another search than before.
TUNING_VERSION = 1


def tune(
    store: Store,
    *,
    space: str | Sequence[str],
    model: str | None = None,
    trials: int | None = None,
    recipe: str | Path | None = None,
    sampler: str | None = None,
    pruner: str | None = None,
    storage: str | None = None,
    workers: int = 1,
    name: str | None = None,
    timeout: float | None = None,
    seed: int = 0,
    data: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    interval: int = 20,
    grace: int = 120,
    quiet: bool = False,
    objective: Objective | None = None,
    **flags: Any,
) -> Artifact:
    """Search for the recipe with the highest macro-F1 on the select part.

    Answered from disk where the same search was finished before; goes on where it was begun. The test part is not read.

    Parameters
    ----------
    store : Store
    space : str or sequence of str
        Names of ``SPACES``, ``optimizer,schedule``, or one of ``PUBLISHED``.
    model : str, optional
        What is trained: the recipe's by default, or that of a published grid.
    trials : int, optional
        Trials that are complete or pruned in the end, all sittings together. A grid has all its points by default.
    recipe : path, optional
        A TOML recipe that is tuned: it holds the values of all keys that the space does not set.
    sampler : str, optional
        ``tpe`` (the default), ``random``, or ``grid`` (the default, and the only one, of published grids).
    pruner : str, optional
        ``hyperband`` (the default of tpe and random), ``median`` or ``none`` (the default of grids, whose points are to
        be compared with each other).
    storage : str, optional
        Address of a database as SQLAlchemy takes it, for several machines; by default an SQLite file in the store.
    workers : int
        Processes. With more than one, call this from under ``if __name__ == "__main__":`` in a script.
    name : str, optional
        Name of the study and reference of the result; model, space and seed by default.
    timeout : float, optional
        Seconds after which no trial is begun any more. The result is of the trials that are done then.
    seed : int
        Of the sampler; that of the trainings is the recipe's.
    data : str, optional
        Name of an imported set.
    device, threads
        As in ``train``; the threads are divided among the workers, and the GPUs where there are several.
    interval, grace : int
        Seconds between heartbeats of a running trial, and without one until it counts as dead. On this machine a trial
        whose process has died is found at once.
    quiet : bool
        Draw no progress.
    objective : callable, optional
        What a trial does instead of training: a function of a ``tune.worker.Candidate`` that returns a score.
    **flags
        Recipe keys that stand above the file, ``epochs=5`` for instance.

    Returns
    -------
    Artifact of kind ``tuning``: ``best.toml`` (which ``train --recipe`` takes), ``trials.json``, ``trials.csv``,
    ``importance.png``, ``slices.png``.

    Raises
    ------
    UsageError
        An unknown name, or a study that was begun for something else.
    EnsembleFerError
        No trial came to its end; says why the last one failed. Or the database is damaged or cannot be written.
    KeyboardInterrupt
        Interrupted; the same call goes on.
    """
    names = parse_spaces(space)
    base = base_recipe(names, recipe, model=model, **flags)
    searched = Space(names, base)
    sampler, pruner = methods_of(names, sampler, pruner)
    fixed = first_points(searched, sampler)
    trials = number_of_trials(trials, fixed if sampler == "grid" else None)
    name = check_name(name or automatic_name(base, names, seed))
    if workers < 1:
        raise UsageError(f"workers is {workers}; expected 1 or more.")
    choose_device(device)

    from ensemble_fer.data.importing import identity_images
    from ensemble_fer.looks import note_choosing
    from ensemble_fer.train.preparing import prepare
    from ensemble_fer.tune.storage import shown_url, sqlite_file, sqlite_url
    from ensemble_fer.tune.trouble import explained
    from ensemble_fer.tune.worker import Job

    folder = store.root.absolute() / "tune" / name
    url = storage or sqlite_url(folder / "study.db")
    sqlite_file(url)
    prepared = prepare(store, base, data=data, quiet=quiet)
    searched = replace(searched, recipe=prepared.recipe)
    bound = {
        "data": prepared.data.id,
        "split": prepared.split.name,
        "resampling": prepared.rows.title,
        "inputs": prepared.inputs,
        "space": list(names),
        **{key: value for key, value in prepared.spec.items() if key != "recipe"},
        **prepared.spec["recipe"],
        "sampler": sampler,
        "pruner": pruner,
        "sampler_seed": seed,
    }
    spec = {"study": name, "tunes": bound, "trials": trials, "tuning_version": TUNING_VERSION}
    if storage is not None:
        spec["storage"] = shown_url(storage)
    inputs = prepared.inputs
    done = store.find(KIND, spec, inputs)
    if done is not None:
        store.set_ref(KIND, name, done.id)
        return done
    select = identity_images(store, prepared.data)[prepared.select_rows]
    note_choosing(store, select, artifact_id(KIND, spec, inputs))
    files = {key: value for key, value in prepared.spec.items() if key.endswith("_sha256")}
    data_id, data_name = prepared.data.id, prepared.faces.name
    del prepared, select  # with several workers the faces are in memory often enough

    job = Job(
        url=url,
        study=name,
        folder=store.root.absolute() / "unfinished" / f"tune-{name}",
        space=searched,
        trials=trials,
        fixed=tuple(fixed),
        sampler=sampler,
        pruner=pruner,
        seed=seed,
        store=store.root.absolute(),
        data=data_id,
        files=files,
        device=device,
        threads=threads,
        interval=interval,
        grace=grace,
    )
    with explained(url, job.way_out):
        slots = search(job, bound, workers=workers, timeout=timeout, quiet=quiet, objective=objective)
        overview = slots.overview()
        if not overview.over:
            if not overview.done:
                raise EnsembleFerError(f"no trial of study {name!r} was done in time. The same command goes on.")
            spec["trials"] = overview.done
        made = store.put(KIND, spec, inputs, lambda into: _write(into, job, data_name, slots, workers), name=name)
    shutil.rmtree(job.folder, ignore_errors=True)
    return made


def search(
    job: Job,
    bound: dict[str, Any],
    *,
    workers: int = 1,
    timeout: float | None = None,
    quiet: bool = False,
    objective: Objective | None = None,
) -> Slots:
    """Run a study to its end, or to the end of its time; its slots.

    Parameters
    ----------
    job : Job
    bound : dict
        What the study is bound to.
    workers, timeout, quiet, objective
        As in ``tune``.

    Raises
    ------
    UsageError
        The study was begun for something else, or has more trials than this asks for.
    EnsembleFerError
        No trial came to its end.
    """
    from ensemble_fer.tune.binding import bind
    from ensemble_fer.tune.processes import work_together
    from ensemble_fer.tune.results import best_of, last_reason, rows_of
    from ensemble_fer.tune.slots import count_done
    from ensemble_fer.tune.training import train_candidate
    from ensemble_fer.tune.trouble import explained, refuse_emptied
    from ensemble_fer.tune.watching import watched
    from ensemble_fer.tune.worker import open_study, sqlite_lock, work

    objective = objective or train_candidate
    with explained(job.url, job.way_out):
        with locked(sqlite_lock(job.url)):
            refuse_emptied(job.url, job.way_out)
            study, _ = open_study(job, create=True)
            bind(study, bound)
        done = count_done(study)
        if done > job.trials:
            raise UsageError(
                f"study {job.study!r} has {done} finished trials already, more than {job.trials}. "
                f"Give --trials {done} or more, or another --name."
            )
        until = None if timeout is None else time.time() + timeout
        job = replace(job, begin=len(study.get_trials(deepcopy=False)), until=until)
        study, slots = open_study(job)
        with watched(slots, job.study, quiet=quiet) as tick:
            if slots.overview().over:
                pass
            elif workers == 1:
                work(job, objective, tick=tick)
            else:
                work_together(job, objective, min(workers, job.trials), tick=tick)
        rows = rows_of(slots.trials())
        if slots.overview().over and best_of(rows) is None:
            raise EnsembleFerError(
                f"no trial of study {job.study!r} came to its end ({len(rows)} were begun). "
                f"The last that failed: {last_reason(rows)}"
            )
    return slots


def _write(folder: Path, job: Job, data: str, slots: Slots, workers: int) -> dict[str, Any]:
    """The files of a finished search; its metrics."""
    from ensemble_fer.runtime import machine
    from ensemble_fer.tune.figures import importance_figure, slices_figure
    from ensemble_fer.tune.results import (
        best_of,
        best_toml,
        importance_of,
        rows_of,
        slices_of,
        trials_csv,
        trials_json,
    )

    trials = slots.trials()
    rows = rows_of(trials)
    best = best_of(rows)
    if best is None:
        raise EnsembleFerError(f"no trial of study {job.study!r} is complete yet. The same command goes on.")
    counts = {state: sum(row["state"] == state for row in rows) for state in ("complete", "pruned", "failed")}
    finished = counts["complete"] + counts["pruned"]
    importance = importance_of(slots.study)
    (folder / "best.toml").write_text(best_toml(job.space.recipe, best, job.study, data, finished), encoding="utf-8")
    (folder / "trials.json").write_text(trials_json(rows), encoding="utf-8")
    (folder / "trials.csv").write_text(trials_csv(rows), encoding="utf-8")
    title = f"{job.study}: {finished} trials"
    importance_figure(importance, folder / "importance.png", title=title, complete=counts["complete"])
    slices_figure(slices_of(trials, rows), folder / "slices.png", title=title)
    return {
        "name": job.study,
        "model": job.space.recipe.model,
        "space": list(job.space.names),
        "sampler": job.sampler,
        "pruner": job.pruner,
        "trials": finished,
        **counts,
        "restarted": sum(row["state"] in ("killed", "interrupted") for row in rows),
        "given_up": slots.overview().given_up,
        "best": {key: best[key] for key in ("number", "value", "best_epoch", "epochs", "seconds", "params", "changes")},
        "importance": importance,
        "trial_seconds": round(sum(row["seconds"] or 0.0 for row in rows), 1),
        "workers": workers,
        "machine": machine(),
    }
