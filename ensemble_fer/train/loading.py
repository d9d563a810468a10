"""A stored run as a member again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from safetensors.torch import load_file

from ensemble_fer.errors import EnsembleFerError, MissingError
from ensemble_fer.models import Member, build, custom
from ensemble_fer.store import Artifact

WEIGHTS = "weights.safetensors"
# The file of a user's own architecture, kept with the run.
MODULE = "model.py"


@contextmanager
def own_code(runs: Iterable[Artifact], what: str) -> Iterator[None]:
    """Let the architectures of one's own that were kept with runs work inside. See ``models.custom.running``.

    Parameters
    ----------
    runs : iterable of Artifact
        Those of our own architectures need nothing.
    what : str
        What is being done, for an error of that code.
    """
    with ExitStack() as stack:
        for run in runs:
            if MODULE in run.manifest["files"]:
                kept = run.file(MODULE)
                stack.enter_context(custom.running(custom.Code(kept, kept), what))
        yield


def load_member(run: Artifact) -> Member:
    """The trained member of a run, on the CPU, for evaluation.

    For a run of ``FILE.py:FUNCTION`` the code that was kept with the run is executed.

    Raises
    ------
    MissingError
        The run is predictions of another program.
    EnsembleFerError
        The weights do not fit the model of this version.
    """
    if WEIGHTS not in run.manifest["files"]:
        raise MissingError(f"run {run.id} has no weights: it is predictions that were made elsewhere.")
    recipe = run.spec["recipe"]
    name = recipe["model"]
    if ".py:" in name:
        name = f"{run.file(MODULE)}:{name.rpartition(':')[2]}"
        member = custom.build(recipe["dropout"], name, training=False)
    else:
        member = build(name, recipe["dropout"])
    try:
        member.load_state_dict(load_file(run.file(WEIGHTS)))
    except RuntimeError as error:
        raise EnsembleFerError(
            f"the weights of run {run.id} do not fit model {recipe['model']!r} of this version. "
            f"Train it again. ({error})"
        ) from error
    return member.eval()
