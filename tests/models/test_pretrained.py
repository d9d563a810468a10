"""First weights from files: they arrive, what does not fit is named, and nothing is executed."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ensemble_fer.errors import MissingError, UsageError
from ensemble_fer.models import Member, build, start_weights


def state(name: str, seed: int, **options: object) -> dict[str, Tensor]:
    """Weights of timm's network, all different from those that ``build`` draws with another seed."""
    torch.manual_seed(seed)
    net = timm.create_model(name, **options)
    for key, value in net.state_dict().items():
        if key.endswith(("running_mean", "running_var")):
            value.add_(0.5)
    return net.state_dict()


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ImageNet's thousand classes, as the hub has them."""
    file = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(state("resnet18", 5), file)
    return file


def member(name: str = "resnet18") -> Member:
    torch.manual_seed(1)
    return build(name, 0.0)


def test_a_file_of_the_network_arrives_but_for_the_classifier(resnet18: Path) -> None:
    ours, untouched = member(), member()
    found = start_weights(ours, "resnet18", str(resnet18))
    given = load_file(resnet18)
    for key, value in ours.body.state_dict().items():
        expected = untouched.body.state_dict()[key] if key.startswith("fc.") else given[key]
        assert torch.equal(value, expected), key
    assert found.text == f"file resnet18.safetensors sha256 {found.digest[:12]}, trained on rows unknown here"
    assert len(found.digest) == 64


def test_build_takes_weights_itself(resnet18: Path) -> None:
    ours = build("resnet18", 0.0, weights=str(resnet18))
    assert torch.equal(ours.body.state_dict()["conv1.weight"], load_file(resnet18)["conv1.weight"])


@pytest.mark.parametrize("wrap", ["plain", "checkpoint", "parallel"])
def test_torch_files_of_other_trainers(tmp_path: Path, resnet18: Path, wrap: str) -> None:
    given = load_file(resnet18)
    content = {
        "plain": given,
        "checkpoint": {"epoch": 3, "state_dict": given, "optimizer": {"state": {}}},
        "parallel": {f"module.{key}": value for key, value in given.items()},
    }[wrap]
    torch.save(content, tmp_path / "weights.pth")
    ours = member()
    start_weights(ours, "resnet18", str(tmp_path / "weights.pth"))
    assert torch.equal(ours.body.state_dict()["layer4.1.bn2.running_var"], given["layer4.1.bn2.running_var"])


def test_weights_of_a_run_arrive_with_the_classifier(tmp_path: Path) -> None:
    for name in ("compact", "googlenet48"):
        torch.manual_seed(9)
        trained = build(name, 0.0)
        save_file(trained.state_dict(), tmp_path / "run.safetensors")
        ours = member(name)
        start_weights(ours, name, str(tmp_path / "run.safetensors"))
        assert all(torch.equal(v, trained.state_dict()[k]) for k, v in ours.state_dict().items())


@pytest.mark.parametrize(
    ("name", "network", "key"),
    [("resnet50v2", "resnetv2_50", "stages.2.blocks.1.conv2.weight"), ("vgg16", "vgg16", "features.28.weight")],
)
def test_features_of_a_whole_network_arrive_under_another_head(
    tmp_path: Path, name: str, network: str, key: str
) -> None:
    given = state(network, 5)
    torch.save({k: v for k, v in given.items() if "pre_logits" not in k}, tmp_path / "weights.pt")
    ours, untouched = member(name), member(name)
    start_weights(ours, name, str(tmp_path / "weights.pt"))
    prefix = "net." if name == "resnet50v2" else ""
    assert torch.equal(ours.body.state_dict()[prefix + key], given[key])
    for mine, before in zip(ours.head_parameters, untouched.head_parameters, strict=True):
        assert torch.equal(mine, before)


def test_half_precision_is_widened(tmp_path: Path, resnet18: Path) -> None:
    save_file({k: v.half() if v.is_floating_point() else v for k, v in load_file(resnet18).items()}, tmp_path / "h")
    ours = member()
    start_weights(ours, "resnet18", str(tmp_path / "h"))
    assert {v.dtype for v in ours.parameters()} == {torch.float32}


def refused(file: Path, name: str = "resnet18") -> str:
    """Message of the refusal; the member is as it was."""
    ours, untouched = member(name), member(name)
    with pytest.raises(UsageError) as caught:
        start_weights(ours, name, str(file))
    assert all(torch.equal(v, untouched.state_dict()[k]) for k, v in ours.state_dict().items())
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_weights_of_a_larger_network_are_refused(tmp_path: Path) -> None:
    save_file(state("resnet34", 5), tmp_path / "w.safetensors")
    assert re.search(r"layer\d\.\d\.\S+: found \[\d+.*\], expected none", refused(tmp_path / "w.safetensors"))


def test_other_shapes_are_named(tmp_path: Path) -> None:
    save_file(state("resnet50", 5), tmp_path / "w.safetensors")
    message = refused(tmp_path / "w.safetensors")
    assert "layer1.0.conv1.weight: found [64, 64, 1, 1], expected [64, 64, 3, 3]" in message
    assert message.count("found [") <= 3


def test_missing_tensors_are_named(tmp_path: Path, resnet18: Path) -> None:
    given = load_file(resnet18)
    del given["layer3.0.conv2.weight"]
    save_file(given, tmp_path / "w.safetensors")
    assert "layer3.0.conv2.weight: missing, expected [256, 256, 3, 3]" in refused(tmp_path / "w.safetensors")


def test_a_file_that_fits_nothing_says_what_it_holds(tmp_path: Path) -> None:
    save_file({"encoder.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    message = refused(tmp_path / "w.safetensors")
    assert "it holds encoder.weight; expected conv1.weight" in message


def test_damaged_and_foreign_files_are_refused(tmp_path: Path, resnet18: Path) -> None:
    whole = resnet18.read_bytes()
    file = tmp_path / "weights"
    file.write_bytes(whole[: len(whole) // 2])
    assert "damaged" in refused(file)
    torch.save({"a": torch.zeros(100_000)}, file)
    file.write_bytes(file.read_bytes()[:200_000])
    assert "damaged" in refused(file)
    file.write_bytes(b"")
    assert "neither" in refused(file)
    file.write_text("weights")
    assert "neither" in refused(file)
    torch.save([1, 2], file)
    assert "no tensors by name" in refused(file)


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple:
        return open, (self.path, "w")


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    for name, write in (("zip.pt", torch.save), ("raw.pkl", lambda x, f: f.write_bytes(pickle.dumps(x, 2)))):
        file = tmp_path / name
        write({"conv1.weight": Bomb(tmp_path / "ran")}, file)
        assert "more than tensors" in refused(file)
        assert not (tmp_path / "ran").exists()
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    assert "state_dict" in refused(tmp_path / "module.pt")


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"there are no weights .*nowhere\.pt"):
        start_weights(member(), "resnet18", str(tmp_path / "nowhere.pt"))
    with pytest.raises(MissingError, match=r"~nobody-here/w\.pt begins with a home folder that is not here"):
        start_weights(member(), "resnet18", "~nobody-here/w.pt")
    with pytest.raises(UsageError, match=r"is a folder\. Expected none, hub, run:NAME, or a"):
        start_weights(member(), "resnet18", str(tmp_path))
    with pytest.raises(UsageError, match=r"weights is ''\. Expected none, hub, run:NAME, or a"):
        start_weights(member(), "resnet18", "")


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor")
def test_files_of_odd_tensors_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    torch.save({1: torch.zeros(3)}, file)
    assert "no tensors by name" in refused(file, "compact")
    for kind, tensor in (
        ("sparse", torch.eye(3).to_sparse()),
        ("meta", torch.zeros(3, device="meta")),
        ("quantized", torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)),
    ):
        torch.save({"plain": torch.zeros(2), "odd": tensor}, file)
        assert f"odd is a {kind} tensor" in refused(file, "compact")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x.where(x != x.max(), torch.nan), "holds 1 of ALL numbers that are not finite"),
        (lambda x: x - torch.inf, "holds ALL of ALL numbers that are not finite"),
        (lambda x: x.double() + 1e300, "holds numbers too large for torch.float32"),
        (lambda x: x.to(torch.int64), "holds torch.int64, expected torch.float32"),
        (lambda x: x > 0, "holds torch.bool, expected torch.float32"),
        (lambda x: x.to(torch.complex64), "holds torch.complex64, expected torch.float32"),
    ],
)
def test_numbers_that_no_network_can_go_on_with_are_refused(
    tmp_path: Path, change: Callable[[Tensor], Tensor], said: str
) -> None:
    given = member("compact").state_dict()
    key = "body.0.0.weight"
    torch.save(given, tmp_path / "w.pt")
    assert start_weights(member("compact"), "compact", str(tmp_path / "w.pt")), "counters are whole numbers"
    torch.save({**given, key: change(given[key])}, tmp_path / "w.pt")
    count = f"{given[key].numel():,}"
    assert f": 0.0.weight {said.replace('ALL', count)}" in refused(tmp_path / "w.pt", "compact")


def test_foreign_names_go_through_the_reader_that_timm_has(tmp_path: Path) -> None:
    """timm reads convnext files of its authors, whose layers have other names."""
    given = state("convnext_atto", 5)
    theirs = {}
    for key, value in given.items():
        for ours, other in (
            ("stem.", "downsample_layers.0."),
            (".blocks.", "."),
            (".conv_dw.", ".dwconv."),
            (".mlp.fc1.", ".pwconv1."),
            (".mlp.fc2.", ".pwconv2."),
            ("head.norm.", "norm."),
            ("head.fc.", "head."),
        ):
            key = key.replace(ours, other)
        parts = key.split(".")
        if parts[0] == "stages" and parts[2] == "downsample":
            key = ".".join(["downsample_layers", parts[1], *parts[3:]])
        theirs[key] = value
    torch.save({"model": theirs}, tmp_path / "theirs.pth")
    ours = member("timm:convnext_atto")
    start_weights(ours, "timm:convnext_atto", str(tmp_path / "theirs.pth"))
    for key in ("stem.0.weight", "stages.2.blocks.3.conv_dw.weight", "stages.1.downsample.1.weight"):
        assert torch.equal(ours.body.state_dict()[key], given[key]), key
