"""A study's file stands for the runs it says, at each scale, and nothing that is misspelled passes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ensemble_fer.config import resolve_recipe
from ensemble_fer.errors import MissingError, UsageError
from ensemble_fer.resample.methods import METHODS
from ensemble_fer.study.cells import cells_of
from ensemble_fer.study.making import _combined
from ensemble_fer.study.plan import Arm
from ensemble_fer.study.reading import SCALES, read_study

FILE = """
title = "Which schedule?"
asks = "Does a cosine help?"
system = "C"
[recipe]
model = "compact"
[[stage]]
name = "schedules"
recipe = { learning_rate = 0.05 }
grid = { schedule = ["plateau", "cosine"], batch_size = [64, 128] }
[[stage]]
name = "balanced"
resample = [{ method = "none" }, { method = "hybrid", target = 3000 }, { method = "ros", classes = ["disgust"] }]
[[stage]]
name = "tuned"
start = "best of schedules"
recipe = { epochs = 2 }
[[ensemble]]
name = "pair"
of = ["balanced/none", "balanced/hybrid-3000"]
[scale.smoke]
data = "drawn:300"
seeds = [0]
recipe = { epochs = 1 }
keep = { batch_size = [64] }
[scale.small]
data = "fer2013"
seeds = [0, 1]
folds = 5
stages = ["balanced"]
"""


def written(tmp_path: Path, text: str = FILE) -> Path:
    path = tmp_path / "which.toml"
    path.write_text(text)
    return path


def test_the_arms_of_a_scale(tmp_path: Path) -> None:
    study = read_study(written(tmp_path))
    assert [arm.name for arm in study.arms] == [
        "schedules/plateau-batch_size=64", "schedules/cosine-batch_size=64",
        "balanced/none", "balanced/hybrid-3000", "balanced/ros-disgust", "tuned",
    ]  # fmt: skip
    assert study.arms[1].recipe == {
        "model": "compact", "learning_rate": 0.05, "epochs": 1, "schedule": "cosine", "batch_size": 64
    }  # fmt: skip
    assert study.arms[3] == Arm(
        "balanced/hybrid-3000",
        {"model": "compact", "epochs": 1},
        {"method": "hybrid", "target": 3000},
        own=frozenset({"epochs"}),
    )
    assert study.arms[5].start == "schedules"
    assert [blend.name for blend in study.blends] == ["pair"]
    assert len(list(study.cells())) == 6
    assert study.run_name("balanced/none", 0, "official") == "which.smoke.balanced.none-s0"


def test_seeds_and_folds(tmp_path: Path) -> None:
    study = read_study(written(tmp_path), "small")
    cells = list(study.cells())
    assert len(cells) == 3 * 2 * 5
    assert cells[1][1:] == (0, "kfold:5:1")
    assert study.run_name("balanced/none", 1, "kfold:5:3") == "which.small.balanced.none-s1-f3"
    assert len({study.run_name(arm.name, seed, split) for arm, seed, split in cells}) == len(cells)


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ("[recipe]", "[receipe]", "receipe"),
        ('start = "best of schedules"', 'start = "best of scedules"', "schedules"),
        ("keep = { batch_size = [64] }", "keep = { batchsize = [64] }", "no grid and no resampling has"),
        ("keep = { batch_size = [64] }", 'keep = { method = ["smoke"] }', "keep of method leaves none"),
        ("keep = { batch_size = [64] }", "keep = { batch_size = [65] }", "leaves none"),
        ("schedule = [", "scheduel = [", "scheduel"),
        ("target = 3000", 'target = "many"', "expected int"),
        ('title = "Which schedule?"', "", "lacks title"),
        ("[scale.smoke]", "[scale.smok]", "unknown scale"),
        ("[[stage]]", "[[stage", "not TOML"),
        ("keep = { batch_size = [64] }", 'keep = { schedule = "cosine" }', "expected a list"),
        ("seeds = [0]", "seeds = []", "one at least"),
        ("seeds = [0]", "seeds = [0, 0]", "different whole numbers"),
        ("seeds = [0]", 'seeds = ["0"]', "different whole numbers"),
        ("seeds = [0]", "seeds = [0]\nfolds = -3", "expected 3 to 1,000"),
        ("seeds = [0]", 'seeds = [0]\nstages = ["schedule"]', "Did you mean 'schedules'"),
        ("seeds = [0]", "seeds = [0]\ntrials = 0", "trials = 0"),
        ("[recipe]", 'pairs = [["pair", "balanced/non"]]\n[recipe]', "Did you mean 'balanced/none'"),
        ("[recipe]", 'pairs = [["pair"]]\n[recipe]', "expected lists of two names"),
        ("seeds = [0]", 'seeds = [0]\nensembles = ["par"]', "Did you mean 'pair'"),
        ('data = "drawn:300"', 'data = "drawn:many"', "expected the name of a set, or drawn:N"),
        ("seeds = [0]", 'seeds = [0]\nsets = { affectnet = "drawn:x" }', "sets: affectnet = 'drawn:x'"),
        ("seeds = [0]", 'seeds = [0]\nsets = { affectnet = "drawn:9" }', "unknown set of"),
        ('name = "balanced"', 'name = "schedules"', "several stages are called schedules"),
        ('name = "balanced"', 'name = "balanced"\nscales = ["smol"]', "unknown scale of .*stage balanced"),
        ("{ epochs = 2 }", '{ epochs = 2, split = "official-clean" }', "tuned goes on from schedules/.* another split"),
        (
            'start = "best of schedules"',
            'start = "schedules"\nleak = "own"',
            "official, and not the leaky division 'own'",
        ),
        (
            'start = "best of schedules"\nrecipe = { epochs = 2 }',
            'combine = ["schedules"]\nrecipe = { split = "official-swapped" }',
            "What was chosen there may have been chosen on rows that test here",
        ),
        (
            'start = "best of schedules"\nrecipe = { epochs = 2 }\n[[ensemble]]\nname = "pair"\nof = ["balanced/none",',
            'recipe = { split = "official-clean" }\n[[ensemble]]\nname = "pair"\nof = ["tuned",',
            "its arms are of several splits",
        ),
        ('{ method = "none" }', '{ method = "nothing" }', "unknown method of"),
        ('{ method = "none" }', '{ method = "none", target = 5 }', "none takes no target"),
        (", target = 3000", "", "hybrid needs a target"),
        ('classes = ["disgust"]', 'classes = ["disgusted"]', "Did you mean 'disgust'"),
        ("learning_rate = 0.05", "learning_rat = 0.05", "Did you mean 'learning_rate'"),
        ("learning_rate = 0.05", 'learning_rate = "fast"', "schedules/"),
        ('"cosine"], batch_size', '"cosin"], batch_size', "Did you mean 'cosine'"),
        ("batch_size = [64, 128]", "batch_size = 64", "expected a list"),
        ('of = ["balanced/none", ', 'of = ["balanced/non", ', "Did you mean 'balanced/none'"),
        ('of = ["balanced/none", "balanced/hybrid-3000"]', "of = []", "expected one name or more"),
        ('name = "pair"', 'name = "tuned"', "are called tuned"),
        ('name = "pair"', 'name = "pair"\nrule = "meen"', "Did you mean 'mean'"),
        ('start = "best of schedules"', "combine = [1]", "expected one name or more"),
        ('of = ["balanced/none", "balanced/hybrid-3000"]', 'of = ["tuned", "tuned"]', "tuned is named twice"),
        ('start = "best of schedules"', 'resample = [{ method = "smote", space = "nope" }]', "nope"),
        ('start = "best of schedules"', 'inject = { name = "drawn:x", classes = ["fear"] }', "inject = 'drawn:x'"),
        ('data = "drawn:300"', 'data = "drawn:0"', "expected the name of a set, or drawn:N"),
        ('name = "balanced"', 'name = ""', "has no name"),
        ('name = "tuned"', 'name = "balanced.none"', "have one name in the store"),
        ("{ epochs = 2 }", "{ epochs = 2, seed = 3 }", "sets seed, and the seeds of a scale"),
        ("{ epochs = 2 }", '{ epochs = 2, resampling = "x" }', "sets resampling, and resample of a stage"),
        (
            "recipe = { epochs = 1 }",
            'folds = 3\nrecipe = { epochs = 1, split = "official-clean" }',
            "sets split, and this scale",
        ),
        (
            'start = "best of schedules"',
            'resample = [{ method = "smote", space = "run:balanced" }]',
            "unknown space of",
        ),
        (
            'start = "best of schedules"',
            'leak = "own"\nresample = [{ method = "ros", classes = ["fear"] }]',
            "by a method",
        ),
    ],
)
def test_what_is_misspelled_is_named(tmp_path: Path, before: str, after: str, text: str) -> None:
    assert before in FILE
    with pytest.raises(UsageError, match=text):
        read_study(written(tmp_path, FILE.replace(before, after, 1)))


def test_honest_and_leaky_members_are_not_fused(tmp_path: Path) -> None:
    leaky = FILE.replace('start = "best of schedules"', 'leak = "own"').replace('"balanced/hybrid-3000"]', '"tuned"]')
    with pytest.raises(UsageError, match="tuned are leaky and the others are not"):
        read_study(written(tmp_path, leaky))
    alone = leaky.replace('of = ["balanced/none", ', 'calibrate = "both"\nof = [')
    with pytest.raises(UsageError, match="leave rule, calibrate and tta out"):
        read_study(written(tmp_path, alone))


def test_a_name_that_no_run_can_have(tmp_path: Path) -> None:
    path = tmp_path / "my study.toml"
    path.write_text(FILE)
    with pytest.raises(UsageError, match="cannot be a name"):
        read_study(path)


def test_what_is_combined_brings_what_it_needs(tmp_path: Path) -> None:
    more = FILE.replace(
        "[[ensemble]]",
        """[[stage]]
name = "near"
resample = [{ method = "smote", space = "run:balanced/none" }]
[[stage]]
name = "both"
combine = ["near", "schedules"]
[[ensemble]]""",
    )
    study = read_study(written(tmp_path, more))
    (both,) = [arm for arm in study.arms if arm.name == "both"]
    assert set(study.needs(both)) == {"near/smote-embedding", "balanced/none", *study.named("schedules")}


def test_one_set_is_trained_on(tmp_path: Path) -> None:
    """Of what is combined one stage resamples, or the stage itself, which then counts alone."""
    more = FILE.replace(
        "[[ensemble]]",
        """[[stage]]
name = "near"
resample = [{ method = "smote" }]
[[stage]]
name = "both"
combine = ["near", "balanced"]
[[ensemble]]""",
    )
    with pytest.raises(UsageError, match="both combines near and balanced, which all resample"):
        read_study(written(tmp_path, more))
    own = more.replace('"near", "balanced"]', '"near", "balanced"]\nresample = [{ method = "ros" }]')
    study = read_study(written(tmp_path, own))
    (both,) = [arm for arm in study.arms if arm.stage == "both"]
    before = [{"of": arm.name, "select": {"macro_f1": 0.5}} for arm in study.arms if arm is not both]
    assert _combined(study, both, before).resample == {"method": "ros"}


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"none\.toml"):
        read_study(tmp_path / "none.toml")


STUDIES = sorted(path for path in (Path(__file__).parents[2] / "studies").glob("*.toml") if path.name != "first.toml")


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_studies_are_whole(path: Path) -> None:
    text = path.read_text()
    for word in ("command:", "device:", "duration:", "result:"):
        assert f"\n# {word}" in text
    assert f"ensemble-fer study run {path.stem}" in text
    result = re.search(r"^# result: +(.*)$", text, re.MULTILINE)
    assert result
    assert result[1].startswith("none is kept") or (path.parents[1] / result[1]).is_file(), result[1]
    for scale in SCALES:
        study = read_study(path, scale)
        cells = cells_of(study)
        assert cells
        assert len({cell.name for cell in cells}) == len(cells)
        for arm in study.arms:
            if not arm.start:
                resolve_recipe(**arm.recipe)
            method = arm.resample.get("method", "none")
            assert method in METHODS
    assert study.look, "the paper scale ends with the test part"


def test_the_page_on_scaling_says_how_many_runs_there_are() -> None:
    studies = [read_study(path, "paper") for path in STUDIES]
    runs = sum(len(list(study.cells())) for study in studies)  # a search counts as one, as in the dry run
    text = (Path(__file__).parents[2] / "docs/scaling.md").read_text()
    assert f"All nine studies at scale paper are {runs} runs" in text
    assert len(studies) == 9
