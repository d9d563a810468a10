"""One choice of a device for all work: what can be, what is here, and what is said where it is not."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from ensemble_fer.devices import CPU_OR_CUDA, check_device, choose_device
from ensemble_fer.errors import MissingError, UsageError
from tests.cli.running import run


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


def test_a_gpu_that_is_not_here_is_refused_with_those_that_are(two_gpus) -> None:
    assert choose_device("cuda:1") == torch.device("cuda", 1) == choose_device("cuda:01")
    assert choose_device() == torch.device("cuda") == choose_device("cuda")
    assert choose_device("cpu").type == "cpu"
    for name in ("cuda:2", "cuda:9", "mps", "cuda:99999999999999999999"):
        with pytest.raises(MissingError, match=rf"{name} is not here; torch finds cpu, cuda, cuda:0, cuda:1\."):
            choose_device(name)


def test_an_apple_gpu_is_taken_only_for_what_it_can_do(apple) -> None:
    assert choose_device().type == "mps" == choose_device("mps").type
    assert choose_device("auto", CPU_OR_CUDA).type == "cpu"
    with pytest.raises(MissingError, match=r"cuda is not here; torch finds cpu, mps\."):
        choose_device("cuda")
    with pytest.raises(UsageError, match=r"dreaming cannot .* 'mps'\. Expected one of auto, cpu, cuda, cuda:N\."):
        choose_device("mps", CPU_OR_CUDA, "dreaming")


@pytest.mark.parametrize("name", ["tpu", "meta", "cuda:", "cuda:x", "cpu:0", ""])
def test_what_is_no_device(name: str) -> None:
    with pytest.raises(UsageError, match=r"unknown device .* Known: auto, cpu, cuda, cuda:N, mps\."):
        check_device(name)


@pytest.mark.parametrize("command", [["align"], ["resample", "--method", "smote"]])
def test_commands_offer_only_what_they_can_do(command: list[str], tmp_path) -> None:
    assert "mps" not in run(*command[:1], "--help").stdout
    done = run(*command, "--device", "mps", "--store", tmp_path)
    assert done.exit_code == 2
    assert "cannot be done on device 'mps'. Expected one of auto, cpu, cuda, cuda:N." in done.stderr
    assert "mps" in run("train", "--help").stdout


def test_asking_whether_a_name_can_be_a_device_loads_no_torch() -> None:
    script = "import sys, ensemble_fer.devices as d; d.check_device('cuda:3'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"
