"""What every entry of METHODS must do."""

from __future__ import annotations

import inspect
import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from ensemble_fer.resample import METHODS, check_lineage, resample, run
from ensemble_fer.resample.planning import plan
from ensemble_fer.types import CLASSES, INJECTED, USAGES, FaceSet, Kind, Part, Resampling, Role, Split

SMALLEST = {name: {"target": 40} if method.target else {} for name, method in METHODS.items()}
DOCS = Path(__file__).parents[2] / "docs"

pytestmark = [
    pytest.mark.parametrize("name", METHODS),
    pytest.mark.filterwarnings("ignore::ensemble_fer.resample.ResamplingWarning"),
]


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    """Classes of different size among rows of other roles, with copies."""
    draw = np.random.default_rng(8)
    labels = draw.choice(7, 400, p=[0.1, 0.06, 0.14, 0.25, 0.15, 0.15, 0.15]).astype(np.uint8)
    images = np.clip(128 + 6 * labels[:, None, None] + draw.normal(0, 20, (400, 6, 6)), 0, 255).astype(np.uint8)
    images[50:60], labels[50:60] = images[60:70], labels[60:70]
    return FaceSet(images, labels, draw.integers(0, 3, 400), "battery")


@pytest.fixture(scope="module")
def split() -> Split:
    rows = np.random.default_rng(1).permutation(400)
    return Split("any", rows[:300], rows[300:350], rows[350:])


def made_by(name: str, faces: FaceSet, split: Split, seed: int = 0, **settings) -> Resampling:
    return resample(faces, split.train, name, seed=seed, **SMALLEST[name], **settings)


def test_every_row_has_training_parents_of_its_own_class(name, faces, split):
    made = made_by(name, faces, split)
    check_lineage(made, split)
    assert np.array_equal(faces.labels[made.parent_a], made.labels)
    assert np.array_equal(faces.labels[made.parent_b], made.labels)


def test_kinds_mean_what_they_say(name, faces, split):
    made = made_by(name, faces, split)
    plain = made.kind != Kind.SYNTHETIC
    augmented = made.kind == Kind.AUGMENTED
    assert np.array_equal(made.parent_a[plain], made.parent_b[plain])
    assert not made.weight[plain].any()
    assert ((made.weight >= 0) & (made.weight < 1)).all()
    originals = made.parent_a[made.kind == Kind.ORIGINAL]
    assert len(np.unique(originals)) == len(originals)
    assert set(np.unique(made.kind)) <= {Kind.ORIGINAL, Kind.DUPLICATE, Kind.SYNTHETIC, Kind.AUGMENTED}
    assert (made.kind == Kind.SYNTHETIC).any() == METHODS[name].mixes
    assert augmented.any() == METHODS[name].transforms == (made.transform is not None)
    if made.transform is not None:
        assert not made.transform[~augmented].any()
        assert made.transform[augmented].any(axis=1).all()
    assert (len(originals) < len(split.train)) == (METHODS[name].cleans or name in ("rus", "hybrid"))
    assert METHODS[name].over == (made.kind != Kind.ORIGINAL).any()


def test_pixels_stay_between_the_parents(name, faces, split):
    made = made_by(name, faces, split)
    pixels = made.pixels(faces.images)
    a, b = faces.images[made.parent_a], faces.images[made.parent_b]
    assert pixels.dtype == np.uint8
    # Between their darkest and their brightest pixel where faces are turned and moved.
    turned = made.kind == Kind.AUGMENTED
    a[turned] = a[turned].min(axis=(1, 2), keepdims=True)
    b[turned] = b[turned].max(axis=(1, 2), keepdims=True)
    assert (pixels >= np.minimum(a, b)).all()
    assert (pixels <= np.maximum(a, b)).all()


def test_the_same_seed_gives_the_same_and_another_one_another(name, faces, split):
    first, again, other = (made_by(name, faces, split, seed) for seed in (4, 4, 5))
    fields = ("kind", "parent_a", "parent_b", "weight", "labels", "transform")
    assert all(np.array_equal(getattr(first, f), getattr(again, f)) for f in fields)
    draws = name not in ("none", "tomek", "enn")
    same = len(first) == len(other) and all(np.array_equal(getattr(first, f), getattr(other, f)) for f in fields)
    assert same != draws


def test_nothing_depends_on_faces_outside_the_part(name, faces, split):
    alone = FaceSet(faces.images[split.train_rows], faces.labels[split.train_rows], np.zeros(300))
    there = made_by(name, faces, split)
    here = resample(alone, Part(np.arange(300), Role.TRAIN), name, **SMALLEST[name])
    assert np.array_equal(split.train_rows[here.parent_a], there.parent_a)
    assert np.array_equal(split.train_rows[here.parent_b], there.parent_b)
    assert np.array_equal(here.weight, there.weight)
    assert np.array_equal(here.pixels(alone.images), there.pixels(faces.images))


def test_the_account_can_be_stored_and_adds_up(name, faces, split):
    outcome = run(faces, split.train, name, **SMALLEST[name])
    account, made = outcome.account, outcome.resampling
    assert json.loads(json.dumps(account)) == account
    assert account["counts_before"] == faces.counts(split.train_rows)
    assert account["counts_after"] == made.counts()
    assert account["rows"] == len(made)
    kept = int((made.kind == Kind.ORIGINAL).sum())
    assert kept + account["synthetic"] + account["duplicates"] + account["augmented"] == len(made)
    assert account["injected"] == 0
    if not (METHODS[name].cleans and METHODS[name].mixes):
        assert kept == len(split.train) - account["removed"]


def test_the_plan_says_the_counts_ahead(name, faces, split):
    counts = faces.counts(split.train_rows)
    ahead = plan(counts, name, pixels=36, **SMALLEST[name])
    made = made_by(name, faces, split)
    assert ahead.counts_before == counts
    if ahead.exact:
        assert ahead.counts_after == made.counts()
    elif METHODS[name].shares:
        # Each row of a class that is filled has a share that is rounded by at most a half.
        off = np.abs(np.array(ahead.counts_after) - made.counts())
        assert (off <= np.where(np.array(counts) < max(counts), np.array(counts) / 2, 0)).all()
    else:
        assert METHODS[name].cleans
        assert all(most >= n for most, n in zip(ahead.counts_after, made.counts(), strict=True))
    assert ahead.rows == sum(ahead.counts_after)
    assert ahead.seconds < 5
    assert ahead.memory_mb > 10
    json.dumps(ahead.to_dict())


def test_naming_all_classes_is_the_same_as_naming_none(name, faces, split):
    if not METHODS[name].over:
        pytest.skip("adds no rows")
    everything, named = made_by(name, faces, split), made_by(name, faces, split, classes=list(CLASSES))
    assert np.array_equal(everything.parent_b, named.parent_b)
    assert np.array_equal(everything.weight, named.weight)
    assert np.array_equal(everything.pixels(faces.images), named.pixels(faces.images))


def test_injected_rows_are_told_apart_and_train_like_the_others(name, faces, split):
    usage = np.zeros(len(faces))
    usage[split.train_rows[::5]] = USAGES.index(INJECTED)
    mixed = FaceSet(faces.images, faces.labels, usage)
    made, plain = made_by(name, mixed, split), made_by(name, faces, split)
    foreign = np.isin(made.parent_a, split.train_rows[::5]) & (plain.kind == Kind.ORIGINAL)
    assert np.array_equal(made.kind, np.where(foreign, Kind.INJECTED, plain.kind))
    assert run(mixed, split.train, name, **SMALLEST[name]).account["injected"] == foreign.sum() > 0
    assert np.array_equal(made.pixels(faces.images), plain.pixels(faces.images))


def test_a_result_cannot_be_written_to(name, faces, split):
    made = made_by(name, faces, split)
    with pytest.raises(ValueError, match="read-only"):
        made.parent_a[0] = 1


def test_a_class_that_loses_most_is_warned_of_and_no_other(name, faces, split):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = made_by(name, faces, split)
    account = run(faces, split.train, name, **SMALLEST[name]).account
    assert [str(w.message) for w in caught] == account["warnings"]
    before = np.array(account["counts_before"])
    full = np.maximum(before, before.max()) if METHODS[name].over and not METHODS[name].target else before
    lost = [CLASSES[c] for c in range(7) if 2 * made.counts()[c] < full[c]]
    assert [text.split(" faces")[0].split()[-1] for text in account["warnings"]] == lost


def test_it_has_a_method_card_and_a_docstring(name):
    card = (DOCS / "methods" / f"{name}.md").read_text()
    for heading in ("## How to use", "## Suggested numbers", "## Technical detail", "## Source"):
        assert heading in card
    assert METHODS[name].summary
    assert inspect.getdoc(METHODS[name].run)
