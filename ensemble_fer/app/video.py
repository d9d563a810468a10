"""The expressions of faces through a video or before a camera: annotated frames, and a line for each face and frame."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.app.footage import FOURCC, opened_outputs, opened_source
from ensemble_fer.app.prediction import THRESHOLD, check_threshold, opened_graph
from ensemble_fer.data.readers import LARGEST_PICTURE
from ensemble_fer.detector.finding import cut_out, framed
from ensemble_fer.detector.tracking import EVERY, Track, Tracker
from ensemble_fer.errors import BadData, UsageError
from ensemble_fer.export.session import OUTPUT, Graph
from ensemble_fer.files import check_outputs
from ensemble_fer.runtime import progress, uninterrupted
from ensemble_fer.store import Artifact
from ensemble_fer.types import CLASSES

SMOOTHING = 0.4
"""Seconds in which what was said of a face before loses all but a third of its weight."""
SLACK = 2
"""Frames by which a file may be shorter than it says; the counts of sound ones are off by so many."""


@dataclass
class Smoothed:
    """Probabilities of each face, averaged over the moments just past.

    Parameters
    ----------
    seconds : float
        After this time what was said before has lost all but 1/e of its weight; 0 smooths nothing.
    """

    seconds: float
    _said: dict[int, tuple[float, NDArray[np.float64]]] = field(default_factory=dict)

    def update(self, face: int, now: float, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """What is to be said of a face at a moment, in seconds, given what the graph says of this frame: [7]."""
        before, said = self._said.get(face, (now, probabilities))
        keep = math.exp(-(now - before) / self.seconds) if self.seconds and face in self._said else 0.0
        said = keep * said + (1 - keep) * probabilities
        self._said[face] = (now, said)
        return said

    def keep(self, faces: Collection[int]) -> None:
        """Forget all other faces."""
        self._said = {face: said for face, said in self._said.items() if face in faces}


def video(
    source: str | Path | int,
    *,
    graph: str | Path | Artifact | Graph | None = None,
    annotate: str | Path | None = None,
    table: str | Path | None = None,
    every: int = EVERY,
    smallest: float | None = None,
    smoothing: float = SMOOTHING,
    threshold: float | None = None,
    seconds: float | None = None,
    threads: int | None = None,
    quiet: bool = True,
) -> dict:
    """Follow the faces of a video and say at each frame which expression they show.

    Parameters
    ----------
    source : file, or camera number
        Whatever OpenCV can open; cameras are counted from 0.
    graph : path, ensemble artifact, or opened Graph, optional
        As in ``predict``.
    annotate : path, optional
        Where to write the video with boxes and labels: ``.mp4`` (MPEG-4) or ``.avi`` (Motion JPEG). Sound is left out.
        It has an even rate: where the source has not, a frame is shown until the next one came.
    table : path, optional
        Where to write a csv line for each face and frame: number of the frame from 0, seconds, number of the face, box,
        label, whether it was abstained from, and the smoothed probabilities.
    every, smallest
        As in ``Tracker``.
    smoothing : float
        Seconds over which the probabilities of a face are averaged, see ``Smoothed``; 0 for each frame alone.
    threshold : float, optional
        As in ``predict``, of the smoothed probabilities.
    seconds : float, optional
        Stop after so many seconds of a video, or before a camera; a camera goes on until Ctrl-C otherwise.
    threads : int, optional
        Of onnxruntime; all processors by default.

    Returns
    -------
    dict
        ``frames``, ``faces`` (how many different ones), ``seconds`` of video, ``took`` (seconds of work), ``fps`` of
        the work, ``rate`` and ``size`` of the video, ``shares`` (of the frames of all faces, how many had each label),
        ``declared`` (frames that the file says it has; 0 if it does not), ``whole`` (whether nothing was missing at its
        end, or it was stopped as asked), ``interrupted``. What was written until a Ctrl-C is complete until there.

    Raises
    ------
    MissingError
        No such file or camera, or OpenCV is not installed.
    BadData
        The file is no video, or its frames are too large.
    UsageError
        A number out of range, an ending of ``annotate`` that is not known, or a place that cannot be written.
    EnsembleFerError
        The annotated video could not be written whole. What was there before stays.
    """
    opened = opened_graph(graph, threads)
    _check(source, (annotate, table), opened.path, every, smallest, smoothing, threshold, seconds)
    limit = threshold if threshold is not None else THRESHOLD if opened.calibrated else 0.0
    smoothed, tracker = Smoothed(smoothing), Tracker(every, smallest, threads)
    counts = dict.fromkeys(CLASSES, 0)
    frames, moment, interrupted, stopped, faces = 0, 0.0, False, False, 0
    live = isinstance(source, int)
    with (
        ExitStack() as finishing,
        opened_source(source) as capture,
        opened_outputs(annotate, table, capture) as (draw, write),
    ):
        rate, total = capture.rate, 0 if live else capture.count
        began = time.perf_counter()
        with progress(total or 1, "video", quiet=quiet) as advance, suppress(KeyboardInterrupt):
            interrupted = True
            for frame in capture.frames():
                moment = time.perf_counter() - began if live else capture.moment(frames, moment)
                if seconds is not None and moment >= seconds:
                    stopped = True
                    break
                tracks = tracker.update(frame)
                said = _said(frame, tracks, opened, smoothed, moment, limit)
                for face in said:
                    counts[face["label"]] += 1
                    faces = max(faces, face["face"])
                write(frames, moment, said)
                draw(frame, said, moment)
                frames += 1
                advance(1, ", ".join(f"{face['face']} {face['label']}" for face in said))
            interrupted = False
        finishing.enter_context(uninterrupted())
        took = time.perf_counter() - began
        if not frames and interrupted:
            raise KeyboardInterrupt
        if not frames:
            raise BadData(str(source), ["no frame could be read"], "Expected a video with at least one picture.")
    every_label = max(1, sum(counts.values()))
    return {
        "source": str(source),
        "frames": frames,
        "faces": faces,
        "seconds": round(moment if live else moment + 1 / rate, 3),
        "took": round(took, 3),
        "fps": round(frames / took, 1) if took else 0.0,
        "rate": rate,
        "size": list(capture.size),
        "shares": {name: round(count / every_label, 4) for name, count in counts.items()},
        "declared": capture.count,
        "whole": stopped or interrupted or (not live and frames >= capture.count - SLACK),
        "interrupted": interrupted,
    }


def _check(
    source: str | Path | int,
    outputs: tuple[str | Path | None, str | Path | None],
    graph: Path,
    every: int,
    smallest: float | None,
    smoothing: float,
    threshold: float | None,
    seconds: float | None,
) -> None:
    # Turned round, so that what is not a number does not pass.
    if not (every >= 1 and smoothing >= 0 and (seconds is None or seconds > 0)):
        raise UsageError(
            f"every {every}, smoothing {smoothing}, seconds {seconds}: expected 1 or more, 0 or more, above 0."
        )
    if smallest is not None and not 12 <= smallest <= LARGEST_PICTURE:
        raise UsageError(f"smallest {smallest}: expected 12 pixels or more.")
    check_threshold(threshold)
    annotate = outputs[0]
    if annotate is not None and Path(annotate).suffix.lower() not in FOURCC:
        raise UsageError(f"{annotate}: expected a file that ends with {' or '.join(FOURCC)}.")
    read = [graph] if isinstance(source, int) else [graph, Path(source)]
    check_outputs(zip(("annotated video", "table"), outputs, strict=True), read)
    for name in (source, annotate):
        if isinstance(name, str | Path) and not _is_text(os.path.realpath(name)):
            raise UsageError(
                f"{os.fsencode(name)!r} is no text in UTF-8, and OpenCV cannot open such names. Rename it."
            )


def _is_text(name: str) -> bool:
    try:
        os.fsencode(name).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _said(
    frame: NDArray[np.uint8], tracks: list[Track], graph: Graph, smoothed: Smoothed, moment: float, limit: float
) -> list[dict]:
    """What is said of each face of a frame, as ``predict`` has it, with its number."""
    smoothed.keep({track.number for track in tracks})
    height, width = frame.shape[:2]
    boxes = np.array([track.box for track in tracks], np.float32).reshape(-1, 4)
    places = np.clip(np.rint(boxes), 0, [width, height, width, height]).astype(int)
    inside: NDArray[np.bool_] = np.all(places[:, :2] < places[:, 2:], axis=1)
    if not inside.any():
        return []
    tracks = [track for track, seen in zip(tracks, inside, strict=True) if seen]
    probabilities = graph.run(cut_out(frame, framed(boxes[inside])))[OUTPUT].astype(np.float64)
    said = []
    for track, place, row in zip(tracks, places[inside], probabilities, strict=True):
        shares = smoothed.update(track.number, moment, row)
        said.append(
            {
                "face": track.number,
                "box": place.tolist(),
                "found": True,
                "label": graph.labels[int(shares.argmax())],
                "probabilities": dict(zip(graph.labels, shares.tolist(), strict=True)),
                "abstained": bool(shares.max() < limit),
            }
        )
    return said
