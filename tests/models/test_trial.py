"""A module of one's own is tried before it is trained: what cannot be trained is named, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ensemble_fer.errors import EnsembleFerError, MissingError, UsageError
from ensemble_fer.models import Member, build
from ensemble_fer.models.trial import learn_a_batch

BEGIN = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.drop, self.last = nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Linear(2304, 7)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        y = self.last(self.drop(self.norm(x)).flatten(1))
        if self.training:
            {training}
        return y


def build():
    {before}
    return Net()
"""


def written(folder: Path, training: str = "pass", before: str = "pass") -> str:
    (folder / "net.py").write_text(BEGIN.format(training=training, before=before))
    return f"{folder / 'net.py'}:build"


@pytest.mark.parametrize(
    ("training", "kind", "said"),
    [
        ("raise ValueError('not today')", EnsembleFerError, "net.py, line 16: a step of training failed: ValueError"),
        ("assert len(x) < 3", EnsembleFerError, "net.py, line 16: a step of training failed: AssertionError"),
        ("return y[:, :5]", UsageError, "in training it gave torch.float32 [4, 5] for 4 faces"),
        ("return (y,)", UsageError, "in training it gave a tuple of 1"),
        ("return [y, y]", UsageError, "in training it gave a list"),
        ("return y, y[:2]", UsageError, "in training it gave torch.float32 [2, 7]"),
        ("return y.detach()", UsageError, "logits do not depend on any parameter"),
        (
            "y.register_hook(lambda g: 1 / 0)",
            EnsembleFerError,
            "net.py, line 16: a step of training failed: ZeroDivisionError",
        ),
    ],
)
def test_what_fails_in_training_is_named(tmp_path: Path, training: str, kind: type, said: str) -> None:
    with pytest.raises(kind) as caught:
        build(written(tmp_path, training))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_trainable_parameters(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be trained: all of its parameters are frozen"):
        build(written(tmp_path, before="return Net().requires_grad_(False)"))
    with pytest.raises(UsageError, match="cannot be trained: it has no parameters"):
        build(written(tmp_path, before="return nn.Sequential(nn.AdaptiveAvgPool2d((1, 7)), nn.Flatten())"))


@pytest.mark.parametrize("before", ["pass", "n = Net(); n.odd = n.last.weight * 1; return n"])
def test_a_trial_changes_neither_member_nor_random_numbers(tmp_path: Path, before: str) -> None:
    """The second cannot be copied: it holds what was computed from a weight."""
    torch.manual_seed(3)
    member = build(written(tmp_path, before=before))
    drawn = torch.rand(1)
    torch.manual_seed(3)
    norm, last = torch.nn.BatchNorm2d(1), torch.nn.Linear(2304, 7)
    assert torch.equal(drawn, torch.rand(1))
    state = member.body.state_dict()
    for name, module in (("norm", norm), ("last", last)):
        for key, value in module.state_dict().items():
            assert torch.equal(state[f"{name}.{key}"], value), key
    assert all(parameter.grad is None for parameter in member.parameters())
    assert member.training
    if before == "pass":
        assert member.body.calls == 2, "scored with two faces and with one, and trained as a copy"


def test_the_trial_is_of_training_mode_even_without_gradients_around_it(tmp_path: Path) -> None:
    member = build(written(tmp_path))
    with torch.no_grad():
        assert learn_a_batch(member) == ""


def test_what_a_module_froze_stays_frozen(tmp_path: Path) -> None:
    body = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3, 4), torch.nn.BatchNorm2d(2), torch.nn.Flatten(), torch.nn.Linear(288, 7)
    )
    body[0].requires_grad_(False)
    member = Member(body, 48)
    for stages, norms, expected in ((0, False, "1133"), (1, True, "1133"), (2, False, "33"), (0, True, "1133")):
        member.freeze(stages, norms=norms)
        assert [n[0] for n, p in body.named_parameters() if p.requires_grad] == list(expected)
    body[3].requires_grad_(False)
    member.hold_frozen()
    with pytest.raises(UsageError, match="no parameter is left to train"):
        member.freeze(2)
    # Frozen after the Member was made, too.
    before = (
        "from ensemble_fer.models import Member; m = Member(Net(), 48); m.body.norm.requires_grad_(False); return m"
    )
    member = build(written(tmp_path, before=before))
    member.freeze(0)
    assert [n for n, p in member.body.named_parameters() if p.requires_grad] == ["last.weight", "last.bias"]


def test_what_the_code_prints_is_not_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = written(tmp_path, "print('in training')", "print('in build')")
    file = tmp_path / "net.py"
    file.write_text("print('on import')\n" + file.read_text())
    build(name)
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.split("\n")[:3] == ["on import", "in build", "in training"]


def test_the_home_of_nobody() -> None:
    with pytest.raises(MissingError, match=r"~nobody-here/net\.py begins with a home folder that is not here"):
        build("~nobody-here/net.py:build")
