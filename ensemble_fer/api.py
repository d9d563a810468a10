"""The library in one place: everything that the commands do, by name.

``from ensemble_fer import api`` costs nothing; a function is imported when it is first used.
(Not in the package itself: there ``train`` and ``evaluate`` are the folders of that name.)
``docs/tour.md`` walks through it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_WHERE = {
    "config": ("Recipe", "resolve_recipe"),
    "store": ("Artifact", "Store", "need_data"),
    "types": ("CLASSES", "FaceSet", "Predictions", "Protocol", "Resampling", "Role", "Split", "TwinMap"),
    "upkeep": ("check_store", "clean_store", "list_runs", "remove_listed", "remove_source", "remove_study"),
    "data.audit": ("audit",),
    "data.derived": ("alignment_of",),
    "data.importing": ("import_data", "load_faces"),
    "data.injection": ("inject_data", "provenance_of"),
    "data.showing": ("show_faces",),
    "data.splits": ("make_split", "split_of"),
    "data.synthetic": ("draw_faces", "synth_data"),
    "data.twins": ("find_twins", "twins_of"),
    "data.votes": ("join_votes", "soft_labels", "votes_of"),
    "resample": ("SearchOptions", "load_resampling", "make_resampling", "resample"),
    "align": ("align", "detect"),
    "models": ("MODELS", "Member", "build", "start_weights"),
    "models.cost": ("flops",),
    "train": ("learn", "load_member", "predict_rows", "prepare", "train"),
    "train.finetuning": ("finetuning_recipe",),
    "train.losses": ("loss_of",),
    "train.optimizers": ("optimizer_of",),
    "train.spaces": ("space_of",),
    "tune": ("tune",),
    "evaluate.metrics": ("score",),
    "evaluate.predictions": ("load_predictions", "save_predictions"),
    "evaluate.figures": ("confusion_figure",),
    "ensemble": ("combine", "diversity", "fit"),
    "export.fusing": ("fuse",),
    "export.exporting": ("export",),
    "export.shipped": ("shipped_graph",),
    "export.benching": ("bench",),
    "report": ("evaluate",),
    "comparing": ("compare",),
    "outside": ("import_predictions",),
    "evaluate.pairs": ("compare_predictions",),
    "leaderboard": ("leaderboard",),
    "app.occlusion": ("occlusion",),
    "app.page": ("build_page", "serve"),
    "app.prediction": ("predict",),
    "app.video": ("video",),
    "detector.tracking": ("Tracker",),
    "explain.attribution": ("attribute",),
    "explain.embedding": ("tsne",),
    "explain.explaining": ("explain",),
    "demo": ("run_demo",),
    "study.costing": ("forecast",),
    "study.differences": ("differences",),
    "study.finding": ("known_studies", "study_file"),
    "study.gathering": ("gather", "load_gathered"),
    "study.leaking": ("leaky_data",),
    "study.mistakes": ("mistakes",),
    "study.published": ("published",),
    "study.reading": ("read_study",),
    "study.reporting": ("write_report",),
    "study.running": ("run_study",),
}
_HOME = {name: module for module, names in _WHERE.items() for name in names}

if TYPE_CHECKING:
    from ensemble_fer.align import align as align
    from ensemble_fer.align import detect as detect
    from ensemble_fer.app.occlusion import occlusion as occlusion
    from ensemble_fer.app.page import build_page as build_page
    from ensemble_fer.app.page import serve as serve
    from ensemble_fer.app.prediction import predict as predict
    from ensemble_fer.app.video import video as video
    from ensemble_fer.comparing import compare as compare
    from ensemble_fer.config import Recipe as Recipe
    from ensemble_fer.config import resolve_recipe as resolve_recipe
    from ensemble_fer.data.audit import audit as audit
    from ensemble_fer.data.derived import alignment_of as alignment_of
    from ensemble_fer.data.importing import import_data as import_data
    from ensemble_fer.data.importing import load_faces as load_faces
    from ensemble_fer.data.injection import inject_data as inject_data
    from ensemble_fer.data.injection import provenance_of as provenance_of
    from ensemble_fer.data.showing import show_faces as show_faces
    from ensemble_fer.data.splits import make_split as make_split
    from ensemble_fer.data.splits import split_of as split_of
    from ensemble_fer.data.synthetic import draw_faces as draw_faces
    from ensemble_fer.data.synthetic import synth_data as synth_data
    from ensemble_fer.data.twins import find_twins as find_twins
    from ensemble_fer.data.twins import twins_of as twins_of
    from ensemble_fer.data.votes import join_votes as join_votes
    from ensemble_fer.data.votes import soft_labels as soft_labels
    from ensemble_fer.data.votes import votes_of as votes_of
    from ensemble_fer.demo import run_demo as run_demo
    from ensemble_fer.detector.tracking import Tracker as Tracker
    from ensemble_fer.ensemble import combine as combine
    from ensemble_fer.ensemble import diversity as diversity
    from ensemble_fer.ensemble import fit as fit
    from ensemble_fer.evaluate.figures import confusion_figure as confusion_figure
    from ensemble_fer.evaluate.metrics import score as score
    from ensemble_fer.evaluate.pairs import compare_predictions as compare_predictions
    from ensemble_fer.evaluate.predictions import load_predictions as load_predictions
    from ensemble_fer.evaluate.predictions import save_predictions as save_predictions
    from ensemble_fer.explain.attribution import attribute as attribute
    from ensemble_fer.explain.embedding import tsne as tsne
    from ensemble_fer.explain.explaining import explain as explain
    from ensemble_fer.export.benching import bench as bench
    from ensemble_fer.export.exporting import export as export
    from ensemble_fer.export.fusing import fuse as fuse
    from ensemble_fer.export.shipped import shipped_graph as shipped_graph
    from ensemble_fer.leaderboard import leaderboard as leaderboard
    from ensemble_fer.models import MODELS as MODELS
    from ensemble_fer.models import Member as Member
    from ensemble_fer.models import build as build
    from ensemble_fer.models import start_weights as start_weights
    from ensemble_fer.models.cost import flops as flops
    from ensemble_fer.outside import import_predictions as import_predictions
    from ensemble_fer.report import evaluate as evaluate
    from ensemble_fer.resample import SearchOptions as SearchOptions
    from ensemble_fer.resample import load_resampling as load_resampling
    from ensemble_fer.resample import make_resampling as make_resampling
    from ensemble_fer.resample import resample as resample
    from ensemble_fer.store import Artifact as Artifact
    from ensemble_fer.store import Store as Store
    from ensemble_fer.store import need_data as need_data
    from ensemble_fer.study.costing import forecast as forecast
    from ensemble_fer.study.differences import differences as differences
    from ensemble_fer.study.finding import known_studies as known_studies
    from ensemble_fer.study.finding import study_file as study_file
    from ensemble_fer.study.gathering import gather as gather
    from ensemble_fer.study.gathering import load_gathered as load_gathered
    from ensemble_fer.study.leaking import leaky_data as leaky_data
    from ensemble_fer.study.mistakes import mistakes as mistakes
    from ensemble_fer.study.published import published as published
    from ensemble_fer.study.reading import read_study as read_study
    from ensemble_fer.study.reporting import write_report as write_report
    from ensemble_fer.study.running import run_study as run_study
    from ensemble_fer.train import learn as learn
    from ensemble_fer.train import load_member as load_member
    from ensemble_fer.train import predict_rows as predict_rows
    from ensemble_fer.train import prepare as prepare
    from ensemble_fer.train import train as train
    from ensemble_fer.train.finetuning import finetuning_recipe as finetuning_recipe
    from ensemble_fer.train.losses import loss_of as loss_of
    from ensemble_fer.train.optimizers import optimizer_of as optimizer_of
    from ensemble_fer.train.spaces import space_of as space_of
    from ensemble_fer.tune import tune as tune
    from ensemble_fer.types import CLASSES as CLASSES
    from ensemble_fer.types import FaceSet as FaceSet
    from ensemble_fer.types import Predictions as Predictions
    from ensemble_fer.types import Protocol as Protocol
    from ensemble_fer.types import Resampling as Resampling
    from ensemble_fer.types import Role as Role
    from ensemble_fer.types import Split as Split
    from ensemble_fer.types import TwinMap as TwinMap
    from ensemble_fer.upkeep import check_store as check_store
    from ensemble_fer.upkeep import clean_store as clean_store
    from ensemble_fer.upkeep import list_runs as list_runs
    from ensemble_fer.upkeep import remove_listed as remove_listed
    from ensemble_fer.upkeep import remove_source as remove_source
    from ensemble_fer.upkeep import remove_study as remove_study


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"ensemble_fer.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
