"""Which pixels decide: maps of one number a pixel for a network and a class. captum computes them.

A new method is one function and one line in ``METHODS``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ensemble_fer.ensemble import Combination, plain
from ensemble_fer.errors import MissingError, UsageError, unknown_name
from ensemble_fer.export.fused import Fused
from ensemble_fer.models import Member

GRAY_LEVEL = 127.5
"""An even grey: where integrated gradients begin, and what LIME puts in place of a patch."""
STEPS, AT_ONCE = 128, 32
"""Of integrated gradients: with 32 steps a map's sum was off by up to a tenth of what it explains, with 128 by 3 %."""
PATCHES, SAMPLES, KERNEL = 8, 1000, 0.25
LEAST_MAP = 7
"""Pixels on a side that Grad-CAM's map needs at least, to show a place."""


@dataclass(frozen=True)
class Subject:
    """What is explained: members, and how they are combined.

    Parameters
    ----------
    members : list of Member
        In evaluation.
    by : Combination
        Of as many members; of one, its probabilities.
    tta : str
        As the ensemble was fused.
    """

    members: Sequence[Member]
    by: Combination
    tta: str = "none"

    def __post_init__(self) -> None:
        # What a hook has seen must stay as it was.
        for member in self.members:
            for module in member.eval().modules():
                if hasattr(module, "inplace"):
                    module.inplace = False  # type: ignore[assignment]

    @classmethod
    def of_member(cls, member: Member) -> Subject:
        """A member alone."""
        return cls([member], plain("mean", 1))

    def scores(self, faces: Tensor) -> Tensor:
        """Logarithms of the probabilities, [n, 7], of faces float32 [n, h, w] or [n, h, w, 3] in grey levels."""
        if len(self.members) == 1 and self.tta == "none" and self.by.rule == "mean" and self.by.temperature == 1:
            # Through probabilities the slope of an answer that is sure to rounding would be 0.
            return torch.log_softmax(self.members[0](faces) / float(self.by.temperatures[0]), dim=1)
        return Fused(self.members, self.by, self.tta)(faces)[0].clamp_min(1e-12).log()


class BlankMap(UserWarning):
    """A map says nothing."""


def attribute(
    subject: Subject, faces: NDArray[np.uint8], classes: NDArray[np.integer], method: str, *, seed: int = 0
) -> NDArray[np.float32]:
    """For each face, how much each pixel speaks for a class.

    Parameters
    ----------
    faces : uint8 [n, h, w] or [n, h, w, 3]
    classes : int [n]
        The class that is explained, of each face.
    method : str
        A key of ``METHODS``.
    seed : int
        Of what LIME draws.

    Returns
    -------
    float32 [n, h, w]
        Each map divided by its largest absolute value. Positive speaks for the class; saliency has no sign.

    Warns
    -----
    BlankMap
        A map is 0 everywhere.

    Raises
    ------
    UsageError
        An unknown method, or Grad-CAM of a network without a convolution whose map shows a place.
    MissingError
        captum is not installed.
    """
    if method not in METHODS:
        raise unknown_name("method of explanation", method, METHODS)
    given = torch.from_numpy(np.ascontiguousarray(faces)).float()
    wanted = torch.from_numpy(np.asarray(classes, np.int64))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        maps = METHODS[method](subject, given, wanted)
    maps = maps.detach()
    if maps.dim() == 4:  # colours: what all three say together
        maps = maps.sum(-1)
    peak = maps.abs().flatten(1).amax(1)
    if blank := int((peak == 0).sum()):
        warnings.warn(
            f"{blank} of {len(peak)} maps of {method} are blank: the answer is so sure that to rounding no pixel "
            "changes it. grad_cam may still say something, and so may one member alone.",
            BlankMap,
            stacklevel=2,
        )
    return (maps / torch.where(peak == 0, 1, peak)[:, None, None]).numpy().astype(np.float32)


def _captum() -> Any:
    try:
        import captum.attr
    except ImportError as error:
        raise MissingError(
            "explanations are computed by captum, which is not installed. Get it:  pip install 'ensemble-fer[explain]'"
        ) from error
    return captum.attr


def _saliency(subject: Subject, faces: Tensor, classes: Tensor) -> Tensor:
    """|d score / d pixel| (Simonyan et al. 2014)."""
    return _captum().Saliency(subject.scores).attribute(faces.requires_grad_(), target=classes)


def _integrated_gradients(subject: Subject, faces: Tensor, classes: Tensor) -> Tensor:
    """Gradients along the way from an even grey to the face, times the way (Sundararajan et al. 2017)."""
    ways = _captum().IntegratedGradients(subject.scores)
    each = [
        ways.attribute(face[None], GRAY_LEVEL, target=int(label), n_steps=STEPS, internal_batch_size=AT_ONCE)
        for face, label in zip(faces, classes, strict=True)
    ]
    return torch.cat(each).to(torch.float32)


def _lime(subject: Subject, faces: Tensor, classes: Tensor) -> Tensor:
    """A linear model of the probability by which patches are shown, the others grey (Ribeiro et al. 2016).

    8 x 8 patches, 1,000 samples; ridge regression with weights by ``_near``, as the authors' code for pictures has
    both. captum's own Lasso gives zeros where a network is unsure, and its kernel compares grey levels, which are all
    alike to it.
    """
    attr = _captum()
    from captum._utils.models.linear_model import SkLearnRidge

    height, width = faces.shape[1:3]
    rows, columns = torch.arange(height) * PATCHES // height, torch.arange(width) * PATCHES // width
    patches = rows[:, None] * PATCHES + columns
    patches = patches[..., None].expand(faces.shape[1:]) if faces.dim() == 4 else patches
    explain = attr.Lime(
        lambda shown: subject.scores(shown).exp(), interpretable_model=SkLearnRidge(alpha=1.0), similarity_func=_near
    )
    with torch.no_grad():
        each = [
            explain.attribute(
                face[None],
                baselines=GRAY_LEVEL,
                target=int(label),
                feature_mask=patches[None],
                n_samples=SAMPLES,
                perturbations_per_eval=100,
            )
            for face, label in zip(faces, classes, strict=True)
        ]
    maps = torch.cat(each)
    # All three colours of a patch carry the same number, which stands for the patch.
    return maps.mean(-1) if maps.dim() == 4 else maps


def _near(face: Tensor, covered: Tensor, shown: Tensor, **_: Any) -> float:
    """How much a sample counts: by the cosine distance between its patches shown, 0 or 1 [1, k], and all of them."""
    distance = 1.0 - float(shown.float().mean().sqrt())
    return float(np.exp(-((distance / KERNEL) ** 2) / 2))


def _grad_cam(subject: Subject, faces: Tensor, classes: Tensor) -> Tensor:
    """Maps of the last layer that still shows a place, weighted by their gradients (Selvaraju et al. 2017).

    Of an ensemble the mean over its members, each map divided by its largest value before, weighted as the members are;
    where faces are shown mirrored too, with the map of the mirrored face. Temperatures, the coefficients of stacking
    and crops beside the middle one play no part: a layer belongs to one member and one crop.
    """
    attr = _captum()
    if subject.tta != "none":
        alone = replace(subject, tta="none")
        return _grad_cam(alone, faces, classes) + _grad_cam(alone, faces.flip(2), classes).flip(2)
    total = torch.zeros(faces.shape[:3])
    shares = subject.by.weights if subject.by.weights is not None else np.ones(len(subject.members))
    for member, share in zip(subject.members, np.asarray(shares, float), strict=True):
        layer = cam_layer(member, faces[:1])
        cam = attr.LayerGradCam(member, layer).attribute(faces, target=classes, relu_attributions=True)
        # The crop's place in the face.
        crop = member.crop_of(faces.shape[1])
        shown = nn.functional.interpolate(cam.float(), (crop, crop), mode="bilinear", align_corners=False)[:, 0]
        top, left = (faces.shape[1] - crop) // 2, (faces.shape[2] - crop) // 2
        peak = shown.flatten(1).amax(1).clamp_min(1e-30)[:, None, None]
        total[:, top : top + crop, left : left + crop] += float(share) * (shown / peak).detach()
    return total


def cam_layer(member: Member, face: Tensor) -> nn.Module:
    """The last layer of a member through which all goes, with maps of at least 7 x 7 places for this face [1, h, w].

    A branch or a summand of a block is none: with its maps held, another face would still be answered otherwise. What
    comes out of the whole block is.

    Raises
    ------
    UsageError
        There is none.
    """
    seen: list[tuple[nn.Module, Tensor]] = []

    def note(module: nn.Module, given: Any, out: Any) -> None:
        if isinstance(out, Tensor) and out.dim() == 4 and min(out.shape[2:]) >= LEAST_MAP:
            seen.append((module, out))

    member.eval()
    other = 255 - face.flip(1)
    with torch.no_grad():
        hooks = [module.register_forward_hook(note) for module in member.body.modules() if module is not member.body]
        try:
            answer = member(face)
        finally:
            for hook in hooks:
                hook.remove()
        for module, maps in reversed(seen):
            hook = module.register_forward_hook(lambda *_, maps=maps: maps)
            try:
                held = member(other)
            finally:
                hook.remove()
            if torch.equal(held, answer):
                return module
    raise UsageError(
        f"Grad-CAM needs a layer through which all goes and whose maps have {LEAST_MAP}x{LEAST_MAP} places or more; "
        "this network has none. Take saliency, integrated_gradients or lime."
    )


METHODS: dict[str, Callable[[Subject, Tensor, Tensor], Tensor]] = {
    "saliency": _saliency,
    "integrated_gradients": _integrated_gradients,
    "grad_cam": _grad_cam,
    "lime": _lime,
}
