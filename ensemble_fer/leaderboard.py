"""Members and ensembles side by side, ranked by macro-F1 on the select part; the test part never ranks.

Scores are read from the manifests of stored artifacts, so that fifty rows take well under a second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ensemble_fer.artifact import canonical
from ensemble_fer.evaluate.metrics import summary
from ensemble_fer.evaluate.predictions import load_predictions, load_protocol, protocol_from_json
from ensemble_fer.store import Artifact, Store, need_data
from ensemble_fer.types import Protocol, Role

_SELECT = ("rows", "accuracy", "macro_f1", "top2", "top3", "balanced_accuracy", "nll", "disgust_f1")
_TEST = (
    *("rows", "accuracy", "macro_f1", "balanced_accuracy", "top2", "top3", "nll", "brier", "ece", "ece_null"),
    *("ci95", "ci_reliable", "twin_free"),
)


def leaderboard(store: Store, *, data: str | None = None, split: str | None = None) -> dict:
    """All runs and ensembles of one data set.

    Parameters
    ----------
    data : str, optional
        Name of the set, as ``need_data`` takes it.
    split : str, optional
        Only this split, by name or id. By default all, each ranked by itself: scores on different rows do
        not compare.

    Returns
    -------
    dict
        ``data`` (its name), ``rows`` and ``leaky``: lists of dicts, honest and leaky ones apart. A row is one
        source with one test-time augmentation: ``rank`` (1 is best within its split, None where the select part
        was not scored this way, and None for leaky rows), ``name, id, kind, model, resampling, members, split,
        split_id, tta, select {accuracy, macro_f1, …} or None, test {…, ci95, looks} or None, disgust_f1, top2,
        twin_free`` (of the test part, None if it was not evaluated), ``parameters, latency_ms, latency,
        protocol, stamp, leaks``.
    """
    book = _Book(store)
    wanted = need_data(store, data)
    rows = []
    for source in [a for a in book.by_id.values() if a.kind in ("run", "ensemble")]:
        parts = book.origin(source)
        if parts["data"] == wanted.id and split in (None, parts["split"], book.split_name(parts["split"])):
            rows += book.rows_of(source, parts["split"])
    rows.sort(key=_order)
    honest, leaky = [row for row in rows if not row["leaks"]], [row for row in rows if row["leaks"]]
    ranks: dict[str, int] = {}
    for row in honest:
        if row["select"] is not None:
            ranks[row["split_id"]] = row["rank"] = ranks.get(row["split_id"], 0) + 1
    return {"data": store.name_of(wanted), "rows": honest, "leaky": leaky}


def _order(row: dict) -> tuple:
    """By split, official first; the best select macro-F1 first; unranked last."""
    score = row["select"]["macro_f1"] if row["select"] else None
    return (
        row["split"] != "official",
        row["split"],
        row["split_id"],
        score is None,
        -(score or 0.0),
        row["name"],
        row["tta"],
    )


class _Book:
    """What the rows need of a store, read once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.by_id = {a.id: a for kind in ("data", "split", "run", "ensemble") for a in store.all(kind)}
        self.names = {i: n for kind in ("data", "run", "ensemble", "split") for n, i in store.refs(kind).items()}
        self.scored: dict[str, dict[tuple[str, str], Artifact]] = {}
        for made in store.all("predictions"):
            # Not what several leaky sets were asked together, which is of no one source.
            if "source" in made.spec:
                key = (made.spec.get("role", "test"), made.spec.get("tta", "none"))
                self.scored.setdefault(made.inputs[0], {})[key] = made

    def members(self, source: Artifact) -> list[Artifact]:
        """The runs of an ensemble, or the run itself."""
        if source.kind == "run":
            return [source]
        inputs = [self.by_id[i] for i in source.inputs if i in self.by_id]
        return [run for a in inputs if a.kind in ("run", "ensemble") for run in self.members(a)]

    def origin(self, source: Artifact) -> dict[str, str]:
        """Ids of the data set and the split a run or ensemble was made on; empty if they are gone."""
        first = next(iter(self.members(source)), source)
        kinds = {self.by_id[i].kind: i for i in reversed(first.inputs) if i in self.by_id}
        return {"data": kinds.get("data", ""), "split": kinds.get("split", "")}

    def split_name(self, identity: str) -> str:
        made = self.by_id.get(identity)
        return str(made.spec.get("name", self.names.get(identity, identity))) if made else identity

    def rows_of(self, source: Artifact, split_id: str) -> list[dict]:
        """One row for each test-time augmentation that something is known of; for its own always."""
        scored = self.scored.get(source.id, {})
        own = _own_tta(source)
        ttas = [own, *sorted({tta for _, tta in scored} - {own})]
        return [self._row(source, split_id, tta, scored) for tta in ttas]

    def _row(self, source: Artifact, split_id: str, tta: str, scored: dict[tuple[str, str], Artifact]) -> dict:
        select, test = scored.get((Role.SELECT, tta)), scored.get((Role.TEST, tta))
        if select is not None:
            select_scores = _flat(select.metrics)
        else:
            select_scores = self._select_of(source) if tta == _own_tta(source) else None
        tested = test.metrics if test is not None else None
        protocol = self._protocol(source, test or select)
        runs = self.members(source)
        latency = source.metrics.get("latency")
        return {
            "rank": None,
            "name": self.names.get(source.id, source.id),
            "id": source.id,
            "kind": source.kind,
            "model": _joined(_recipe(run, "model") for run in runs),
            "resampling": protocol.resampling,
            "members": [self.names.get(run.id, run.id) for run in runs] if source.kind == "ensemble" else [],
            "split": self.split_name(split_id),
            "split_id": split_id,
            "tta": tta,
            "select": select_scores and {key: select_scores.get(key) for key in _SELECT},
            "test": tested and {**{key: tested.get(key) for key in _TEST}, "looks": protocol.looks},
            "disgust_f1": tested and _flat(tested)["disgust_f1"],
            "top2": tested and tested.get("top2"),
            "twin_free": tested and tested.get("twin_free"),
            "parameters": source.metrics.get("parameters") or _total(run.metrics.get("parameters") for run in runs),
            "latency_ms": latency.get("ms") if isinstance(latency, dict) else latency,
            "latency": latency,
            "protocol": protocol.to_dict(),
            "stamp": protocol.line(),
            "leaks": list(protocol.leaks),
        }

    def _select_of(self, source: Artifact) -> dict | None:
        """Scores of the select part from the manifest, or from the logits where it has none."""
        kept = source.metrics.get("select")
        if kept and kept.get("macro_f1") is not None:
            return _flat(kept)
        if "select.npz" not in source.manifest["files"]:
            return None
        p = load_predictions(source.file("select.npz"))
        return summary(p.labels, p.logits)

    def _protocol(self, source: Artifact, scored: Artifact | None) -> Protocol:
        """The stamp of the test score, or of the select part; leaks of any of them stay."""
        kept = scored.metrics.get("protocol") if scored is not None else None
        own = source.metrics.get("protocol") or (source.metrics.get("select") or {}).get("protocol")
        stamps = [protocol_from_json(canonical(found), f"{source.kind} {source.id}") for found in (kept, own) if found]
        if own is None and "select.npz" in source.manifest["files"]:
            stamps.append(load_protocol(source.file("select.npz")))
        if not stamps:
            parts = self.origin(source)
            stamps = [Protocol(self.names.get(parts["data"], ""), self.split_name(parts["split"]), Role.SELECT)]
        leaks = dict.fromkeys(leak for stamp in stamps for leak in stamp.leaks)
        return replace(stamps[0], leaks=tuple(leaks))


def _flat(scores: dict) -> dict:
    """Scores with ``disgust_f1`` beside the others, wherever it was kept (None without Disgust faces)."""
    disgust = (scores.get("per_class") or {}).get("disgust")
    value = scores.get("disgust_f1")
    if value is None and disgust and disgust["support"]:
        value = disgust["f1"]
    return {**scores, "disgust_f1": value}


def _own_tta(source: Artifact) -> str:
    """The augmentation of the graph of an ensemble; none for a run."""
    return str(source.spec.get("tta", "none")) if source.kind == "ensemble" else "none"


def _recipe(run: Artifact, key: str) -> str:
    return str((run.spec.get("recipe") or {}).get(key, "?"))


def _joined(values: Iterable[str]) -> str:
    return " + ".join(dict.fromkeys(values))


def _total(values: Iterable[int | None]) -> int | None:
    known = [v for v in values if v is not None]
    return sum(known) if known else None
