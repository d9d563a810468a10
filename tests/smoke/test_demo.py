"""The demo, with fewer and smaller steps than `make demo` takes."""

from __future__ import annotations

import sys
from pathlib import Path

from ensemble_fer.demo import METHODS, account, run_demo
from ensemble_fer.store import Store
from ensemble_fer.types import CLASSES


def test_the_demo_makes_everything_and_says_where(store: Store) -> None:
    steps: list[str] = []
    unpickled: list[object] = []
    listening = [True]
    sys.addaudithook(
        lambda event, given: unpickled.append(given) if event == "pickle.find_class" and listening else None
    )
    done = run_demo(store, rows=400, epochs=1, epoch_rows=256, say=steps.append)
    listening.clear()
    assert unpickled == [], "nothing is unpickled, by a library neither"
    assert len(steps) == 2 + len(METHODS) + 3
    assert [m["resampling"] for m in done["members"]] == list(METHODS)
    assert done["ensemble"]["flips"] == 0
    assert done["ensemble"]["rows_checked"] > 0
    assert done["audit"]["twins"]["PrivateTest"]["rows"] > 0, "the planted twins must be found"
    assert [item["true"] for item in done["predictions"]] == list(CLASSES)
    assert {r["name"] for r in done["leaderboard"]["rows"]} == {"demo-ensemble", *(f"demo-{m}" for m in METHODS)}
    assert all(r["test"] is not None for r in done["leaderboard"]["rows"])
    for path in done["files"].values():
        assert Path(path).exists()
    said = account(done, store.root)
    assert all(path in said for path in done["files"].values())
    assert "ensemble-fer data import fer2013.csv" in said

    looks = [r["test"]["looks"] for r in done["leaderboard"]["rows"]]
    again = run_demo(store, rows=400, epochs=1, epoch_rows=256)
    assert [r["test"]["looks"] for r in again["leaderboard"]["rows"]] == looks, "the second time all is there"
    assert again["ensemble"] == done["ensemble"]
