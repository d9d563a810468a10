"""The training recipe: a strict schema. An unknown key, an unknown value of a named choice, or a number out of range is
an error that says what was expected and names the near match."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from ensemble_fer.config.choices import CHOICES, MODELS, RANGES
from ensemble_fer.errors import UsageError, unknown_name


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a member's weights, given the data.

    Parameters
    ----------
    model : str
        One of ``MODELS``, ``timm:NAME`` for any network of timm, or ``FILE.py:FUNCTION`` for a module of one's own.
    weights : str
        Where training starts: ``none`` (drawn from the seed), ``hub`` (ImageNet weights of the model's hub), a
        safetensors or torch file, or ``run:NAME``, the kept weights of a run of the same model, data and split.
    frozen_stages : int
        The first stages of the member keep their weights; see ``Member.freeze``.
    train_norms : bool
        Normalization layers in frozen stages train all the same.
    unfreeze_epoch : int
        All stages train from this epoch on (1-based); 0 is never.
    head_rate : float
        Learning rate of the head as a multiple of that of the body.
    resampling : str
        ``none``, a resampling's name or id, or a method that ``resample`` knows.
    split : str
        Name of the split; see ``docs/protocol.md``. Its own seed is 0, so that members of several seeds share it.
    train_on : str
        ``train``, or ``train+select``: then there is no select part left, nothing chooses the kept epoch (it is the
        last one), and nothing may be fitted or ranked on the select part afterwards.
    labels : str
        ``hard``, or ``votes``: the shares of annotators' votes that ``data votes`` has joined to the set.
    leave_out : str
        Training rows that the votes leave out: ``none``, ``not_a_face``, or ``no_majority`` (these too).
    seed : int
        Decides the first weights, the order of rows, augmentation and dropout. 0 or more.
    epochs : int
        At most this many; 1 or more.
    epoch_rows : int
        Faces drawn for one epoch; 0 means as many as the training set has. Gives balanced sets of
        different size equal numbers of optimizer steps.
    patience : int
        Stop after this many epochs without a better macro-F1 on the select part; 0 never stops.
    kept_epoch : str
        ``best`` by macro-F1 on the select part, or ``last``: then nothing chooses it.
    batch_size : int
        2 or more.
    sampling : str
        ``shuffled`` passes over the rows, or ``balanced``: classes take turns.
    mixup, cutmix : float
        Alpha of the Beta distribution that mixes pairs of a batch, or cuts one into the other; 0 is off. With both,
        each batch takes one of them, evenly.
    augmentation : str
        One of ``AUGMENTATIONS``.
    optimizer, schedule, loss : str
        One of ``OPTIMIZERS``, ``SCHEDULES``, ``LOSSES``.
    learning_rate : float
        The highest one of the schedule; above 0.
    momentum : float
        For sgd, nesterov and muon; 0 to below 1.
    weight_decay : float
        On weights with two or more dimensions; not on biases and batch norm. 0 or more.
    warmup_epochs : float
        The rate rises linearly over the first so many epochs, before whatever schedule.
    plateau_factor, plateau_patience : float, int
        ``plateau`` multiplies the rate by this after more than this many epochs without a better select macro-F1.
    step_epochs, step_factor : int, float
        ``step`` multiplies the rate by this after each so many epochs.
    restart_epochs, restart_growth : int, float
        ``cosine_restarts``: epochs of the first cycle, and how much longer each next one is.
    class_counts : str
        Whose counts a loss takes that looks at frequency: those of the training set after resampling (``resampled``)
        or of the training part before it (``original``).
    effective_beta : float
        Of the effective number of samples, for ``effective`` and ``ldam``; 0 to below 1.
    focal_gamma : float
        Of ``focal``; 0 or more.
    logit_tau : float
        Of ``balanced_softmax``; 0 or more.
    ldam_margin : float
        Of ``ldam``, for the rarest class, in logits; 0 or more.
    label_smoothing : float
        0 to below 1.
    dropout : float
        0 to below 1.
    ema : float
        Decay of a moving average of the weights, which is then what is scored and kept; 0 is off.
    tuned : str
        Who chose this recipe, for the stamp: ``tune`` writes ``study NAME, N trials on the select part of split S of
        DATA``. What a recipe file says no flag can change.
    precision : str
        ``auto`` trains in bfloat16 where the processor or GPU has it. Scores are always float32.
    """

    model: str = "compact"
    weights: str = "none"
    frozen_stages: int = 0
    train_norms: bool = False
    unfreeze_epoch: int = 0
    head_rate: float = 1.0
    resampling: str = "none"
    split: str = "official"
    train_on: str = "train"
    labels: str = "hard"
    leave_out: str = "none"
    seed: int = 0
    epochs: int = 24
    epoch_rows: int = 0
    patience: int = 0
    kept_epoch: str = "best"
    batch_size: int = 128
    sampling: str = "shuffled"
    mixup: float = 0.0
    cutmix: float = 0.0
    augmentation: str = "light"
    optimizer: str = "nesterov"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "one_cycle"
    warmup_epochs: float = 0.0
    plateau_factor: float = 0.75
    plateau_patience: int = 5
    step_epochs: int = 20
    step_factor: float = 0.5
    restart_epochs: int = 10
    restart_growth: float = 1.0
    loss: str = "cross_entropy"
    class_counts: str = "resampled"
    effective_beta: float = 0.999
    focal_gamma: float = 2.0
    logit_tau: float = 1.0
    ldam_margin: float = 0.5
    label_smoothing: float = 0.1
    dropout: float = 0.1
    ema: float = 0.0
    precision: str = "auto"
    tuned: str = ""

    def __post_init__(self) -> None:
        if self.model not in MODELS and not self.model.startswith("timm:") and ".py:" not in self.model:
            raise unknown_name("model", self.model, [*MODELS, "timm:NAME", "FILE.py:FUNCTION"])
        for key, value in self.to_dict().items():
            if isinstance(value, str) and not value.isprintable():
                raise UsageError(f"{key} = {value!r} has a line break or control character; expected plain text.")
        for key, table in CHOICES.items():
            if getattr(self, key) not in table:
                raise unknown_name(key, str(getattr(self, key)), table)
        for key, (low, high, text) in RANGES.items():
            value = getattr(self, key)
            if not low <= value < high or value != value:
                raise UsageError(f"{key} = {value} is out of range; expected {text}.")
        if self.optimizer == "nesterov" and self.momentum == 0:
            raise UsageError("optimizer nesterov needs a momentum above 0. Set momentum, or take optimizer sgd.")
        if self.warmup_epochs >= self.epochs:
            raise UsageError(
                f"warmup_epochs = {self.warmup_epochs} with epochs = {self.epochs} would never end. Set fewer."
            )
        if self.weights == "none" and self.frozen_stages and not self.unfreeze_epoch:
            raise UsageError(
                f"frozen_stages = {self.frozen_stages} with weights = none would keep random weights for ever. "
                "Give weights, or set frozen_stages = 0."
            )
        if self.train_on == "train+select" and (self.patience or self.schedule == "plateau"):
            raise UsageError(
                "train_on = train+select leaves no select part, which patience and the plateau schedule look at. "
                "Set patience = 0 and another schedule."
            )
        if self.kept_epoch == "last" and (self.patience or self.schedule == "plateau"):
            raise UsageError(
                "kept_epoch = last says that the select part decides nothing; patience and the plateau schedule go by "
                "it. Set patience = 0 and another schedule, or kept_epoch = best."
            )

    def to_dict(self) -> dict:
        return asdict(self)

    def to_toml(self) -> str:
        """The recipe as TOML, every key written out."""
        return "".join(f"{key} = {_toml(value)}\n" for key, value in self.to_dict().items())


def _toml(value: Any) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value).lower() if isinstance(value, bool) else repr(value)


KEYS: dict[str, type] = {f.name: type(f.default) for f in fields(Recipe)}
