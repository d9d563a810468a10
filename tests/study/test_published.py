"""Published figures are data whose arms are there, at paper scale, and whose numbers are whole."""

from __future__ import annotations

from ensemble_fer.study.finding import known_studies
from ensemble_fer.study.published import published
from ensemble_fer.study.reading import read_study


def test_every_published_score_has_an_arm_of_its_study() -> None:
    known = known_studies()
    arms = {}
    for one in published():
        study = arms.setdefault(one.study, read_study(known[one.study], "paper"))
        names = [arm.name for arm in study.arms] + [blend.name for blend in study.blends]
        assert one.arm in ["", *names], one
        assert one.source
        assert one.wrong
        scores = [value for value in (one.accuracy, one.macro_f1) if value is not None]
        assert scores or "ms a frame" in one.more
        assert all(0 < value < 1 for value in scores)
    assert len(published()) == 108
    assert [one.accuracy for one in published("gaballa_tantawy_ensemble") if one.leaky] == [
        0.8597,
        0.8718,
        0.8288,
        0.9718,
    ]
