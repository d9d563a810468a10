"""What every member shares: bytes in, logits out, preprocessing inside, stages that can be frozen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ensemble_fer.errors import UsageError

FACE = 48
"""Side of a FER2013 face, for which a member's crop is given."""
# Fixed numbers, not statistics of a data set: nothing is fitted on any part, so nothing can leak.
GRAY_MEAN, GRAY_SCALE = (0.5,), (0.25,)
HALF_MEAN, HALF_SCALE = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_SCALE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in a grey level (ITU-R BT.601), as Pillow converts to gray."""


class Member(nn.Module):
    """A network over square crops of faces.

    Parameters
    ----------
    body : nn.Module
        Maps float32 [n, channels, side, side] to logits [n, 7]; in training it may return a tuple, of which the others
        are the logits of auxiliary classifiers.
    crop : int
        Side of the crop that is taken from a face of 48 pixels; its centre outside of training.
    side : int, optional
        To which crops are resized bilinearly; ``crop`` by default.
    mean, scale : sequence of float
        Taken off, and divided by, after grey levels are brought to 0 to 1; one number for each channel of the body
        (1 or 3). A gray face goes to every channel; a coloured one goes to gray where the body has one channel.
    stages : list of list of str, optional
        Names of the body's parameters, stage by stage from the input; the last stage is the head. See ``stages_of``.
        By default a stage for each direct child of the body, in the order of their definition.
    auxiliary : float
        Weight of the loss of each auxiliary classifier.
    """

    def __init__(
        self,
        body: nn.Module,
        crop: int,
        *,
        side: int | None = None,
        mean: Sequence[float] = GRAY_MEAN,
        scale: Sequence[float] = GRAY_SCALE,
        stages: Sequence[Sequence[str]] = (),
        auxiliary: float = 0.0,
    ) -> None:
        super().__init__()
        self.body = body
        self.crop, self.side, self.auxiliary = crop, side or crop, auxiliary
        self.channels = len(mean)
        self.mean: Tensor
        self.scale: Tensor
        self.luma: Tensor
        for name, values in (("mean", mean), ("scale", scale), ("luma", LUMA)):
            self.register_buffer(name, torch.tensor(values).reshape(-1, 1, 1), persistent=False)
        self.stages = [list(stage) for stage in stages or _children(body)]
        self._still: list[nn.Module] = []
        self._held: frozenset[str] = frozenset()
        self.hold_frozen()

    def hold_frozen(self) -> None:
        """Hold what is frozen now (``requires_grad`` is False) for good: ``freeze`` does not free it."""
        self._held = frozenset(name for name, p in self.body.named_parameters() if not p.requires_grad)

    def crop_of(self, height: int) -> int:
        """Side of the crop for faces of another height than 48: the same share of the face."""
        return self.crop if height == FACE else round(self.crop * height / FACE)

    def forward(self, faces: Tensor) -> Tensor:
        """Logits float32 [n, 7] of faces uint8 [n, h, w] or [n, h, w, 3], their centre crops taken."""
        crop = self.crop_of(faces.shape[1])
        top, left = (faces.shape[1] - crop) // 2, (faces.shape[2] - crop) // 2
        return self.of_crops(faces[:, top : top + crop, left : left + crop])

    def of_crops(self, crops: Tensor) -> Tensor:
        """Logits of square crops [n, c, c] or [n, c, c, 3], uint8 or float grey levels 0 to 255."""
        out = self.outputs_of(crops)
        return out[0] if isinstance(out, tuple) else out

    def loss(self, crops: Tensor, labels: Tensor, loss_of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Training loss of crops, that of auxiliary classifiers included.

        Parameters
        ----------
        crops : Tensor
            As ``of_crops`` takes them.
        labels : Tensor
            Whatever ``loss_of`` takes beside logits float32 [n, 7].
        loss_of : callable
            (logits, labels) to a scalar.
        """
        out = self.outputs_of(crops)
        if not isinstance(out, tuple):
            return loss_of(out.float(), labels)
        first, *others = (loss_of(logits.float(), labels) for logits in out)
        return first + self.auxiliary * torch.stack(others).sum()

    def outputs_of(self, crops: Tensor) -> Tensor | tuple[Tensor, ...]:
        """What the body gives for crops as ``of_crops`` takes them: logits, or a tuple with auxiliary ones."""
        return self.body(self.prepare(crops))

    @property
    def preprocessing(self) -> tuple:
        """What ``prepare`` depends on: members for which it is the same prepare the same crops alike."""
        return self.crop, self.side, tuple(self.mean.flatten().tolist()), tuple(self.scale.flatten().tolist())

    def prepare(self, crops: Tensor) -> Tensor:
        """Crops as ``of_crops`` takes them, as the body takes them: resized, scaled, in its channels."""
        x = crops.to(torch.float32) / 255.0
        x = x.permute(0, 3, 1, 2) if crops.dim() == 4 else x.unsqueeze(1)
        if x.shape[1] > self.channels:
            x = (x * self.luma).sum(1, keepdim=True)
        if x.shape[-1] != self.side:
            x = nn.functional.interpolate(x, (self.side, self.side), mode="bilinear", align_corners=False)
        # Where the body has three channels and the face one, this is where it goes to each.
        return (x - self.mean) / self.scale

    def freeze(self, stages: int, *, norms: bool = False) -> None:
        """Keep the first stages as they are: their parameters, and the statistics of their batch norms.

        Parameters
        ----------
        stages : int
            How many; 0 frees all but what the body froze itself, see ``hold_frozen``. The head is never frozen.
        norms : bool
            Train the weights of normalization layers in frozen stages all the same. The statistics of batch norms
            in frozen stages stay.

        Raises
        ------
        UsageError
            There are fewer stages before the head, or nothing is left to train.
        """
        if not 0 <= stages < len(self.stages):
            raise UsageError(
                f"{stages} stages were to be frozen, and this member has {len(self.stages) - 1} before its head. "
                "Set frozen_stages to that or fewer."
            )
        # A weight that the head shares with a stage before it is the head's.
        held = {name for stage in self.stages[:stages] for name in stage}.difference(self.stages[-1])
        places = {id(parameter): name for name, parameter in self.body.named_parameters()}
        self._still = []
        frozen = False
        for module in self.body.modules():
            for parameter in module.parameters(recurse=False):
                name = places[id(parameter)]
                frozen = name in held
                parameter.requires_grad_(name not in self._held and (not frozen or (norms and _normalizes(module))))
            # A batch norm without weights of its own belongs to the stage of what stands before it.
            if frozen and isinstance(module, _BatchNorm):
                self._still.append(module)
        if places and not any(parameter.requires_grad for parameter in self.body.parameters()):
            raise UsageError(
                f"with {stages} stages frozen, and {len(self._held)} parameters that the network froze itself, no "
                "parameter is left to train. Set a smaller frozen_stages."
            )
        self.train(self.training)

    def train(self, mode: bool = True) -> Member:
        """As ``nn.Module.train``; batch norms of frozen stages go on scoring with the statistics they have."""
        super().train(mode)
        for module in self._still:
            module.eval()
        return self

    @property
    def head_parameters(self) -> list[nn.Parameter]:
        """Those of the last stage."""
        names = set(self.stages[-1])
        return [parameter for name, parameter in self.body.named_parameters() if name in names]

    @property
    def parameter_count(self) -> int:
        """Number of parameters, trained or frozen."""
        return sum(p.numel() for p in self.parameters())


def stages_of(body: nn.Module, *modules: nn.Module) -> list[list[str]]:
    """Names of the parameters of some modules of a body, for ``Member``: from the input to the head."""
    places = {id(parameter): name for name, parameter in body.named_parameters()}
    return [[places[id(parameter)] for parameter in module.parameters()] for module in modules]


def _children(body: nn.Module) -> list[list[str]]:
    """A stage for each direct child with parameters; parameters of the body itself are in the first."""
    own = [name for name, _ in body.named_parameters(recurse=False)]
    stages = [stage for stage in stages_of(body, *body.children()) if stage]
    if not stages:
        return [own]
    return [own + stages[0], *stages[1:]]


def _normalizes(module: nn.Module) -> bool:
    """By kind, or by name: timm has a dozen of its own."""
    return isinstance(module, (_BatchNorm, nn.LayerNorm, nn.GroupNorm)) or "Norm" in type(module).__name__


def keep_scale(module: nn.Module) -> None:
    """Draw the weights of convolutions and linear layers so that ReLU keeps the scale (He et al. 2015); biases are 0.

    For networks without batch norm, through which signals die out with torch's own drawing.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def conv_bn(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Convolution without bias (batch norm has one), batch norm, and ReLU unless told otherwise."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))
