"""The search for a recipe: spaces of recipe keys, Optuna's samplers and pruners, and processes that share a study.

Nothing heavy is imported before ``tune`` is called.
"""

from ensemble_fer.tune.spaces import SPACES, Space, parse_spaces
from ensemble_fer.tune.tuning import tune

__all__ = ["SPACES", "Space", "parse_spaces", "tune"]
