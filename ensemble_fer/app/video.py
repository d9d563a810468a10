"""The expressions of faces through a video or before a camera: annotated frames, and a line for each face and frame."""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.app.drawing import annotated
from ensemble_fer.app.prediction import THRESHOLD, check_threshold, opened_graph
from ensemble_fer.data.readers import LARGEST_PICTURE
from ensemble_fer.detector.finding import cut_out, framed
from ensemble_fer.detector.tracking import EVERY, Track, Tracker
from ensemble_fer.errors import BadData, EnsembleFerError, MissingError, UsageError
from ensemble_fer.export.session import OUTPUT, Graph
from ensemble_fer.files import check_outputs, partial_file
from ensemble_fer.runtime import progress, uninterrupted
from ensemble_fer.store import Artifact
from ensemble_fer.types import CLASSES

FOURCC = {".mp4": "mp4v", ".avi": "MJPG"}
SMOOTHING = 0.4
"""Seconds in which what was said of a face before loses all but a third of its weight."""
ASSUMED_RATE = 30.0
"""Frames a second of a source that does not say."""
SLACK = 2
"""Frames by which a file may be shorter than it says; the counts of sound ones are off by so many."""
LONGEST_STILL = 10.0
"""Seconds for which a written video repeats a picture at most, where a source gave none."""
HEAD = ("frame", "seconds", "face", "x0", "y0", "x1", "y1", "label", "abstained", *CLASSES)


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
    with ExitStack() as finishing, _source(source) as capture, _outputs(annotate, table, capture) as (draw, write):
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


class _Capture:
    """Frames of an opened source."""

    def __init__(self, device: Any, rate: float, size: tuple[int, int], count: int) -> None:
        self.device, self.rate, self.size, self.count = device, rate, size, count

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """RGB frames until the end."""
        cv2 = _opencv()
        while True:
            good, frame = self.device.read()
            if not good:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def moment(self, number: int, before: float) -> float:
        """Seconds of the frame just read into the file, by its own clock where that goes forward."""
        said = float(self.device.get(_opencv().CAP_PROP_POS_MSEC)) / 1000
        return said if number == 0 or said > before else max(before, number / self.rate)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingError(
            "videos are read and written by OpenCV, which is not installed. Get it:  pip install 'ensemble-fer[video]'"
        ) from error
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what it thinks of a file is said by us, once
    return cv2


@contextmanager
def _source(source: str | Path | int) -> Iterator[_Capture]:
    """The source opened; released at the end."""
    live = isinstance(source, int)
    if not live and not Path(source).is_file():
        raise MissingError(f"there is no video {source}. Give a file, or the number of a camera: 0 is the first.")
    cv2 = _opencv()
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    # As an absolute path, since OpenCV takes addresses and devices too.
    device = cv2.VideoCapture(source if live else str(Path(source).resolve()))
    try:
        if not device.isOpened():
            if live:
                raise MissingError(f"camera {source} cannot be opened. Is one connected, and free?")
            raise BadData(
                str(source), ["OpenCV cannot open it as a video"], "Expected a video such as mp4, avi or webm."
            )
        width, height = int(device.get(cv2.CAP_PROP_FRAME_WIDTH)), int(device.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if not 0 < width * height <= LARGEST_PICTURE:
            raise BadData(
                str(source), [f"frames of {width}x{height}"], f"Expected 1 to {LARGEST_PICTURE:,} pixels a frame."
            )
        rate = float(device.get(cv2.CAP_PROP_FPS))
        rate = rate if 0 < rate <= 1000 else ASSUMED_RATE
        yield _Capture(device, rate, (width, height), max(0, int(device.get(cv2.CAP_PROP_FRAME_COUNT))))
    finally:
        device.release()


@contextmanager
def _outputs(annotate: str | Path | None, table: str | Path | None, capture: _Capture) -> Iterator[tuple]:
    """Functions that draw a frame and write its lines; both files appear whole, at the end."""
    with partial_file(annotate) as drawn, partial_file(table) as listed:
        writer = lines = file = cv2 = None
        written = 0
        if drawn is not None:
            cv2 = _opencv()
            fourcc = cv2.VideoWriter_fourcc(*FOURCC[Path(str(annotate)).suffix.lower()])
            writer = cv2.VideoWriter(str(drawn), fourcc, capture.rate, capture.size)
            if not writer.isOpened():
                raise UsageError(f"{annotate} cannot be written as a video of {capture.size[0]}x{capture.size[1]}.")
        if listed is not None:
            file = listed.open("w", newline="", encoding="utf-8")
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(HEAD)

        def draw(frame: NDArray[np.uint8], said: list[dict], moment: float) -> None:
            nonlocal written
            if writer is None or cv2 is None:
                return
            shown = np.asarray(annotated(frame, said, enlarge=False)) if said else frame
            if shown.shape[1::-1] != capture.size:  # the writer would leave it out without a word
                shown = cv2.resize(shown, capture.size)
            # At an even rate: until the next frame came the one before it is seen.
            due = min(round(moment * capture.rate) + 1, written + round(LONGEST_STILL * capture.rate))
            for _ in range(due - written):
                writer.write(np.ascontiguousarray(shown[:, :, ::-1]))
            written = max(written, due)

        def write(number: int, moment: float, said: list[dict]) -> None:
            if lines is not None:
                for face in said:
                    shares = [f"{face['probabilities'][name]:.4f}" for name in CLASSES]
                    told = (face["label"], face["abstained"])
                    lines.writerow([number, f"{moment:.3f}", face["face"], *face["box"], *told, *shares])

        try:
            yield draw, write
        finally:
            if writer is not None:
                writer.release()
            if file is not None:
                file.close()
        if drawn is not None and cv2 is not None:
            _check_written(cv2, drawn, written, annotate)


def _check_written(cv2: Any, drawn: Path, frames: int, called: str | Path | None) -> None:
    """Raise unless the written video holds what was given to OpenCV, which does not say when a disk is full."""
    again = cv2.VideoCapture(str(drawn))
    try:
        held = int(again.get(cv2.CAP_PROP_FRAME_COUNT)) if again.isOpened() else 0
    finally:
        again.release()
    if held < frames:
        raise EnsembleFerError(
            f"{called} could not be written whole: {held} of {frames} pictures are in it. Is the disk full? "
            "Nothing was changed there."
        )
