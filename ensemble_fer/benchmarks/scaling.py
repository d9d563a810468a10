"""What more processes bring on this machine: for one training, for several at once, and for what is written to a store.

``make bench-scaling`` takes some minutes on an idle machine, writes ``docs/results/data/benchmarks/scaling.json`` and
the tables of ``docs/scaling.md``. Each figure is of a process of its own; the forms take turns.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ensemble_fer.config import Recipe
from ensemble_fer.data.synthetic import synth_data
from ensemble_fer.files import write_atomic
from ensemble_fer.runtime import cpu_count, machine
from ensemble_fer.store import Store

OUT, PAGE = Path("docs/results/data/benchmarks/scaling.json"), Path("docs/scaling.md")
BEGIN, END = "<!-- scaling: begin -->", "<!-- scaling: end -->"
BATCH = 64
STEPS = {"compact": 60, "vggnet": 10}
TURNS = 3
WRITERS, WRITTEN = (1, 8), 100

TRAIN = """
import sys
from ensemble_fer.config import Recipe
from ensemble_fer.store import Store
from ensemble_fer.train import train

if __name__ == "__main__":
    store, model, steps, seed, threads, processes = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
    recipe = Recipe(model=model, epochs=1, epoch_rows=64 * steps, batch_size=64, seed=seed)
    made = train(Store(store), recipe, threads=threads, processes=processes, quiet=True)
    print(made.metrics["train_seconds"])
"""
WRITE = """
import sys, time
from ensemble_fer.store import Store

store, own, count = Store(sys.argv[1]), sys.argv[2], int(sys.argv[3])
began = time.perf_counter()
for number in range(count):
    def write(folder):
        (folder / "file").write_bytes(bytes(10_000))
        return {}
    store.put("run", {"own": own, "number": number}, [], write, name=f"{own}-{number}")
print(time.perf_counter() - began)
"""


@dataclass(frozen=True)
class Form:
    """A way to use the machine: so many trainings at once, each of processes that share its batches."""

    says: str
    trainings: int
    processes: int
    threads: int


def forms() -> list[Form]:
    cores = cpu_count()
    return [
        Form("one training, one thread", 1, 1, 1),
        Form(f"one training, {cores} threads", 1, 1, cores),
        Form(f"one training, {cores} processes of one thread", 1, cores, cores),
        Form(f"{cores} trainings at once, one thread each", cores, 1, 1),
    ]


def measure(turns: int = TURNS, steps: dict[str, int] = STEPS, written: int = WRITTEN) -> dict:
    """Faces a second of each form and member, and artifacts a second; ready for JSON."""
    with tempfile.TemporaryDirectory() as folder:
        program, writer = Path(folder) / "train.py", Path(folder) / "write.py"
        program.write_text(TRAIN)
        writer.write_text(WRITE)
        store = Store(Path(folder) / "store")
        synth_data(store, rows=2000)
        rates: dict[str, dict[str, list[float]]] = {model: {form.says: [] for form in forms()} for model in steps}
        seed = 0
        for _ in range(turns):
            for model, count in steps.items():
                for form in forms():
                    own = range(seed, seed + form.trainings)
                    seed += form.trainings
                    said = [str(form.threads), str(form.processes)]
                    commands = [[str(program), str(store.root), model, str(count), str(s), *said] for s in own]
                    seconds = _together(commands)
                    rates[model][form.says].append(sum(count * BATCH / each for each in seconds))
                    print(f"{model}, {form.says}: {rates[model][form.says][-1]:.0f} faces/s", file=sys.stderr)
        stores = {}
        for number in WRITERS:
            commands = [[str(writer), str(store.root), f"{number}-{own}", str(written)] for own in range(number)]
            stores[str(number)] = round(number * written / max(_together(commands)), 1)
    return {
        "machine": machine(),
        "batch": BATCH,
        "steps": steps,
        "turns": turns,
        "precision": Recipe().precision,
        "faces_per_s": {
            model: {says: [round(value, 1) for value in values] for says, values in own.items()}
            for model, own in rates.items()
        },
        "artifacts_per_s": stores,
    }


def _together(commands: Sequence[Sequence[str]]) -> list[float]:
    """What programs that run at once print last, a number each."""
    running = [
        subprocess.Popen([sys.executable, "-W", "ignore", *command], stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    said = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError("a process of this benchmark failed; its message is above.")
    return [float(text.split()[-1]) for text in said]


def tables(found: dict) -> str:
    """The tables of the page, as Markdown."""
    models = list(found["faces_per_s"])
    lines = [
        f"{found['machine']['cores']} cores of {found['machine']['processor']}, batches of {found['batch']}, "
        f"medians of {found['turns']} turns; in brackets beside one thread.",
        "",
        "| faces a second | " + " | ".join(models) + " |",
        "| --- |" + " ---: |" * len(models),
    ]
    for says in found["faces_per_s"][models[0]]:
        cells = []
        for model in models:
            own = found["faces_per_s"][model]
            base = statistics.median(next(iter(own.values())))
            value = statistics.median(own[says])
            cells.append(f"{value:,.0f} ({value / base:.2f})")
        lines.append(f"| {says} | " + " | ".join(cells) + " |")
    lines += ["", "| processes on one store | artifacts of 10 kB a second, all together |", "| ---: | ---: |"]
    lines += [f"| {number} | {rate:,.0f} |" for number, rate in found["artifacts_per_s"].items()]
    return "\n".join(lines)


def with_tables(page: str, found: dict) -> str:
    """The page with the tables of what was found."""
    return re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{tables(found)}\n{END}", page, flags=re.DOTALL)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--turns", type=int, default=TURNS)
    began = time.perf_counter()
    found = measure(parser.parse_args(arguments).turns)
    write_atomic(OUT, json.dumps(found, indent=1) + "\n")
    write_atomic(PAGE, with_tables(PAGE.read_text(encoding="utf-8"), found))
    print(f"{OUT} and {PAGE} after {time.perf_counter() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
