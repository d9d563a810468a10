"""The three networks of MTCNN (Zhang, Zhang, Li, Qiao 2016): which windows look like a face, and where it lies in them.

They take grey levels 0 to 255 as they are: the scaling to -1 … 1 is folded into the first convolution. Gray pictures
have one channel; the first convolution then holds the sum of its three.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CENTRE, SCALE = 127.5, 1 / 128
# Windows in one pass: few enough that what a layer makes stays in the cache of a core.
CHUNK_R, CHUNK_O = 64, 16
MAP_PIXELS = 60_000


class Nets:
    """P-, R- and O-net with the package's weights.

    Parameters
    ----------
    weights : dict
        Of ``load_weights``.
    channels : int
        1 for gray pictures, 3 for RGB.
    device : torch.device
    """

    def __init__(self, weights: dict[str, dict[str, Tensor]], channels: int, device: torch.device) -> None:
        p, r, o = (_prepared(weights[name], channels) for name in ("pnet", "rnet", "onet"))
        # The two answers for each window are two classes, of which only the difference counts, and the box.
        p["conv4.weight"], p["conv4.bias"] = _joined(p, "conv4_1", "conv4_2")
        r["dense4.weight"] = _by_channel(r["dense4.weight"], 64)
        r["dense5.weight"], r["dense5.bias"] = _joined(r, "dense5_1", "dense5_2")
        o["dense5.weight"] = _by_channel(o["dense5.weight"], 128)
        o["dense6.weight"], o["dense6.bias"] = _joined(o, "dense6_1", "dense6_2", "dense6_3")
        self.p, self.r, self.o = ({k: _placed(v, device) for k, v in net.items()} for net in (p, r, o))

    def propose(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """P-net over whole pictures float32 [n, c, h, w] of 12 pixels or more a side.

        Returns
        -------
        scores : float32 [n, m, k]
            Probability of a face in each window of 12 pixels; window (y, x) begins at pixel (2 y, 2 x).
        shifts : float32 [n, 4, m, k]
            How the face's box lies in it: left, top, right, bottom, in shares of the window's side.
        """
        n = max(1, MAP_PIXELS // (pictures.shape[2] * pictures.shape[3]))
        out = torch.cat([self._propose(part) for part in pictures.split(n)])
        return _face(out[:, 0], out[:, 1]), out[:, 2:]

    def refine(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """R-net over windows float32 [n, c, 24, 24]: scores [n] and shifts [n, 4]."""
        out = torch.cat([self._refine(part) for part in windows.split(CHUNK_R)])
        return _face(out[:, 0], out[:, 1]), out[:, 2:]

    def decide(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """O-net over windows float32 [n, c, 48, 48]: scores [n], shifts [n, 4], landmarks [n, 5, 2].

        Landmarks are x and y in shares of the window: left eye, right eye, nose, left and right corner of the mouth,
        left as one looks at the picture.
        """
        out = torch.cat([self._decide(part) for part in windows.split(CHUNK_O)])
        return _face(out[:, 0], out[:, 1]), out[:, 2:6], out[:, 6:].view(-1, 2, 5).transpose(1, 2)

    def _propose(self, x: Tensor) -> Tensor:
        p = self.p
        x = _conv(_conv(_first(x, p, 2), p, 2), p, 3)
        return F.conv2d(x, p["conv4.weight"], p["conv4.bias"])

    def _refine(self, x: Tensor) -> Tensor:
        r = self.r
        x = F.max_pool2d(_conv(_first(x, r, 3), r, 2), 3, 2, ceil_mode=True)
        x = _conv(x, r, 3).flatten(1)
        x = F.prelu(F.linear(x, r["dense4.weight"], r["dense4.bias"]), r["prelu4.weight"])
        return F.linear(x, r["dense5.weight"], r["dense5.bias"])

    def _decide(self, x: Tensor) -> Tensor:
        o = self.o
        x = F.max_pool2d(_conv(_first(x, o, 3), o, 2), 3, 2, ceil_mode=True)
        x = F.max_pool2d(_conv(x, o, 3), 2, 2, ceil_mode=True)
        x = _conv(x, o, 4).flatten(1)
        x = F.prelu(F.linear(x, o["dense5.weight"], o["dense5.bias"]), o["prelu5.weight"])
        return F.linear(x, o["dense6.weight"], o["dense6.bias"])


def _prepared(net: dict[str, Tensor], channels: int) -> dict[str, Tensor]:
    """The weights with the scaling of grey levels, and for gray pictures the sum of channels, in the first layer."""
    first = net["conv1.weight"].double() * SCALE
    bias = net["conv1.bias"].double() - CENTRE * first.sum((1, 2, 3))
    if channels == 1:
        first = first.sum(1, keepdim=True)
    return {**net, "conv1.weight": first.float(), "conv1.bias": bias.float()}


def _joined(net: dict[str, Tensor], *names: str) -> tuple[Tensor, Tensor]:
    """Layers of the same input as one."""
    return torch.cat([net[f"{n}.weight"] for n in names]), torch.cat([net[f"{n}.bias"] for n in names])


def _by_channel(weight: Tensor, channels: int) -> Tensor:
    """The weights of a dense layer over [channel, y, x]; as they come they are over [x, y, channel]."""
    return weight.view(len(weight), 3, 3, channels).permute(0, 3, 2, 1).flatten(1)


def _placed(weight: Tensor, device: torch.device) -> Tensor:
    layout = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
    return weight.to(device).contiguous(memory_format=layout)


def _first(x: Tensor, net: dict[str, Tensor], kernel: int) -> Tensor:
    """The first layer and its pooling. Few channels come in, so that they lie one behind the other until here."""
    x = F.prelu(F.conv2d(x, net["conv1.weight"], net["conv1.bias"]), net["prelu1.weight"])
    return _pooled(x, kernel).contiguous(memory_format=torch.channels_last)


def _conv(x: Tensor, net: dict[str, Tensor], layer: int) -> Tensor:
    """A later layer. No slope of theirs is above 1, so that the larger of x and slope x is the PReLU of x."""
    x = F.conv2d(x, net[f"conv{layer}.weight"], net[f"conv{layer}.bias"])
    return torch.maximum(x, x * net[f"prelu{layer}.weight"].view(1, -1, 1, 1))


def _pooled(x: Tensor, kernel: int) -> Tensor:
    """The largest of each ``kernel`` x ``kernel`` pixels, every second; windows at the far edges may be cut off.

    ``max_pool2d`` gives the same and takes several times as long on a CPU where channels lie one behind the other.
    """
    if x.device.type != "cpu" or torch.compiler.is_exporting():
        return F.max_pool2d(x, kernel, 2, ceil_mode=True)
    for axis in (2, 3):
        length = x.shape[axis]
        count = -(-(length - kernel) // 2) + 1
        out = _every_second(x, axis, 0, count)
        for start in range(1, kernel):
            step = _every_second(x, axis, start, count)
            whole = step.shape[axis]
            if whole == count:
                out = torch.maximum(out, step)
            else:
                inner = torch.maximum(out.narrow(axis, 0, whole), step)
                out = torch.cat([inner, out.narrow(axis, whole, count - whole)], axis)
        x = out
    return x


def _every_second(x: Tensor, axis: int, start: int, count: int) -> Tensor:
    picked = x[:, :, start::2] if axis == 2 else x[:, :, :, start::2]
    return picked.narrow(axis, 0, min(count, picked.shape[axis]))


def _face(other: Tensor, face: Tensor) -> Tensor:
    """Softmax of two classes: the share of the second."""
    return torch.sigmoid(face - other)
