"""Published figures, as data: ``studies/published.csv``, each with its source and what is known to be wrong with it."""

from __future__ import annotations

import csv
from dataclasses import dataclass

from ensemble_fer.study.finding import studies_folder

SCORES = ("accuracy", "top2", "top3", "macro_f1")


@dataclass(frozen=True)
class Published:
    """One published score.

    Parameters
    ----------
    study, arm : str
        The study that does the same, and which of its arms; an arm of "" is one that nothing here stands for.
    published : str
        What it was called.
    accuracy, top2, top3, macro_f1 : float or None
        0 to 1; None where it was not said.
    more : str
        What else was said: precision, recall, F1 of a few classes, time.
    epochs, split, source, wrong : str
        As stated; where it stands; what is wrong with it as an estimate.
    """

    study: str
    arm: str
    published: str
    accuracy: float | None
    top2: float | None
    top3: float | None
    macro_f1: float | None
    more: str
    epochs: str
    split: str
    source: str
    wrong: str

    @property
    def beside(self) -> str:
        """What was published beside accuracy and macro-F1, in words."""
        top = [f"top-{n} {100 * value:.2f}" for n, value in ((2, self.top2), (3, self.top3)) if value is not None]
        return "; ".join([*top, *([self.more] if self.more else [])])

    @property
    def leaky(self) -> bool:
        return self.wrong.startswith("LEAKY")


def published(study: str | None = None) -> list[Published]:
    """The published scores of what a study repeats; of all by default."""
    with (studies_folder() / "published.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = [Published(**{**row, **{key: float(row[key]) if row[key] else None for key in SCORES}}) for row in rows]
    return [one for one in found if study in (None, one.study)]
