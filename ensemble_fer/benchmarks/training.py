"""Training beside the published pipeline: equal numbers of crops of the same faces, in turns, on an idle machine.

``make bench-train`` trains the vggnet by both sides of ``training_sides.py``, the published one with its own best
number of worker processes, writes ``docs/results/data/benchmarks/training.json`` and the table of
``docs/benchmarks.md``.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ensemble_fer.files import write_atomic
from ensemble_fer.runtime import cpu_count, machine

OUT, PAGE = Path("docs/results/data/benchmarks/training.json"), Path("docs/benchmarks.md")
BEGIN, END = "<!-- training: begin -->", "<!-- training: end -->"
WARM_UP = 2
# Dense products of 16-bit numbers, 10^12 operations a second, as the makers state them.
CHIP_PEAKS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "A10G": 70, "T4": 65, "V100": 125}


class Side:
    """A training in a process of its own, which waits while it is not its turn."""

    def __init__(self, kind: str, store: Path, data: str, batch: int, threads: int, device: str) -> None:
        self.kind = kind
        command = [sys.executable, "-m", "ensemble_fer.benchmarks.training_sides", kind, str(store), data]
        command += [str(batch), str(threads), device]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = self._answer()

    def ask(self, **request: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError(f"the {self.kind} side ended with {self.process.returncode}; its message is above.")
        return json.loads(line)

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def measure(
    store: Path,
    data: str,
    *,
    batch: int = 64,
    steps: int = 8,
    turns: int = 10,
    threads: int = 0,
    device: str = "auto",
    workers: list[int] | None = None,
) -> dict[str, Any]:
    """Train both sides in turns; what was found, ready for JSON.

    Parameters
    ----------
    store, data : Path, str
        Where the faces are; nothing is written there.
    batch, steps, turns : int
        Steps of so many crops in a turn; each side has so many turns.
    threads : int
        Of torch, on both sides; 0 is all processors.
    device : str
        See ``choose_device``.
    workers : list of int, optional
        Numbers of worker processes to try; by default 0 to the number of processors.
    """
    sides: list[Side] = []
    tried: dict[int, float] = {}
    answers: dict[str, list[dict[str, Any]]] = {"ours": [], "published": []}
    try:
        for kind in answers:
            sides.append(Side(kind, store, data, batch, threads, device))
        ours, published = sides
        for side in sides:
            side.ask(steps=WARM_UP)
        for count in range(cpu_count() + 1) if workers is None else workers:
            published.ask(workers=count, steps=WARM_UP)  # workers start
            tried[count] = _rate(published.ask(steps=max(1, steps // 2)))
            _say(f"published, {count} workers: {tried[count]:.1f} crops/s")
        published.ask(workers=max(tried, key=lambda count: tried[count]), steps=WARM_UP)
        for turn in range(turns):
            for side in sides:
                answers[side.kind].append(side.ask(steps=steps))
                _say(f"turn {turn + 1} of {turns}, {side.kind}: {_rate(answers[side.kind][-1]):.1f} crops/s")
        alone = ours.ask(input_steps=steps)
    finally:
        for side in sides:
            side.close()
    found = {side.kind: {**side.about, **_summary(answers[side.kind])} for side in sides}
    found["published"] |= {"workers": answers["published"][-1]["workers"], "workers_tried": tried}
    on_processor = found["ours"]["device"] == "cpu"
    inputs = sum(answer["input_seconds"] for answer in answers["ours"]) / (steps * turns)
    step = sum(answer["seconds"] for answer in answers["ours"]) / (steps * turns)
    found["ours"]["input_share"] = round((inputs if on_processor else alone["input_seconds"] / steps) / step, 4)
    flops = found["ours"].pop("flops_a_crop")
    names = set(re.split(r"[\s-]+", found["ours"]["device"]))
    peak = next((value for name, value in CHIP_PEAKS.items() if name in names), None)
    rate = found["ours"]["crops_per_s"]
    pairs = [_rate(a) / _rate(b) for a, b in zip(answers["ours"], answers["published"], strict=True)]
    return {
        "machine": machine(),
        **{key: found["ours"][key] for key in ("torch", "device", "threads", "faces")},
        **{"model": "vggnet", "batch": batch, "steps": steps, "turns": turns},
        "ratio": round(rate / found["published"]["crops_per_s"], 3),
        "ratio_of_turns": [round(pair, 3) for pair in pairs],
        "flops_a_crop": flops,
        "gflops_per_s": round(rate * flops / 1e9, 1),
        "chip_share": None if peak is None else round(rate * flops / (peak * 1e12), 4),
        **{kind: {k: v for k, v in side.items() if k not in ("torch", "faces")} for kind, side in found.items()},
    }


def _rate(answer: dict[str, Any]) -> float:
    return answer["crops"] / answer["seconds"]


def _summary(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Crops a second over all turns and of each, and the last, highest, peaks."""
    kept = {key: answers[-1][key] for key in ("peak_mb", "worker_mb", "device_peak_mb") if key in answers[-1]}
    crops = sum(answer["crops"] for answer in answers)
    return {
        "crops": crops,
        "crops_per_s": round(crops / sum(answer["seconds"] for answer in answers), 2),
        "crops_per_s_of_turns": [round(_rate(answer), 2) for answer in answers],
        **kept,
    }


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def cells(found: dict[str, Any]) -> list[list[str]]:
    """Rows of the table: what, ours, published."""
    ours, theirs = found["ours"], found["published"]
    workers = ", ".join(f"{count}: {rate:.1f}" for count, rate in theirs["workers_tried"].items())
    rows = [
        ["crops a second", f"{ours['crops_per_s']:,.1f}", f"{theirs['crops_per_s']:,.1f}"],
        ["each turn", *(", ".join(f"{rate:,.1f}" for rate in s["crops_per_s_of_turns"]) for s in (ours, theirs))],
        ["crops trained on", f"{ours['crops']:,}", f"{theirs['crops']:,}"],
        ["precision", ours["precision"], theirs["precision"]],
        ["workers (crops a second in a trial)", "none needed", f"{theirs['workers']} ({workers})"],
        ["share of a step for its batch", f"{ours['input_share']:.1%}", ""],
        ["peak memory, MB", f"{ours['peak_mb']:,.0f}", _peaks(theirs)],
    ]
    if "device_peak_mb" in ours:
        rows.append(["peak memory on the device, MB", *(f"{s['device_peak_mb']:,.0f}" for s in (ours, theirs))])
    if found["chip_share"] is not None:
        rows.append(["share of the chip's peak", f"{found['chip_share']:.1%}", ""])
    return rows


def _peaks(theirs: dict[str, Any]) -> str:
    own = f"{theirs['peak_mb']:,.0f}"
    return f"{own}, workers {', '.join(f'{mb:,.0f}' for mb in theirs['worker_mb'])}" if theirs["worker_mb"] else own


def head(found: dict[str, Any]) -> str:
    """One sentence on the machine and the ratio."""
    kind = found["machine"]
    device = "" if found["device"] == "cpu" else f" and one {found['device']}"
    spread = f"{min(found['ratio_of_turns']):.2f} to {max(found['ratio_of_turns']):.2f}"
    return (
        f"{kind['cores']} cores of {kind['processor']}{device}, torch {found['torch']}, {found['threads']} threads, "
        f"batches of {found['batch']}: **{found['ratio']:.2f} times the crops a second** ({spread} in the turns)."
    )


def page_table(found: dict[str, Any]) -> str:
    """What the page shows, in Markdown."""
    lines = ["| | ours | published pipeline |", "|---|---|---|"]
    return "\n".join([head(found), "", *lines, *(f"| {' | '.join(row)} |" for row in cells(found))]) + "\n"


def show(found: dict[str, Any]) -> None:
    """The table on the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "ours", "published pipeline", title=head(found).replace("**", ""))
    for row in cells(found):
        table.add_row(*row)
    Console().print(table)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ensemble_fer.benchmarks.training", description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("artifacts"))
    parser.add_argument("--data", default="fer2013")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8, help="of a turn")
    parser.add_argument("--turns", type=int, default=10, help="of each side")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 is all processors")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=lambda text: [int(part) for part in text.split(",")], help="to try: 0,4,8")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--page", type=Path, default=PAGE, help="its table is renewed if it has a place for one")
    asked = parser.parse_args(arguments)
    settings = {key: getattr(asked, key) for key in ("batch", "steps", "turns", "threads", "device", "workers")}
    found = measure(asked.store, asked.data, **settings)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(asked.out, json.dumps(found, indent=1) + "\n")
    text = asked.page.read_text() if asked.page.is_file() else ""
    before, mark, rest = text.partition(BEGIN)
    if mark:
        write_atomic(asked.page, before + BEGIN + "\n" + page_table(found) + END + rest.partition(END)[2])
    show(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
