"""What using an ensemble costs: three VGGNets in five forms, ten crops inside, photographs, a video.

``make bench-using`` needs no data and no trained runs: the shipped ensemble reads drawn faces. Writes
``docs/results/data/benchmarks/using.json`` and the tables of ``docs/benchmarks.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ensemble_fer.app.prediction import opened_graph, predict
from ensemble_fer.app.video import video
from ensemble_fer.data.synthetic import draw_faces
from ensemble_fer.export.benching import bench, goals
from ensemble_fer.files import write_atomic
from ensemble_fer.runtime import cpu_count, machine
from ensemble_fer.store import Store

OUT, PAGE = Path("docs/results/data/benchmarks/using.json"), Path("docs/benchmarks.md")
BEGIN, END = "<!-- using: begin -->", "<!-- using: end -->"
MEMBERS = ("vggnet", "vggnet", "vggnet")
WIDTH, HEIGHT, FRAMES, RATE = 640, 480, 600, 30
TURNS = 5


def scene(face: NDArray[np.uint8], moment: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A frame in which the face moves and grows, on a ground with noise: RGB [480, 640, 3]."""
    side = int(180 * (1 + 0.2 * np.sin(moment * 1.2)))
    left = int((WIDTH - side) / 2 + 150 * np.sin(moment))
    top = int((HEIGHT - side) / 2 + 60 * np.sin(1.8 * moment))
    corners = np.random.default_rng(0).integers(60, 200, (4, 6)).astype(np.uint8)
    frame = np.array(Image.fromarray(corners).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
    larger = Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC)
    frame[top : top + side, left : left + side] = np.asarray(larger)
    frame += rng.normal(0, 4, frame.shape)
    return np.repeat(np.clip(frame, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def write_video(path: Path, frames: int = FRAMES) -> None:
    """One drawn face that moves through 640x480."""
    import cv2

    face, rng = draw_faces(200, seed=4).images[16], np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, (WIDTH, HEIGHT))
    for number in range(frames):
        writer.write(scene(face, number / RATE, rng))
    writer.release()


def measure(*, seconds: float = 2.0, frames: int = FRAMES, threads: int | None = None) -> dict[str, Any]:
    """Everything of the page, ready for JSON.

    Parameters
    ----------
    seconds : float
        As in ``bench``.
    frames : int
        Of the video.
    threads : int, optional
        All processors by default.
    """
    used = threads or cpu_count()
    with tempfile.TemporaryDirectory(prefix="ensemble-fer-") as made:
        folder = Path(made)
        nothing = Store(folder / "store")
        forms = bench(nothing, MEMBERS, weights="none", seconds=seconds, threads=used)
        crops = bench(
            nothing, MEMBERS, weights="none", batches=[1], variants=["fused", "int8"], tta="ten_crop",
            seconds=seconds, threads=used,
        )  # fmt: skip
        return {
            "machine": machine(),
            "threads": used,
            "forms": forms,
            "ten_crop": crops,
            "shipped": _shipped(folder, used, frames),
        }


def _shipped(folder: Path, threads: int, frames: int) -> dict[str, Any]:
    """The shipped ensemble: milliseconds of one face and of a photograph with one, frames a second of a video."""
    graph = opened_graph(None, threads)
    faces = draw_faces(200, seed=4).images
    photograph = folder / "photo.png"
    Image.fromarray(scene(faces[16], 0.0, np.random.default_rng(0))).save(photograph)
    write_video(folder / "one.mp4", frames)
    one = _milliseconds(lambda: graph.run(faces[16:17]), 100)
    photo = _milliseconds(lambda: predict(photograph, graph=graph, threads=threads), 20)
    plain = [video(folder / "one.mp4", graph=graph, table=folder / "f.csv", threads=threads) for _ in range(TURNS)]
    drawn = video(folder / "one.mp4", graph=graph, annotate=folder / "out.mp4", threads=threads)
    with_face = len((folder / "f.csv").read_text().splitlines()) - 1
    return {
        "size_mb": round(graph.path.stat().st_size / 1e6, 2),
        "face_ms": one,
        "photo_ms": photo,
        "video_fps": sorted(done["fps"] for done in plain),
        "annotated_fps": drawn["fps"],
        "frames": frames,
        "frames_with_face": with_face,
    }


def _milliseconds(call: Any, times: int) -> dict[str, float]:
    """Median and 95th percentile, after three calls that are not counted."""
    taken = []
    for number in range(times + 3):
        began = time.perf_counter()
        call()
        if number >= 3:
            taken.append(1e3 * (time.perf_counter() - began))
    return {"p50": round(float(np.median(taken)), 2), "p95": round(float(np.percentile(taken, 95)), 2)}


def page_tables(found: dict[str, Any]) -> str:
    """What the page shows, in Markdown."""
    kind, forms, shipped = found["machine"], found["forms"], found["shipped"]
    lines = [
        f"{kind['cores']} cores of {kind['processor']}, {found['threads']} threads, torch {forms['torch']}.",
        "",
        "| three VGGNets | batch | calls | mean ms | min | max | p50 | p95 | p99 | faces/s | MB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    ten = [{**row, "variant": f"{row['variant']}, ten crops inside"} for row in found["ten_crop"]["rows"]]
    for row in [*forms["rows"], *ten]:
        times = " | ".join(f"{row[f'{key}_ms']:.2f}" for key in ("mean", "min", "max", "p50", "p95", "p99"))
        size = forms["size_mb"].get(row["variant"].partition(",")[0], "")
        lines.append(f"| {row['variant']} | {row['batch']} | {row['calls']:,} | {times} | {row['fps']:,.0f} | {size} |")
    lines.append("")
    for batch in sorted({row["batch"] for row in forms["rows"]}):
        ratio, fastest = goals(forms["rows"], batch), goals(forms["rows"], batch, by="min_ms")
        lines.append(
            f"- batch {batch}: one graph takes {ratio['fused_to_sessions']:.2f} of the time of sessions in turn, and "
            f"whole numbers are {ratio['int8_speedup']:.2f} times as fast as it (medians; of the fastest calls "
            f"{fastest['fused_to_sessions']:.2f} and {fastest['int8_speedup']:.2f})"
        )
    fps = shipped["video_fps"]
    lines += [
        "",
        "| the shipped ensemble | |",
        "|---|---|",
        f"| one face, mirrored too (p50, p95) | {shipped['face_ms']['p50']} ms, {shipped['face_ms']['p95']} ms |",
        f"| `predict`, a photograph of 640x480 with one face (p50, p95) | {shipped['photo_ms']['p50']:.0f} ms, "
        f"{shipped['photo_ms']['p95']:.0f} ms |",
        f"| `video`, {shipped['frames']} frames of 640x480 with one face (found in {shipped['frames_with_face']}), "
        f"from file to csv: frames a second of {len(fps)} runs | {', '.join(f'{each:.0f}' for each in fps)} |",
        f"| the same, with the annotated video written | {shipped['annotated_fps']:.0f} |",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ensemble_fer.benchmarks.using", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each form at each batch")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of the video")
    parser.add_argument("--threads", type=int, help="all processors")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--page", type=Path, default=PAGE, help="its tables are renewed if it has a place for them")
    asked = parser.parse_args(arguments)
    found = measure(seconds=asked.seconds, frames=asked.frames, threads=asked.threads)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(asked.out, json.dumps(found, indent=1) + "\n")
    text = asked.page.read_text(encoding="utf-8") if asked.page.is_file() else ""
    before, mark, rest = text.partition(BEGIN)
    if mark:
        write_atomic(asked.page, before + BEGIN + "\n" + page_tables(found) + END + rest.partition(END)[2])
    print(page_tables(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
