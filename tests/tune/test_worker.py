"""One process and a study: what becomes of a trial, and how many there are in the end."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from ensemble_fer.config import resolve_recipe
from ensemble_fer.errors import UsageError
from ensemble_fer.tune.binding import bind
from ensemble_fer.tune.results import best_of, importance_of, ranked, rows_of
from ensemble_fer.tune.slots import DONE, KILLED, SURPLUS, Slots, count_done
from ensemble_fer.tune.spaces import Space
from ensemble_fer.tune.storage import Presence
from ensemble_fer.tune.worker import Candidate, Job, open_study, work
from tests.tune import toys


def run(job: Job, objective: Callable[[Candidate], float] = toys.toy) -> list[FrozenTrial]:
    slots = toys.begun(job)
    work(job, objective)
    return slots.study.get_trials()


def test_as_many_trials_as_asked_for_and_no_more(tmp_path: Path) -> None:
    first = run(toys.job_of(tmp_path, 5))
    assert [t.state for t in first] == [TrialState.COMPLETE] * 5
    again = run(toys.job_of(tmp_path, 5), toys.broken)
    assert [t.number for t in again] == [0, 1, 2, 3, 4]
    more = run(toys.job_of(tmp_path, 8, begin=5))
    assert [t.params for t in more[:5]] == [t.params for t in first]
    assert len(more) == 8


def test_the_same_seed_draws_the_same_and_goes_on_with_the_same(tmp_path: Path) -> None:
    unbroken = run(toys.job_of(tmp_path / "a", 12, sampler="tpe"))
    for trials in (4, 11, 12):
        resumed = run(toys.job_of(tmp_path / "b", trials, sampler="tpe"))
    other = run(toys.job_of(tmp_path / "c", 2, seed=1))
    assert [t.params for t in resumed] == [t.params for t in unbroken]
    assert all(t.params != u.params for t, u in zip(other, unbroken, strict=False))


def test_search_finds_what_is_best(tmp_path: Path) -> None:
    """The toy is best at a rate of 0.02: later trials come closer than the first ten, which are drawn evenly."""
    trials = run(toys.job_of(tmp_path, 24, sampler="tpe"))
    values = [t.value or 0.0 for t in trials]
    assert sum(values[16:]) / 8 > sum(values[:10]) / 10 + 0.05


def test_pruned_trials_are_finished_trials(tmp_path: Path) -> None:
    space = Space(("optimizer",), resolve_recipe(None, epochs=9))
    trials = run(toys.job_of(tmp_path, 14, space=space, pruner="hyperband"))
    pruned = [t for t in trials if t.state == TrialState.PRUNED]
    assert len(trials) == 14
    assert 3 <= len(pruned) < 14
    ends = {len(t.intermediate_values) for t in pruned}
    assert 1 in ends, "the first look is after a ninth of the epochs"
    assert ends <= {1, 3}
    rows = rows_of(trials)
    assert all(r["value"] == pytest.approx(max(r["scores"])) for r in rows)
    assert best_of(rows) == ranked(rows)[0]
    assert best_of(rows)["value"] == max(t.value for t in trials if t.state == TrialState.COMPLETE)  # type: ignore[index]


def test_a_failed_trial_is_drawn_anew_and_the_study_goes_on(tmp_path: Path) -> None:
    trials = run(toys.job_of(tmp_path, 12), toys.half_broken)
    failed = [t for t in trials if t.state == TrialState.FAIL]
    assert failed
    assert all(t.user_attrs["reason"] == "MemoryError: too large a rate" for t in failed)
    assert sum(t.state in DONE for t in trials) <= 12
    for trial in failed:
        tries = [t for t in trials if t.user_attrs["slot"] == trial.user_attrs["slot"]]
        assert len({str(t.params) for t in tries}) == len(tries) <= 3
    row = rows_of(failed)[0]
    assert (row["state"], row["value"]) == ("failed", None)


def test_where_all_fail_the_study_ends_early(tmp_path: Path) -> None:
    job = toys.job_of(tmp_path, 50)
    trials = run(job, toys.broken)
    assert len(trials) == 10
    slots = open_study(job)[1]
    assert slots.overview().over
    # Another sitting tries again.
    assert not open_study(toys.job_of(tmp_path, 50, begin=len(trials)))[1].overview().over


def test_a_point_of_a_grid_that_raises_is_tried_once(tmp_path: Path) -> None:
    space = Space(("batch",), resolve_recipe(None))
    job = toys.job_of(tmp_path, 4, space=space, fixed=tuple(space.points()), sampler="grid")
    trials = run(job, toys.broken)
    assert [t.params["batch_size"] for t in trials] == [32, 64, 128, 256]


def test_a_training_that_diverges_counts_as_pruned(tmp_path: Path) -> None:
    trials = run(toys.job_of(tmp_path, 3), toys.diverging)
    assert [t.state for t in trials] == [TrialState.PRUNED] * 3
    assert rows_of(trials)[0]["reason"] == "the loss became nan at step 7"
    assert best_of(rows_of(trials)) is None


def test_an_interrupted_trial_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    job = toys.job_of(tmp_path, 2)
    slots = toys.begun(job)
    with pytest.raises(KeyboardInterrupt):
        work(job, toys.resuming)
    folder = next(tmp_path.glob("0-*"))
    assert (folder / "checkpoint").read_text() == "half done"
    with pytest.raises(KeyboardInterrupt):
        work(job, toys.resuming)  # ends the first, and is interrupted in the second
    assert not folder.exists()
    work(job, toys.resuming)
    rows = rows_of(slots.trials())
    assert [(r["slot"], r["state"], r["retry_of"]) for r in rows] == [
        (0, "interrupted", None),
        (0, "complete", 0),
        (1, "interrupted", None),
        (1, "complete", 2),
    ]
    assert rows[0]["params"] == rows[1]["params"]


def test_a_recipe_that_was_tried_is_not_tried_again(tmp_path: Path) -> None:
    ran = []

    def counted(candidate: Candidate) -> float:
        ran.append(candidate.recipe.sampling)
        candidate.report(1, 0.5)
        return 0.5

    trials = run(toys.job_of(tmp_path, 9, space=Space(("sampling",), resolve_recipe(None))), counted)
    assert sorted(ran) == ["balanced", "shuffled"]
    assert len([t for t in trials if t.state == TrialState.COMPLETE]) == 9
    assert len(ranked(rows_of(trials))) == 2
    assert all(t.intermediate_values == {1: 0.5} for t in trials)


def test_a_study_is_bound_to_what_it_tunes(tmp_path: Path) -> None:
    study = toys.begun(toys.job_of(tmp_path, 1)).study
    with pytest.raises(UsageError, match=r"It has toy: True, now nothing; data: nothing, now abc\. .*--name"):
        bind(study, {"data": "abc"})
    bind(study, {"toy": True})
    foreign = open_study(toys.job_of(tmp_path, 1, study="foreign"), create=True)[0]
    foreign.add_trial(create_trial(value=0.5))
    with pytest.raises(UsageError, match="another program"):
        bind(foreign, {"toy": True})


def claimed(slots: Slots, token: str) -> FrozenTrial:
    found = slots.claim(token)
    assert found is not None
    return found


@pytest.mark.parametrize("locking", [True, False], ids=["file lock", "row locks"])
def test_a_trial_whose_process_died_is_run_again_with_what_it_had_drawn(tmp_path: Path, locking: bool) -> None:
    job = toys.job_of(tmp_path, 1)
    slots = toys.begun(job)
    slots.lock = slots.lock if locking else None
    with Presence(slots.workers) as dying:
        trial = claimed(slots, dying.token)
        slots.storage.set_trial_user_attr(trial._trial_id, "slot", 0)
        assert slots.claim("another") is None, "it is alive"
    again = claimed(slots, "another")
    assert again.user_attrs["retry_of"] == trial.number
    before = slots.study.get_trials()[trial.number]
    assert (before.state, before.user_attrs["ended"]) == (TrialState.FAIL, KILLED)


def test_a_trial_of_another_machine_is_dead_without_heartbeats(tmp_path: Path) -> None:
    slots = toys.begun(toys.job_of(tmp_path, 1, interval=1, grace=60))
    slots.lock = None  # as with a server: a process that this machine does not know may live elsewhere
    trial = claimed(slots, "elsewhere-1")
    assert slots.claim("here") is None
    with slots.storage.engine.begin() as connection:
        connection.exec_driver_sql("update trial_heartbeats set heartbeat = datetime('now', '-61 seconds')")
    slots._checked_heartbeats = 0.0
    again = claimed(slots, "here")
    assert (again.number, again.user_attrs["retry_of"]) == (1, trial.number)
    # The other machine comes back: what it tells is too late.
    with pytest.raises(ValueError, match="Cannot tell a FAIL trial"):
        slots.study.tell(trial.number, 0.9)
    assert count_done(slots.study) == 0


def test_without_a_lock_the_first_trial_of_a_slot_counts(tmp_path: Path) -> None:
    slots = toys.begun(toys.job_of(tmp_path, 2))
    slots.lock = None
    first, second = slots._add(0, []), slots._add(0, [])
    assert not slots._take(0, second)
    assert slots._take(0, first)
    assert not slots._take(0, first), "taken twice"
    assert [t.user_attrs.get("ended") for t in slots.study.get_trials()] == [None, SURPLUS]
    assert claimed(slots, "me").user_attrs["slot"] == 1
    assert slots.claim("me") is None
    assert [t.number for t in slots.trials()] == [0, 2]


def test_a_trial_that_kills_its_process_over_and_over_is_given_up(tmp_path: Path) -> None:
    slots = toys.begun(toys.job_of(tmp_path, 2, most_kills=3))
    for _ in range(3):
        with Presence(slots.workers) as dying:
            assert claimed(slots, dying.token).user_attrs["slot"] == 0
    assert claimed(slots, "me").user_attrs["slot"] == 1
    overview = slots.overview()
    assert (overview.done, overview.given_up, overview.running, overview.over) == (0, 1, 1, False)


def test_no_trial_is_begun_after_the_time(tmp_path: Path) -> None:
    assert run(toys.job_of(tmp_path, 3, until=0.0)) == []


def test_importance_names_what_matters(tmp_path: Path) -> None:
    dice = random.Random(3)

    space = Space(("regularization",), resolve_recipe(None))
    job = toys.job_of(tmp_path, 20, space=space, sampler="random")
    slots = toys.begun(job)
    assert importance_of(slots.study) == {}
    work(job, lambda candidate: candidate.recipe.dropout + dice.uniform(0, 1e-3))
    found = importance_of(slots.study)
    assert next(iter(found)) == "dropout"
    assert sum(found.values()) == pytest.approx(1)
