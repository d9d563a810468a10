"""Resampling beside imbalanced-learn: the same rows, the same seeds, one after the other on an otherwise idle machine.

``make bench-resample`` measures what ``docs/results/data/benchmarks/resampling.json`` does not hold yet (a killed run
goes on; remove the file to begin anew) and writes the tables of ``docs/benchmarks.md``. Every job is a process of its
own, so that its memory is its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import ensemble_fer
from ensemble_fer.files import write_atomic
from ensemble_fer.neighbors import prepare
from ensemble_fer.runtime import machine, peak_mb

METHODS = ("smote", "tomek", "enn", "smote_tomek", "smote_enn")
SEEDED = ("smote", "smote_tomek", "smote_enn")
SEEDS = (0, 1, 2)
SIZES = (5_000, 10_000, 20_000, 40_000, 80_000, 250_000)
CAP = 1_000_000_000
DEFAULTS = ("docs/results/data/benchmarks/resampling.json", "docs/benchmarks.md", "artifacts", "fer2013")
BEGIN, END = "<!-- resampling: begin -->", "<!-- resampling: end -->"


def measure(
    out: Path, store: Path, data: str, *, seeds: tuple[int, ...] = SEEDS, sizes: tuple[int, ...] = SIZES
) -> dict:
    """Run every job that ``out`` does not hold yet; returns and writes all.

    Parameters
    ----------
    out : Path
        JSON: machine, and the figures of each job by its name.
    store : Path
        Where the data set lies; nothing else in it is changed.
    data : str
        Name of the set whose training part is resampled.
    seeds, sizes : tuple of int
        Seeds beside imbalanced-learn; rows of synthetic faces for growth.
    """
    kept = json.loads(out.read_text()) if out.is_file() else {"machine": machine(), "jobs": {}}
    code = code_digest()
    growing = [(f"growth/{rows}", ["growth", str(rows)]) for rows in sizes]
    jobs: list[tuple[str, list[str]]] = []
    # Seed by seed, so that a run that is stopped early has something of everything.
    for number, seed in enumerate(seeds):
        for method in METHODS if number == 0 else [m for m in METHODS if m in SEEDED]:
            for side in ("ours", "imblearn"):
                jobs.append((f"{method}/{seed}/{side}", [side, method, str(seed), str(store), data]))
        jobs += growing[:-1] if number == 0 else []
    jobs += growing[-1:]
    prepare()  # the first search after installation compiles, which is no part of the others
    with tempfile.TemporaryDirectory(prefix="ensemble-fer-bench-") as folder:
        for name, arguments in jobs:
            # Of a pair both are measured again, so that they ran one after the other, and on the same rows.
            pair = name.replace("/ours", "/imblearn")
            if all(kept["jobs"].get(side, {}).get("code") == code for side in (pair, name)):
                continue
            print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
            command = [sys.executable, "-m", "ensemble_fer.benchmarks.resampling", "--job", folder, str(time.time())]
            command += arguments
            done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=os.environ)
            if done.returncode:
                raise RuntimeError(f"{name} failed:\n{done.stderr}")
            kept["jobs"][name] = {**json.loads(done.stdout), "code": code}
            write_atomic(out, json.dumps(kept, indent=1))
    return kept


def code_digest() -> str:
    """Of the code that is measured: figures of other code are measured again."""
    package = Path(ensemble_fer.__file__).parent
    files = sorted(path for room in ("neighbors", "resample") for path in (package / room).glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def ours(folder: Path, began: float, method: str, seed: int, store: str, data: str) -> dict:
    """The command, from its start to the stored result, and which rows it kept."""
    from ensemble_fer.neighbors import Search
    from ensemble_fer.resample import load_resampling, make_resampling
    from ensemble_fer.store import Artifact, Store, need_data

    target = folder / f"{method}-{seed}"
    # The set alone is there: nothing that this run should make is made already, and the store stays as it is.
    source = need_data(Store(store), data)
    (target / "data").mkdir(parents=True)
    (target / "data" / source.id).symlink_to(source.path.resolve())
    opened = Store(target)
    opened.set_ref("data", data, source.id)
    source = opened.get("data", data)
    with timed(Search, "nearest") as spent:
        made = make_resampling(opened, source, method=method, seed=seed, quiet=True)
    wall = time.time() - began
    assert isinstance(made, Artifact)
    rows = load_resampling(made)
    np.savez(folder / f"{method}-{seed}.npz", a=rows.parent_a, b=rows.parent_b, w=rows.weight, labels=rows.labels)
    return {
        "wall": round(wall, 2),
        "search": round(spent[0], 3),
        "seconds": made.metrics["seconds"],
        "rows": len(rows),
        "peak_mb": peak_mb(),
    }


def imblearn(folder: Path, began: float, method: str, seed: int, store: str, data: str) -> dict:
    """imbalanced-learn on float64 pixels, from the start to its arrays, and in how many rows they differ from ours."""
    from imblearn.combine import SMOTEENN, SMOTETomek
    from imblearn.over_sampling import SMOTE
    from imblearn.under_sampling import EditedNearestNeighbours, TomekLinks
    from sklearn.neighbors import NearestNeighbors

    from ensemble_fer.data.importing import load_faces
    from ensemble_fer.store import Store, need_data

    faces = load_faces(need_data(Store(store), data))
    rows = faces.rows_of("Training")
    samplers: dict[str, Callable[[], Any]] = {
        "smote": lambda: SMOTE(random_state=seed),
        "tomek": lambda: TomekLinks(n_jobs=2),
        "enn": lambda: EditedNearestNeighbours(kind_sel="all", n_jobs=2),
        "smote_tomek": lambda: SMOTETomek(random_state=seed, n_jobs=2),
        "smote_enn": lambda: SMOTEENN(random_state=seed, n_jobs=2),
    }
    pixels = faces.images[rows].reshape(len(rows), -1).astype(np.float64)
    start = time.perf_counter()
    with timed(NearestNeighbors, "kneighbors") as spent:
        made, labels = samplers[method]().fit_resample(pixels, faces.labels[rows])
    seconds, wall, peak = time.perf_counter() - start, time.time() - began, peak_mb()
    mine = np.load(folder / f"{method}-{seed}.npz")
    images = faces.images.reshape(len(faces), -1)
    own = _digests(lambda i: _mixed(images, mine, i), mine["labels"])
    theirs = _digests(lambda i: made[i], labels)
    return {
        "wall": round(wall, 2),
        "search": round(spent[0], 3),
        "seconds": round(seconds, 3),
        "rows": len(made),
        "peak_mb": peak,
        "only_ours": sum((own - theirs).values()),
        "only_theirs": sum((theirs - own).values()),
        "tied": _tied(faces, method, seed, [*(own - theirs).elements(), *(theirs - own).elements()]),
        "same_order": bool(len(made) == len(mine["a"]) and np.array_equal(labels, mine["labels"])),
    }


def _mixed(images: np.ndarray, rows: Any, i: slice | np.ndarray) -> np.ndarray:
    a = images[rows["a"][i]].astype(np.float64)
    return a + rows["w"][i, None] * (images[rows["b"][i]] - a)


def _digests(values: Callable[[slice], np.ndarray], labels: np.ndarray) -> Counter[tuple[int, float]]:
    """How often each row occurs, by its label and a projection of its values to a thousandth."""
    found: Counter[tuple[int, float]] = Counter()
    weights = np.random.default_rng(0).standard_normal(values(slice(0, 1)).shape[1])
    for start in range(0, len(labels), 1024):
        some = slice(start, min(len(labels), start + 1024))
        # A projection on noise: equal for equal rows, and rounding far below what tells two rows apart.
        found.update(zip(labels[some].tolist(), np.round(values(some) @ weights, 3).tolist(), strict=True))
    return found


def _tied(faces: Any, method: str, seed: int, rows: list[tuple[int, float]]) -> int:
    """How many of these rows, which one side kept and the other did not, have a tie that can decide about them.

    A tie among the first neighbours and the next one: equal distances, which each side puts in an order of its own.
    """
    from ensemble_fer.data.splits import make_split
    from ensemble_fer.neighbors import Mixtures, Search, count_ties
    from ensemble_fer.resample import resample

    if not rows:
        return 0
    before = "smote" if method == "smote_enn" else "none"
    made = resample(faces, make_split(faces, None, "official").train, before, seed=seed)
    images = faces.images.reshape(len(faces), -1)
    points = Mixtures(images, made.parent_a.astype(int), made.parent_b.astype(int), made.weight.astype(float))
    squared = Search(images).nearest(points, 5).squared
    tied = {i for i in range(len(points)) if count_ties(squared[i : i + 1])}
    weights = np.random.default_rng(0).standard_normal(images.shape[1])
    kept, found = {"a": points.a, "b": points.b, "w": points.w}, 0
    for label in sorted({label for label, _ in rows}):
        wanted = [key for other, key in rows if other == label]
        of_label = np.flatnonzero(made.labels == label)
        parts = np.array_split(of_label, -(-len(of_label) // 1024))
        keys = np.concatenate([np.round(_mixed(images, kept, part) @ weights, 3) for part in parts])
        found += sum(bool(tied & set(of_label[keys == key].tolist())) for key in wanted)
    return found


def growth(folder: Path, rows: int) -> dict:
    """The nearest neighbour of every one of so many synthetic faces within the cap."""
    from ensemble_fer.data.synthetic import draw_faces

    pixels = np.lib.format.open_memmap(folder / f"{rows}.npy", "w+", np.uint8, (rows, 2304))
    for start in range(0, rows, 20_000):
        some = min(20_000, rows - start)
        pixels[start : start + some] = draw_faces(some, seed=start).images.reshape(some, -1)
    pixels.flush()
    del pixels
    code = (
        "import json,sys,time,numpy as np\n"
        "from ensemble_fer.neighbors import Mixtures, Search\n"
        "from ensemble_fer.runtime import peak_mb\n"
        "before=peak_mb(); pixels=np.load(sys.argv[1]); began=time.perf_counter()\n"
        f"found=Search(pixels, memory={CAP}).nearest(Mixtures.faces(pixels), 2)\n"
        "print(json.dumps({'search': round(time.perf_counter()-began,2), 'peak_mb': peak_mb(), 'before_mb': before}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / f"{rows}.npy")], capture_output=True, text=True, check=True
    )
    (folder / f"{rows}.npy").unlink()
    return {**json.loads(done.stdout), "faces_mb": rows * 2304 / 1e6}


@contextmanager
def timed(owner: type, name: str) -> Iterator[list[float]]:
    """Seconds spent in a method, first element of the list."""
    spent, method = [0.0], getattr(owner, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            spent[0] += time.perf_counter() - began

    setattr(owner, name, counted)
    try:
        yield spent
    finally:
        setattr(owner, name, method)


def tables(kept: dict) -> str:
    """The figures as Markdown: medians over seeds, and ratios."""
    jobs = kept["jobs"]
    kind = kept["machine"]
    lines = [
        f"{kind['cores']} cores of {kind['processor']}, Python {kind['python']}.",
        "",
        "| method | search, ours | imbalanced-learn | ratio | whole, ours | imbalanced-learn | ratio | peak, ours | "
        "imbalanced-learn | rows that differ |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for method in METHODS:
        seeds = [s for s in SEEDS if {f"{method}/{s}/ours", f"{method}/{s}/imblearn"} <= jobs.keys()]
        if not seeds:
            continue
        pairs = [(jobs[f"{method}/{s}/ours"], jobs[f"{method}/{s}/imblearn"]) for s in seeds]
        cells = [method]
        for key in ("search", "wall"):
            cells += [f"{statistics.median(p[i][key] for p in pairs):.1f} s" for i in (0, 1)]
            cells.append(f"**{statistics.median(p[1][key] / p[0][key] for p in pairs):.1f}**")
        cells += [f"{max(p[i]['peak_mb'] for p in pairs):,.0f} MB" for i in (0, 1)]
        cells.append(", ".join(f"{p[1]['only_ours']} / {p[1]['only_theirs']}{_of_ties(p[1])}" for p in pairs))
        lines.append("| " + " | ".join(cells) + " |")
    grown = [(int(name.split("/")[1]), job) for name, job in jobs.items() if name.startswith("growth/")]
    if grown:
        lines += [
            "",
            "| faces | search | microseconds a face | faces, MB | peak of the process, MB |",
            "|---|---|---|---|---|",
        ]
        for rows, job in sorted(grown):
            each = job["search"] / rows * 1e6
            lines.append(
                f"| {rows:,} | {job['search']:.1f} s | {each:.0f} | {job['faces_mb']:.0f} | {job['peak_mb']:,.0f} |"
            )
    return "\n".join(lines) + "\n"


def _of_ties(job: dict) -> str:
    differ = job["only_ours"] + job["only_theirs"]
    return f" ({job['tied']} of {differ} have ties)" if differ and "tied" in job else ""


def main(arguments: list[str]) -> None:
    """``[OUT.json [PAGE.md [STORE [DATA]]]]``, or one job."""
    if arguments[:1] == ["--job"]:
        folder, began, kind, *rest = arguments[1:]
        if kind == "growth":
            print(json.dumps(growth(Path(folder), int(rest[0]))))
        else:
            method, seed, store, data = rest
            side = {"ours": ours, "imblearn": imblearn}[kind]
            print(json.dumps(side(Path(folder), float(began), method, int(seed), store, data)))
        return
    out, page, store, data = (*arguments, *DEFAULTS[len(arguments) :])
    try:
        measure(Path(out), Path(store), data)
    finally:
        # Of a run that was stopped, what it has measured is on the page too.
        found = tables(json.loads(Path(out).read_text()))
        before, _, rest = Path(page).read_text().partition(BEGIN)
        write_atomic(Path(page), before + BEGIN + "\n" + found + END + rest.partition(END)[2])
        print(found)


if __name__ == "__main__":
    main(sys.argv[1:])
