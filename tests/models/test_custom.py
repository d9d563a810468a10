"""A module of one's own: what its function may be, and what is said of what it may not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from ensemble_fer.errors import EnsembleFerError, MissingError, UsageError
from ensemble_fer.models import build

GOOD = """
from torch import nn


class Net(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.features = nn.Conv2d(1, 4, 5, stride=4)
        self.drop = nn.Dropout(dropout)
        self.classifier = nn.Linear(484, 7)

    def forward(self, x):
        return self.classifier(self.drop(self.features(x).flatten(1)))


def build(dropout):
    return Net(dropout)


def fixed():
    return Net(0.25)


def wide(width=4, *, dropout=0.1):
    assert width == 4
    return Net(dropout)


def member():
    from ensemble_fer.models import Member
    return Member(nn.Sequential(nn.Flatten(), nn.Linear(3 * 20 * 20, 7)), 40, side=20, mean=[0.5] * 3, scale=[0.5] * 3)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(GOOD)
    return path


@pytest.mark.parametrize(("function", "dropout"), [("build", 0.4), ("Net", 0.4), ("wide", 0.4), ("fixed", 0.25)])
def test_a_function_or_class_makes_the_body(file: Path, function: str, dropout: float) -> None:
    made = build(f"{file}:{function}", 0.4)
    assert (made.crop, made.side, made.channels) == (48, 48, 1)
    assert made.body.drop.p == dropout  # type: ignore[union-attr]
    assert made.training
    assert made.head_parameters[0] is made.body.classifier.weight  # type: ignore[union-attr]
    faces = torch.randint(0, 256, (3, 48, 48), dtype=torch.uint8)
    x = (faces[:, None] / 255 - 0.5) / 0.25
    torch.testing.assert_close(made.eval()(faces), made.body(x))


def test_a_member_is_taken_as_it_is(file: Path) -> None:
    made = build(f"{file}:member")
    assert (made.crop, made.side, made.channels) == (40, 20, 3)


def test_the_seed_decides_its_weights(file: Path) -> None:
    torch.manual_seed(3)
    first = build(f"{file}:build")
    torch.manual_seed(3)
    assert torch.equal(first.head_parameters[0], build(f"{file}:build").head_parameters[0])
    drawn = torch.rand(1)
    torch.manual_seed(3)
    namespace: dict = {}
    exec(compile(GOOD, "net.py", "exec"), namespace)
    namespace["Net"]()
    assert torch.equal(drawn, torch.rand(1)), "trying the network drew random numbers"


def test_paths_with_colons_and_files_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a:b.py:c"
    folder.mkdir()
    (folder / "layers_beside.py").write_text("from torch import nn\nLAST = nn.Linear(2304, 7)\n")
    (folder / "net.py").write_text(
        "from torch import nn\nfrom layers_beside import LAST\n"
        "def build(dropout): return nn.Sequential(nn.Flatten(), LAST)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert build(f"a:b.py:c{os.sep}net.py:build").parameter_count == 2304 * 7 + 7


def test_a_changed_file_is_read_again(file: Path) -> None:
    before = build(f"{file}:build").parameter_count
    file.write_text(GOOD.replace("(1, 4, 5", "(1, 4, 5, bias=False"))
    assert build(f"{file}:build").parameter_count == before - 4


def test_no_such_file_or_function(file: Path) -> None:
    with pytest.raises(MissingError, match=r"no file .*nothing\.py") as caught:
        build(f"{file.parent}/nothing.py:build")
    assert caught.value.exit_code == 3
    with pytest.raises(UsageError, match=r"unknown function in .*net\.py 'biuld'\. Did you mean 'build'"):
        build(f"{file}:biuld")
    for name in (f"{file}:", f"{file}:not a name"):
        with pytest.raises(UsageError, match=r"expected FILE\.py:FUNCTION"):
            build(name)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def build(dropout):\n    x = 1\n    return 1 / 0\n", "line 3: build() failed: ZeroDivisionError"),
        ("import nothing_of_that_name\n", "line 1: the file failed: ModuleNotFoundError"),
        ("x = 1\ndef build(:\n", "line 2: the file failed: SyntaxError"),
        ("raise SystemExit(3)\n", "line 1: the file failed: SystemExit: 3"),
        (
            "from torch import nn\nclass N(nn.Module):\n    def forward(self, x):\n        raise ValueError('a\\nb')\n"
            "def build(): return N()\n",
            "line 4: a batch of two faces failed: ValueError: a.",
        ),
        ("def build(a, b): return None\n", "build() failed: TypeError"),
    ],
)
def test_errors_in_the_code_are_one_line(tmp_path: Path, source: str, message: str) -> None:
    file = tmp_path / "net.py"
    file.write_text(source)
    with pytest.raises(EnsembleFerError) as caught:
        build(f"{file}:build")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ("7", "gave a int"),
        ("nn.Sequential(nn.Flatten(), nn.Linear(2304, 8))", r"torch.float32 \[2, 8\]"),
        ("nn.Sequential(nn.Flatten(0), nn.Linear(4608, 7))", r"torch.float32 \[7\]"),
        ("nn.LSTM(48, 48)", "failed|gave tuple"),
    ],
)
def test_other_outputs_are_refused(tmp_path: Path, made: str, message: str) -> None:
    file = tmp_path / "net.py"
    file.write_text(f"from torch import nn\ndef build(): return {made}\n")
    with pytest.raises(EnsembleFerError, match=message):
        build(f"{file}:build")
