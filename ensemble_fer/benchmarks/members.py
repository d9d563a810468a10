"""Every member from scratch for the same small budget: what docs/results/members.md shows.

``make bench-members`` trains what the store does not hold yet (a killed run goes on), times a step of each, and writes
``docs/results/data/members/members.json`` and the table of the page. Nothing looks at the test part.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ensemble_fer.config import MODELS, Recipe, resolve_recipe
from ensemble_fer.files import write_atomic
from ensemble_fer.models.cost import flops
from ensemble_fer.report import evaluate
from ensemble_fer.runtime import cpu_count, machine
from ensemble_fer.store import Store
from ensemble_fer.train import load_member, train
from ensemble_fer.train.timing import seconds_a_step

# One recipe for all, since it is the networks that are compared; dropout is each one's own. 2,000 steps of 16 faces,
# a little more than each training face once: as much as two cores do for all members in some three hours.
BUDGET: dict[str, Any] = {
    "weights": "none",
    "epochs": 4,
    "epoch_rows": 8_000,
    "batch_size": 16,
    "optimizer": "adamw",
    "learning_rate": 5e-4,
    "weight_decay": 0.01,
    "schedule": "one_cycle",
    "warmup_epochs": 0.0,
    "loss": "cross_entropy",
    "label_smoothing": 0.1,
    "augmentation": "light",
    "patience": 0,
    "seed": 0,
}
# Those that would take two cores too long: how many steps, of how many faces, in how many epochs. After each epoch the
# select part is scored in float32, which takes ViT longer than its steps do.
FEWER = {"xception": (400, 16, 4), "resnet50v2": (2_000, 8, 2), "vit_base_patch16_224": (200, 8, 1)}
TRAINING_ROWS = 28_709
TIMED = 5
BEGIN, END = "<!-- table:members -->", "<!-- end -->"


def recipe_of(model: str) -> Recipe:
    """The recipe by which a member is trained here."""
    budget = dict(BUDGET)
    if model in FEWER:
        steps, batch, epochs = FEWER[model]
        budget |= {"epochs": epochs, "epoch_rows": steps * batch // epochs, "batch_size": batch}
    return resolve_recipe(model=model, **budget)


def row_of(store: Store, model: str, data: str, threads: int | None) -> dict:
    """Train a member, or find it trained; its scores of the select part with intervals."""
    run = train(store, recipe_of(model), data=data, name=f"members-{model}", threads=threads)
    report = evaluate(store, f"run:{run.id}", role="select", quiet=True).report.to_dict()
    return {
        "model": model,
        "run": run.id,
        "parameters": run.metrics["parameters"],
        "mflops": round(flops(load_member(run)) / 1e6, 1),
        "steps": run.metrics["steps"],
        "batch_size": run.spec["recipe"]["batch_size"],
        "accuracy": report["accuracy"],
        "macro_f1": report["macro_f1"],
        "ci95": {key: report["ci95"][key] for key in ("accuracy", "macro_f1")},
        "protocol": report["protocol"],
    }


def seconds_an_epoch(row: dict) -> float:
    """Seconds that the steps of one epoch of the official training part take on all processors, which must be idle."""
    batch = row["batch_size"]
    return round(seconds_a_step(recipe_of(row["model"]), faces=batch, repeats=TIMED) * TRAINING_ROWS / batch, 1)


def table(rows: list[dict]) -> str:
    """The page's table in Markdown, the best macro-F1 first; those with fewer steps behind."""
    ranked = sorted(rows, key=lambda row: (row["model"] in FEWER, -row["macro_f1"]))
    lines = [
        "| member | steps of faces | macro-F1 | accuracy | parameters | MFLOPs a face | seconds an epoch |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in ranked:
        scores = [
            "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * value for value in (row[key], *row["ci95"][key])))
            for key in ("macro_f1", "accuracy")
        ]
        seconds = f"{row['seconds_an_epoch']:,.0f}" if "seconds_an_epoch" in row else "-"
        card = f"[{row['model']}](../methods/{row['model']}.md)"
        steps = f"{row['steps']:,} of {row['batch_size']}"
        cells = [card, steps, *scores, f"{row['parameters']:,}", f"{row['mflops']:,.0f}", seconds]
        lines.append(f"| {' | '.join(cells)} |")
    missing = [model for model in MODELS if model not in {row["model"] for row in rows}]
    return "\n".join(lines + (["", f"Not trained yet: {', '.join(missing)}."] if missing else []))


def written(page: str, rows: list[dict]) -> str:
    """The page with this table between its marks."""
    head, mark, rest = page.partition(BEGIN)
    if not mark:
        raise ValueError(f"the page has no {BEGIN}")
    return f"{head}{BEGIN}\n\n{table(rows)}\n\n{END}{rest.partition(END)[2]}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ensemble_fer.benchmarks.members", description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("artifacts"))
    parser.add_argument("--data", default="fer2013")
    parser.add_argument("--only", default=",".join(MODELS), help="these members, commas between")
    parser.add_argument("--threads", type=int, help="of the trainings; times are those of all processors")
    parser.add_argument("--out", type=Path, default=Path("docs/results/data/members/members.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/results/members.md"))
    parser.add_argument("--only-times", action="store_true", help="take the scores that --out has, and time the steps")
    parser.add_argument("--missing", action="store_true", help="of those, only members that --out does not have yet")
    parser.add_argument("--no-times", action="store_true", help="on a machine that does other work too")
    asked = parser.parse_args(arguments)
    store = Store(asked.store)
    kept = json.loads(asked.out.read_text()) if asked.out.is_file() else {"rows": []}
    rows = {row["model"]: row for row in kept["rows"]}
    for model in asked.only.split(","):
        if asked.missing and model in rows:
            continue
        print(f"{time.strftime('%H:%M:%S')} {model}", file=sys.stderr, flush=True)
        before = rows.get(model, {})
        row = before if asked.only_times and before else row_of(store, model, asked.data, asked.threads)
        if not asked.no_times:
            row |= {"seconds_an_epoch": seconds_an_epoch(row), "threads": cpu_count()}
        elif before.get("run") == row["run"]:
            row = {**before, **row}
        rows[model] = row
        kept = {"machine": machine(), "torch": torch.__version__, "rows": [rows[m] for m in sorted(rows)]}
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(asked.out, json.dumps(kept, indent=1) + "\n")
    if asked.page.is_file():
        write_atomic(asked.page, written(asked.page.read_text(), kept["rows"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
