"""Every study at scale smoke, from its file to its report."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensemble_fer.store import Store
from ensemble_fer.study.cells import cells_of
from ensemble_fer.study.gathering import gather
from ensemble_fer.study.reading import read_study
from ensemble_fer.study.reporting import write_report
from ensemble_fer.study.running import run_study
from tests.study.test_plan import STUDIES

# leakage is made in test_mistakes.py.
OTHERS = [path for path in STUDIES if path.stem != "leakage"]


@pytest.mark.filterwarnings("ignore::ensemble_fer.resample.ResamplingWarning")
@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_a_study_at_smoke(path: Path, tmp_path: Path) -> None:
    store, study = Store(tmp_path / "store"), read_study(path, "smoke")
    rows = run_study(store, study, threads=1, quiet=True)["rows"]
    assert [row["problem"] for row in rows if "problem" in row] == []
    assert [row["name"] for row in rows] == [cell.name for cell in cells_of(study) if not cell.worker]
    assert [row["name"] for row in rows if "test" in row] == [row["name"] for row in rows if study.look]
    text = write_report(study, gather(store, study, rows), tmp_path)[0].read_text()
    for of in {row["of"] for row in rows if row.get("select") or row.get("test")}:
        assert f"| {of} | " in text
