"""Sets made wrong on purpose: what leaks is known, and everything made from them says so."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble_fer.config import resolve_recipe
from ensemble_fer.data.derived import leaks_of
from ensemble_fer.data.importing import load_faces
from ensemble_fer.data.splits import split_of
from ensemble_fer.data.synthetic import synth_data
from ensemble_fer.data.twins import twins_of
from ensemble_fer.errors import SplitMisuse, UsageError
from ensemble_fer.leaderboard import leaderboard
from ensemble_fer.report import evaluate
from ensemble_fer.store import Artifact, Store
from ensemble_fer.study.leaking import fuse_leaky, leaky_data, memory
from ensemble_fer.train import train

QUICK = {"model": "compact", "epochs": 2, "epoch_rows": 128, "batch_size": 64, "augmentation": "none"}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("leaks"))


@pytest.fixture(scope="module")
def data(store: Store) -> Artifact:
    return synth_data(store, rows=400, name="drawn")


@pytest.fixture(scope="module")
def runs(store: Store, data: Artifact) -> list[Artifact]:
    sets = [leaky_data(store, data, method=method, division="own") for method in ("ros", "smote")]
    return [train(store, resolve_recipe(**QUICK), data=made.id, quiet=True) for made in sets]


def sources(made: Artifact) -> np.ndarray:
    return made.arrays("lineage.npz")["source"]


@pytest.mark.parametrize("method", ["none", "ros", "smote", "smote_tomek"])
def test_every_row_of_a_leaky_set_is_a_face_or_made_from_one(store: Store, data: Artifact, method: str) -> None:
    made, honest = leaky_data(store, data, method=method, division="one"), load_faces(data)
    faces, source = load_faces(made), sources(made)
    np.testing.assert_array_equal(faces.labels, honest.labels[source])
    same = (faces.images == honest.images[source]).all((1, 2))
    assert same.all() if method in ("none", "ros") else 0.3 < same.mean() < 1
    # A mixture is nearer to the face that it counts for than to most others.
    distance = np.abs(faces.images[~same].astype(int) - honest.images[source[~same]]).mean((1, 2))
    other = np.abs(faces.images[~same].astype(int) - honest.images[(source[~same] + 97) % len(honest)]).mean((1, 2))
    assert (distance < other).mean() > 0.9 if len(distance) else True
    parts = np.bincount(faces.usage, minlength=3)[:3] / len(faces)
    np.testing.assert_allclose(parts, [0.8, 0.1, 0.1], atol=0.04)
    assert leaks_of(store, made) == (f"resampled before the split ({method})",)
    assert leaky_data(store, data, method=method, division="one").id == made.id


def test_one_division_puts_a_face_in_the_same_part_of_each_set_and_its_own_does_not(
    store: Store, data: Artifact
) -> None:
    def parts(method: str, division: str) -> np.ndarray:
        made = leaky_data(store, data, method=method, division=division)
        first = np.unique(sources(made), return_index=True)[1]
        return load_faces(made).usage[first]

    np.testing.assert_array_equal(parts("ros", "one"), parts("smote", "one"))
    assert (parts("ros", "own") == parts("smote", "own")).mean() < 0.9
    seeds = [leaky_data(store, data, method="none", division="own", seed=seed).id for seed in (0, 1)]
    assert seeds[0] != seeds[1]


def test_twins_of_a_leaky_set_are_the_rows_of_one_photograph(store: Store, data: Artifact) -> None:
    made = leaky_data(store, data, method="ros", division="one")
    _, twins = twins_of(store, made)
    _, honest = twins_of(store, data)
    source = sources(made)
    together = honest.groups[source]
    np.testing.assert_array_equal(twins.groups, np.unique(together, return_index=True)[1][
        np.unique(together, return_inverse=True)[1]])  # fmt: skip
    _, split = split_of(store, made)
    known = twins.have_twin_in(split.test_rows, split.train_rows)
    copied = np.isin(source[split.test_rows], source[split.train_rows])
    assert known[copied].all()
    assert copied.mean() > 0.4


def test_a_run_on_a_leaky_set_is_stamped_and_stands_apart(store: Store, runs: list[Artifact]) -> None:
    said = evaluate(store, f"run:{runs[0].id}", quiet=True)
    assert said.report.protocol.leaky
    assert "LEAKY (resampled before the split, each set divided on its own (ros))" in said.report.protocol.line()
    board = leaderboard(store, data=store.by_id("data", runs[0].inputs[0]).id)
    assert board["rows"] == []
    assert [row["id"] for row in board["leaky"]] == [runs[0].id]


def test_the_fused_score_counts_what_any_member_knows(store: Store, runs: list[Artifact]) -> None:
    made = fuse_leaky(store, runs, name="leaky.fused")
    own = [split_of(store, store.by_id("data", run.inputs[0]))[1] for run in runs]
    assert made.metrics["rows"] == sum(len(split.test_rows) for split in own)
    assert made.metrics["protocol"]["leaky"]
    alone = [evaluate(store, f"run:{run.id}", quiet=True).predictions.twin_in_train.mean() for run in runs]
    said = made.arrays("predictions.npz")["twin_in_train"].mean()
    assert said > max(alone)
    for run, split in zip(runs, own, strict=True):
        (row,) = leaderboard(store, data=run.inputs[0])["leaky"]
        assert row["test"]["rows"] == len(split.test_rows), "a member's score is its own, not the fused one"
    assert fuse_leaky(store, runs, name="leaky.fused").id == made.id


def test_only_a_leaky_set_may_start_from_a_network_of_another_one(
    store: Store, data: Artifact, runs: list[Artifact]
) -> None:
    recipe = resolve_recipe(**QUICK, weights=f"run:{runs[0].id}")
    with pytest.raises(SplitMisuse, match="trained on another data set"):
        train(store, recipe, data=data.id, quiet=True)
    other = leaky_data(store, data, method="smote", division="own")
    made = train(store, recipe, data=other.id, quiet=True)
    leaks = made.metrics["protocol"]["leaks"]
    assert leaks[-1] == "started from a network that has trained on rows that test here"


def test_memory_is_measured_on_what_was_trained(store: Store, runs: list[Artifact]) -> None:
    assert 0.1 < memory(store, runs[0]) <= 1
    faces = load_faces(store.by_id("data", runs[0].inputs[0]))
    assert memory(store, runs[0], at_most=10) * 10 == pytest.approx(round(memory(store, runs[0], at_most=10) * 10))
    assert len(faces) > 400


def test_leaky_sets_are_made_of_honest_ones_only(store: Store, data: Artifact) -> None:
    made = leaky_data(store, data, method="none", division="own")
    with pytest.raises(UsageError, match="leaky already"):
        leaky_data(store, made, method="ros", division="own")
    with pytest.raises(UsageError, match="'both'"):
        leaky_data(store, data, method="ros", division="both")
