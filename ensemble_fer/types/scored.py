"""What members say of faces, and how a score was obtained."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble_fer.types.faces import frozen
from ensemble_fer.types.parts import Role


@dataclass(frozen=True)
class Protocol:
    """How a score was obtained. Every score carries one.

    ``injected`` says which faces of other sets were added to training, and is empty where none were.
    ``votes`` says what annotators' votes did to training, and is empty where none were used.
    ``fitted`` says what of an ensemble was fitted on the select part, and is empty where nothing was.
    ``rows_left_out`` counts bad rows that the import passed over, ``faceless_dropped`` the rows that this part is
    without because a detector found no face in them: what is left is easier.
    ``looks`` counts the scores of test parts that share a face with this one, ``chosen_on`` the faces of this test part
    on which trainings of another split chose checkpoints, both in the same store. ``twins_in_select`` counts the rows
    of a test part whose photograph is also in the part of the same split that chose the checkpoint. ``leaks`` names
    what makes a score worthless as an estimate; only the leak simulator sets it.
    """

    data: str
    split: str
    role: str
    resampling: str = "none"
    resampled_where: str = "training part only, after the split"
    trained_on: str = "train"
    chosen_by: str = "macro-F1 on the select part"
    tta: str = "none"
    rows_left_out: int = 0
    faceless_dropped: int = 0
    injected: str = ""
    votes: str = ""
    fitted: str = ""
    pretraining: str = "none"
    seed: int | None = 0
    looks: int = 0
    chosen_on: int = 0
    twins_in_select: int = 0
    leaks: tuple[str, ...] = ()

    @property
    def leaky(self) -> bool:
        return bool(self.leaks)

    def to_dict(self) -> dict:
        return {**asdict(self), "leaks": list(self.leaks), "leaky": self.leaky}

    def line(self) -> str:
        """One line for under a table."""
        data = f"{self.data} (with {self.injected})" if self.injected else self.data
        fitted = f"fitted: {self.fitted} · " if self.fitted else ""
        trained_on = self.trained_on + (f" ({self.votes})" if self.votes else "")
        text = (
            f"{'LEAKY (' + '; '.join(self.leaks) + ') · ' if self.leaks else ''}"
            f"data {data} · split {self.split} · {self.role} part · resampling {self.resampling} "
            f"({self.resampled_where}) · trained on {trained_on} · chosen by {self.chosen_by} · tta {self.tta} · "
            f"{fitted}pretraining {self.pretraining} · seed {'various' if self.seed is None else self.seed}"
        )
        if self.rows_left_out:
            text += f" · {self.rows_left_out} ROWS LEFT OUT"
        if self.faceless_dropped:
            what = "AN EASIER TEST" if self.role == Role.TEST else "AN EASIER PART"
            part = self.role.upper()
            text += f" · {self.faceless_dropped} {part} ROWS WITHOUT A DETECTED FACE LEFT OUT: {what}"
        if self.role == Role.TEST:
            text += f" · look {self.looks} at this test part"
            if self.twins_in_select:
                text += f" · {self.twins_in_select} of its rows have a twin in the select part"
        if self.chosen_on:
            text += f" · {self.chosen_on} OF ITS FACES HAVE CHOSEN CHECKPOINTS IN THIS STORE"
        return text


@dataclass(frozen=True)
class Predictions:
    """What one member or ensemble says of the rows of one part. Complete enough to score alone.

    Parameters
    ----------
    logits : float32 [m, 7]
        Computed in float32. With test-time augmentation the logarithm of the mean probability.
    labels : uint8 [m]
    rows : int64 [m]
        Row ids.
    groups : int32 [m]
        Twin group of each row, the unit of resampling for intervals.
    twin_in_train : bool [m]
        The row has a twin among the split's training rows.
    role : Role
    source : str
        Id of the run or ensemble.
    protocol : Protocol
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.uint8]
    rows: NDArray[np.int64]
    groups: NDArray[np.int32]
    twin_in_train: NDArray[np.bool_]
    role: Role
    source: str
    protocol: Protocol

    def __post_init__(self) -> None:
        dtypes = {
            "logits": np.float32,
            "labels": np.uint8,
            "rows": np.int64,
            "groups": np.int32,
            "twin_in_train": np.bool_,
        }
        for key, dtype in dtypes.items():
            object.__setattr__(self, key, frozen(getattr(self, key), dtype))

    def __len__(self) -> int:
        return len(self.rows)

    def probabilities(self) -> NDArray[np.float64]:
        """Softmax of the logits, float64 [m, 7]."""
        return softmax(self.logits)


def softmax(logits: NDArray) -> NDArray[np.float64]:
    """Probabilities of logits [..., 7], in float64."""
    z = np.asarray(logits, np.float64)
    z = np.exp(z - z.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)
