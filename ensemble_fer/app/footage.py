"""Videos and cameras read, annotated videos and tables written: all that OpenCV does for ``video``."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.app.drawing import annotated
from ensemble_fer.data.readers import LARGEST_PICTURE
from ensemble_fer.errors import BadData, EnsembleFerError, MissingError, UsageError
from ensemble_fer.files import partial_file
from ensemble_fer.types import CLASSES

FOURCC = {".mp4": "mp4v", ".avi": "MJPG"}
ASSUMED_RATE = 30.0
"""Frames a second of a source that does not say."""
LONGEST_STILL = 10.0
"""Seconds for which a written video repeats a picture at most, where a source gave none."""
HEAD = ("frame", "seconds", "face", "x0", "y0", "x1", "y1", "label", "abstained", *CLASSES)


class Footage:
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
    # What it thinks of a file is said by us, once. OpenCV 4 has it in another place than 5.
    silence = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
    silence(0)
    return cv2


@contextmanager
def opened_source(source: str | Path | int) -> Iterator[Footage]:
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
        if width * height <= 0:
            raise BadData(str(source), ["it has no frames"], "Expected a video such as mp4, avi or webm.")
        if width * height > LARGEST_PICTURE:
            raise BadData(
                str(source), [f"frames of {width}x{height}"], f"Expected 1 to {LARGEST_PICTURE:,} pixels a frame."
            )
        rate = float(device.get(cv2.CAP_PROP_FPS))
        rate = rate if 0 < rate <= 1000 else ASSUMED_RATE
        yield Footage(device, rate, (width, height), max(0, int(device.get(cv2.CAP_PROP_FRAME_COUNT))))
    finally:
        device.release()


@contextmanager
def opened_outputs(annotate: str | Path | None, table: str | Path | None, capture: Footage) -> Iterator[tuple]:
    """Functions that draw a frame and write its lines; both files appear whole, at the end."""
    with partial_file(annotate) as drawn, partial_file(table) as listed:
        writer = lines = file = cv2 = None
        written, skipped = 0, 0
        before: NDArray[np.uint8] | None = None
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
            nonlocal written, skipped, before
            if writer is None or cv2 is None:
                return
            shown = np.asarray(annotated(frame, said, enlarge=False)) if said else frame
            if shown.shape[1::-1] != capture.size:  # the writer would leave it out without a word
                shown = cv2.resize(shown, capture.size)
            shown = np.ascontiguousarray(shown[:, :, ::-1])
            # At an even rate: until this one came the one before it was seen, but not for longer than is allowed.
            gap = round(moment * capture.rate) - skipped - written
            longest = round(LONGEST_STILL * capture.rate)
            skipped += max(0, gap - longest)
            for _ in range(min(gap, longest)):
                writer.write(shown if before is None else before)
            if gap >= 0:  # else a frame has its place in the video already
                writer.write(shown)
                written += min(gap, longest) + 1
            before = shown

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
            check_written(cv2, drawn, written, annotate)


def check_written(cv2: Any, drawn: Path, frames: int, called: str | Path | None) -> None:
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
