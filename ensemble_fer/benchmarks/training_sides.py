"""The two trainings that ``benchmarks/training.py`` compares, each in a process of its own.

A side is started once, then told on its input how many crops to train on next; it answers with a line of JSON. So the
sides take turns, and each one's memory is its own.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from ensemble_fer.config import resolve_recipe
from ensemble_fer.data.importing import load_faces
from ensemble_fer.devices import choose_device
from ensemble_fer.models import build
from ensemble_fer.models.member import GRAY_MEAN, GRAY_SCALE
from ensemble_fer.runtime import cpu_count, peak_mb
from ensemble_fer.store import Store, need_data
from ensemble_fer.train.batches import Batches, step_seed
from ensemble_fer.train.convolutions import FastConvolutions
from ensemble_fer.train.device import choose_precision, keep_freed_memory
from ensemble_fer.train.losses import loss_of
from ensemble_fer.train.optimizers import optimizer_of
from ensemble_fer.types import Resampling

MODEL = "vggnet"
FACE, CROP = 48, 40


class Ours:
    """A step of the training loop: faces resident as bytes, augmented as a batch, channels last, fused optimizer."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.uint8], batch: int, device: torch.device) -> None:
        self.recipe = resolve_recipe(model=MODEL, batch_size=batch)
        torch.manual_seed(0)
        if device.type == "cpu":
            keep_freed_memory()
        self.member = build(MODEL, self.recipe.dropout).to(device).to(memory_format=torch.channels_last)
        self.optimizer = optimizer_of(self.recipe, self.member)
        self.device, self.precision = device, choose_precision(self.recipe.precision, device)
        rows = np.arange(len(images), dtype=np.int32)
        none, zero = np.zeros(len(rows), np.uint8), np.zeros(len(rows))
        self.batches = Batches(
            images,
            Resampling("none", none, rows, rows, zero, labels),
            crop=self.member.crop,
            policy=self.recipe.augmentation,
            batch_size=batch,
            seed=0,
            device=device,
        )
        self.counts = torch.bincount(torch.from_numpy(labels.astype(np.int64)), minlength=7).float()
        self.fast = FastConvolutions()
        self.step = 0

    def train(self, steps: int) -> dict[str, Any]:
        """So many steps, and the share of them that batches took."""
        crops, drawing = 0, 0.0
        loss = torch.zeros(())
        began = time.perf_counter()
        for _ in range(steps):
            torch.manual_seed(step_seed(0, self.step))
            self.member.train()
            drawn = time.perf_counter()
            batch, labels = self.batches.draw(self.step)
            drawing += time.perf_counter() - drawn
            reduced = self.precision != torch.float32
            with torch.autocast(self.device.type, self.precision, enabled=reduced), self.fast:
                loss = self.member.loss(batch, labels, loss_of(self.recipe, self.counts, 0.0))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            loss.item()
            self.step += 1
            crops += len(batch)
        seconds = time.perf_counter() - began
        return {"crops": crops, "seconds": seconds, "input_seconds": drawing, "loss": loss.item()}

    def input_seconds(self, steps: int) -> float:
        """Seconds of so many batches alone, to their end on the device; an upper bound where a device works beside."""
        _wait(self.device)
        began = time.perf_counter()
        for step in range(steps):
            self.batches.draw(step)
        _wait(self.device)
        return time.perf_counter() - began

    def about(self) -> dict[str, Any]:
        return {"precision": str(self.precision).removeprefix("torch."), "flops_a_crop": self._flops()}

    def _flops(self) -> int:
        """Of forward and backward of one crop, as direct convolutions count them."""
        from torch.utils.flop_counter import FlopCounterMode

        crops, labels = self.batches.draw(0)
        with FlopCounterMode(display=False) as counter:
            self.member.loss(crops, labels, nn.functional.cross_entropy).backward()
        self.optimizer.zero_grad(set_to_none=True)
        return counter.get_total_flops() // len(crops)


class Faces(Dataset):
    """Pictures that are transformed one by one."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.uint8], transform: Any) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


class Turn(Sampler):
    """A fresh order of all faces, of which a turn takes the first ``crops``."""

    def __init__(self, faces: int) -> None:
        self.faces, self.crops = faces, 0

    def __iter__(self) -> Iterator[int]:
        passes = -(-self.crops // self.faces)
        return itertools.islice((i for _ in range(passes) for i in torch.randperm(self.faces).tolist()), self.crops)

    def __len__(self) -> int:
        return self.crops


class Published:
    """Khaireddin & Chen's pipeline with one crop an image: PIL transforms in a DataLoader, eager float32, NCHW.

    Scale, shift and rotation each with probability 0.5 as the paper has them, then one random crop in place of ten;
    on a GPU the network runs in float16 with a scaled loss, as their code does.
    """

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.uint8], batch: int, device: torch.device) -> None:
        from torchvision import transforms as t

        transform = t.Compose(
            [
                t.RandomApply([t.RandomResizedCrop(FACE, scale=(0.8, 1.2))], p=0.5),
                t.RandomApply([t.RandomAffine(0, translate=(0.2, 0.2))], p=0.5),
                t.RandomHorizontalFlip(),
                t.RandomApply([t.RandomRotation(10)], p=0.5),
                t.RandomCrop(CROP),
                t.ToTensor(),
                t.Normalize(GRAY_MEAN, GRAY_SCALE),
                t.RandomErasing(p=0.5),
            ]
        )
        self.faces, self.turn = Faces(images, labels, transform), Turn(len(images))
        self.batch, self.device = batch, device
        torch.manual_seed(0)
        self.body = build(MODEL, 0.2).body.to(device)
        self.optimizer = torch.optim.SGD(self.body.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)
        self.criterion = nn.CrossEntropyLoss()
        self.scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
        self.workers = 0
        self.loaders: dict[int, DataLoader] = {}

    def with_workers(self, workers: int) -> None:
        """Load with so many worker processes from now on; those of before end."""
        self.loaders.clear()
        self.workers = workers
        self.loaders[workers] = DataLoader(
            self.faces,
            batch_size=self.batch,
            sampler=self.turn,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.device.type == "cuda",
        )

    def train(self, steps: int) -> dict[str, Any]:
        """So many steps over freshly shuffled faces."""
        self.turn.crops = steps * self.batch
        if not self.loaders:
            self.with_workers(0)
        crops, loss = 0, torch.zeros(())
        self.body.train()
        began = time.perf_counter()
        for images, labels in self.loaders[self.workers]:
            images, labels = images.to(self.device), labels.to(self.device)
            with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
                loss = self.criterion(self.body(images), labels)
            self.optimizer.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            loss.item()
            crops += len(images)
        seconds = time.perf_counter() - began
        return {"crops": crops, "seconds": seconds, "loss": loss.item(), "workers": self.workers}

    def worker_mb(self) -> list[float]:
        """Peak memory of each worker process, most of it shared with this one."""
        found = []
        for process in torch.multiprocessing.active_children():
            status = Path(f"/proc/{process.pid}/status")
            if status.is_file():
                found.append(round(int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024 / 1e6, 1))
        return found

    def about(self) -> dict[str, Any]:
        return {"precision": "float16" if self.device.type == "cuda" else "float32"}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def serve(kind: str, store: Path, data: str, batch: int, threads: int, device_name: str) -> None:
    """Answer requests from standard input, a line of JSON each, until it ends."""
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    torch.set_num_threads(threads or cpu_count())
    device = choose_device(device_name)
    faces = load_faces(need_data(Store(store), data))
    rows = faces.rows_of("Training")
    side = {"ours": Ours, "published": Published}[kind](faces.images[rows], faces.labels[rows], batch, device)
    answer: dict[str, Any] = {"device": str(device), "threads": torch.get_num_threads(), "faces": len(rows)}
    if device.type == "cuda":
        answer["device"] = torch.cuda.get_device_name(device)
    print(json.dumps({**answer, **side.about(), "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = {}
        if "workers" in request and isinstance(side, Published):
            side.with_workers(request["workers"])
        if "steps" in request:
            answer = side.train(request["steps"])
        if "input_steps" in request and isinstance(side, Ours):
            answer["input_seconds"] = side.input_seconds(request["input_steps"])
        answer["peak_mb"] = peak_mb()
        if isinstance(side, Published):
            answer["worker_mb"] = side.worker_mb()
        if device.type == "cuda":
            answer["device_peak_mb"] = round(torch.cuda.max_memory_allocated(device) / 1e6, 1)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
