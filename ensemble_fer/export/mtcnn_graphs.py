"""The three networks of MTCNN as the ONNX graphs that this package carries.

``python -m ensemble_fer.export.mtcnn_graphs`` writes them.

Their weights are those of ``load_weights``, under its licence (MIT). A test makes them again and compares.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ensemble_fer.align.nets import Nets
from ensemble_fer.align.weights import PACKAGE, VERSION, load_weights
from ensemble_fer.detector.engine import FOLDER
from ensemble_fer.export.graph import forget_the_machine, silence
from ensemble_fer.files import write_atomic

OPSET = 18


class _Proposing(nn.Module):
    def __init__(self, nets: Nets) -> None:
        super().__init__()
        self.nets = nets

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        out = self.nets._propose(pictures)
        return torch.sigmoid(out[:, 1] - out[:, 0]), out[:, 2:]


class _Refining(_Proposing):
    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        out = self.nets._refine(windows)
        return torch.sigmoid(out[:, 1] - out[:, 0]), out[:, 2:]


class _Deciding(_Proposing):
    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # pyright: ignore
        out = self.nets._decide(windows)
        return torch.sigmoid(out[:, 1] - out[:, 0]), out[:, 2:6], out[:, 6:].reshape(-1, 2, 5).transpose(1, 2)


GRAPHS: dict[str, tuple[type[_Proposing], str, tuple[int, int], list[str]]] = {
    "pnet": (_Proposing, "pictures", (40, 60), ["scores", "shifts"]),
    "rnet": (_Refining, "windows", (24, 24), ["scores", "shifts"]),
    "onet": (_Deciding, "windows", (48, 48), ["scores", "shifts", "landmarks"]),
}


def write_graphs(folder: Path = FOLDER) -> list[Path]:
    """Write ``pnet.onnx``, ``rnet.onnx`` and ``onet.onnx``, 2 MB together; they take RGB from 0 to 255, float32."""
    import onnx

    nets = Nets(load_weights(), 3, torch.device("cpu"))
    made = []
    for name, (kind, given, size, outputs) in GRAPHS.items():
        shapes: dict[int, Any] = {0: "n", 2: "height", 3: "width"} if name == "pnet" else {0: "n"}
        with torch.no_grad(), silence():
            program = torch.onnx.export(
                kind(nets).eval(),
                (torch.zeros(2, 3, *size),),
                dynamo=True,
                dynamic_shapes={given: shapes},
                input_names=[given],
                output_names=outputs,
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
        assert program is not None
        proto = program.model_proto
        forget_the_machine(proto)
        onnx.helper.set_model_props(proto, {"source": f"{PACKAGE} {VERSION} (MIT)", "network": name})
        onnx.checker.check_model(proto, full_check=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / f"{name}.onnx", proto.SerializeToString(deterministic=True))
        made.append(folder / f"{name}.onnx")
    return made


if __name__ == "__main__":
    for path in write_graphs(*map(Path, sys.argv[1:2])):
        print(path)
