"""Faces in pictures of any size and number: the cascade in batches, one on each core."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from ensemble_fer.align.engine import TorchEngine
from ensemble_fer.align.nets import Nets
from ensemble_fer.align.weights import load_weights
from ensemble_fer.data.derived import Alignment
from ensemble_fer.detector.cascade import Settings, Windows, find_faces
from ensemble_fer.devices import CPU_OR_CUDA, choose_device
from ensemble_fer.errors import UsageError
from ensemble_fer.runtime import cpu_count

# Pixels that go through the cascade together: 64 pictures of 96 x 96.
BATCH_PIXELS = 64 * 96 * 96
# The work, for messages.
LOOKING = "looking for faces"


def detect(
    images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
    settings: Settings = Settings(),
    *,
    device: str = "auto",
    advance: Callable[[int], None] = lambda n: None,
) -> Alignment:
    """Look for a face in each picture.

    Parameters
    ----------
    images : uint8 [n, h, w] or [n, h, w, 3], or a list of pictures [h, w], [h, w, 1] or [h, w, 3] of any sizes
        Pictures of the same size go through together. One in which no face of ``settings.smallest`` pixels has room
        has none; neither has an empty one.
    settings : Settings
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    advance : callable
        Is given the number of pictures done, after each batch.

    Returns
    -------
    Alignment
        Where the face of each picture is, in pixels of the picture. Where it shows several, the one with the largest
        box, as facenet-pytorch chooses.

    Raises
    ------
    UsageError
        Something that is no picture of bytes, or an unknown device.
    MissingError
        The weights or the device are not here.
    """
    pictures = [_checked(image, row) for row, image in enumerate(images)]
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, picture in enumerate(pictures):
        groups.setdefault(picture.shape, []).append(row)
    batches: list[list[int]] = []
    for shape, rows in groups.items():
        many = max(1, BATCH_PIXELS // max(1, shape[0] * shape[1]))
        batches += [rows[start : start + many] for start in range(0, len(rows), many)]

    n = len(pictures)
    faces = {
        "found": np.zeros(n, bool),
        "landmarks": np.zeros((n, 5, 2), np.float32),
        "boxes": np.zeros((n, 4), np.float32),
        "score": np.zeros(n, np.float32),
        "count": np.zeros(n, np.int32),
    }
    with _finder(settings, device) as find:
        for rows, windows in zip(batches, find([[pictures[row] for row in rows] for rows in batches]), strict=True):
            _keep_largest(faces, np.asarray(rows), windows)
            advance(len(rows))
    return Alignment(**faces)


def _checked(image: NDArray[np.uint8], row: int) -> NDArray[np.uint8]:
    """A picture as uint8 [h, w] or [h, w, 3]; three equal channels are one."""
    picture = np.asarray(image)
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[..., 0]
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] != 3):
        raise UsageError(
            f"picture {row} is {picture.dtype} {list(picture.shape)}; expected uint8 [h, w] or [h, w, 3], "
            "grey levels or red, green, blue from 0 to 255."
        )
    if picture.ndim == 3 and np.array_equal(picture[..., 0], picture[..., 1]):
        return picture[..., 0] if np.array_equal(picture[..., 1], picture[..., 2]) else picture
    return picture


Batches = list[list[NDArray[np.uint8]]]


@contextmanager
def _finder(settings: Settings, name: str) -> Iterator[Callable[[Batches], Iterator[Windows]]]:
    """Yields a function from batches of pictures of one size to what is found in each, in order.

    On the CPU every thread takes a batch of its own and torch none besides: the layers are too small to share.
    """
    device = choose_device(name, CPU_OR_CUDA, LOOKING)
    weights = load_weights()
    nets = {channels: Nets(weights, channels, device) for channels in (1, 3)}

    def one(batch: list[NDArray[np.uint8]]) -> Windows:
        pictures = np.stack(batch)
        channels = 3 if pictures.ndim == 4 else 1
        planes = pictures.reshape(*pictures.shape[:3], channels).transpose(0, 3, 1, 2)
        with torch.inference_mode():
            return find_faces(TorchEngine(torch.from_numpy(planes.copy()).to(device), nets[channels]), settings)

    if device.type != "cpu":
        yield lambda batches: map(one, batches)
        return
    former = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with ThreadPoolExecutor(cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                yield lambda batches: pool.map(one, batches)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        torch.set_num_threads(former)


def _keep_largest(faces: dict[str, NDArray], rows: NDArray[np.int64], windows: Windows) -> None:
    """Write the largest face of each picture of a batch into its row; of equally large ones the best."""
    size = windows.boxes[:, 2:] - windows.boxes[:, :2]
    order = np.lexsort((-windows.scores, -size.prod(1), windows.owners))
    owners, first = np.unique(windows.owners[order], return_index=True)
    chosen = order[first]
    where = rows[owners]
    faces["found"][where] = True
    faces["boxes"][where] = windows.boxes[chosen]
    faces["landmarks"][where] = windows.landmarks[chosen]
    faces["score"][where] = windows.scores[chosen]
    faces["count"][rows] = np.bincount(windows.owners, minlength=len(rows))
