"""The benchmark of scaling runs, and the page shows what it found."""

from __future__ import annotations

import json

from ensemble_fer.benchmarks import scaling


def test_the_page_has_the_tables_of_what_was_measured() -> None:
    found = json.loads(scaling.OUT.read_text())
    page = scaling.PAGE.read_text()
    assert scaling.with_tables(page, found) == page
    assert page.count(scaling.BEGIN) == page.count(scaling.END) == 1


def test_a_short_run_measures_every_form() -> None:
    found = scaling.measure(turns=1, steps={"compact": 2}, written=3)
    rates = found["faces_per_s"]["compact"]
    assert list(rates) == [form.says for form in scaling.forms()]
    assert all(value > 0 for values in rates.values() for value in values)
    assert set(found["artifacts_per_s"]) == {"1", "8"}
    shown = scaling.with_tables(f"a\n{scaling.BEGIN}\nold\n{scaling.END}\nb", found)
    assert "old" not in shown
    assert "| 8 |" in shown
