"""The values that travel through the package. Each is written once and never changed.

Arrays are made read-only on construction, so that a value named by its fingerprint stays that value.
"""

from ensemble_fer.types.balanced import Kind, Resampling
from ensemble_fer.types.faces import (
    CLASSES,
    INJECTED,
    N_CLASSES,
    OFFICIAL,
    USAGES,
    FaceSet,
    TwinMap,
    digest,
    frozen,
    gray_levels,
)
from ensemble_fer.types.parts import Part, Role, Split
from ensemble_fer.types.scored import Predictions, Protocol, softmax

__all__ = [
    "CLASSES",
    "INJECTED",
    "N_CLASSES",
    "OFFICIAL",
    "USAGES",
    "FaceSet",
    "Kind",
    "Part",
    "Predictions",
    "Protocol",
    "Resampling",
    "Role",
    "Split",
    "TwinMap",
    "digest",
    "frozen",
    "gray_levels",
    "softmax",
]
