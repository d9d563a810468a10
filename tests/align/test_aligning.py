"""An aligned set has its source's rows: cut out, flagged, resumable, and for looks, twins and splits the same faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ensemble_fer.align.aligning as aligning
from ensemble_fer.align import Settings, align, report_of
from ensemble_fer.align.cutting import cut
from ensemble_fer.app.prediction import predict
from ensemble_fer.config import Recipe
from ensemble_fer.data.audit import audit
from ensemble_fer.data.derived import Alignment, alignment_of, faceless_dropped, source_of
from ensemble_fer.data.importing import identity_images, load_faces, store_faces
from ensemble_fer.data.injection import inject_data
from ensemble_fer.data.showing import show_aligned
from ensemble_fer.data.splits import split_of
from ensemble_fer.data.synthetic import draw_faces
from ensemble_fer.data.twins import twins_of
from ensemble_fer.errors import EnsembleFerError, UsageError
from ensemble_fer.export.fusing import fuse
from ensemble_fer.export.session import open_graph
from ensemble_fer.looks import faces_of
from ensemble_fer.models import MODELS
from ensemble_fer.report import evaluate
from ensemble_fer.resample import SearchOptions, load_resampling, make_resampling
from ensemble_fer.resample.spaces import Space
from ensemble_fer.store import Artifact, Store
from ensemble_fer.train import train
from ensemble_fer.types import FaceSet, Role, Split
from tests.export import making

DRAWN = draw_faces(200, seed=5)
FACES = FaceSet(DRAWN.images, DRAWN.labels, DRAWN.usage, "few")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Artifact, Artifact]:
    """A store with a set and the same aligned. Only read it."""
    store = Store(tmp_path_factory.mktemp("aligned"))
    source = store_faces(store, FACES, {"left_out": {"Training": 3, "PublicTest": 0, "PrivateTest": 1, "unknown": 0}})
    return store, source, align(store, source, device="cpu", quiet=True)


def parts_of(split: Split) -> list[np.ndarray]:
    return [split.train_rows, split.select_rows, split.test_rows]


def test_rows_labels_and_usages_are_the_sources(whole) -> None:
    store, source, made = whole
    faces, alignment = load_faces(made), alignment_of(made)
    assert faces.images.shape == (200, 96, 96, 3)
    assert (faces.images == faces.images[..., :1]).all()
    assert np.array_equal(faces.labels, FACES.labels)
    assert np.array_equal(faces.usage, FACES.usage)
    assert made.inputs == [source.id]
    assert store.name_of(made) == "few-aligned" == made.metrics["name"]
    assert source_of(store, made).id == source.id == source_of(store, source).id
    assert made.metrics["left_out"] == source.metrics["left_out"]
    assert alignment_of(source) is None
    assert alignment is not None
    shares = {line["usage"]: (line["rows"], line["found"]) for line in report_of(made)}
    for usage, (rows, found) in shares.items():
        own = FACES.rows_of(usage)
        assert (rows, found) == (len(own), int(alignment.found[own].sum()))
    assert 0.6 < alignment.found.mean() < 0.95
    assert align(store, source, quiet=True).id == made.id


def test_faces_are_the_boxes_and_the_rest_the_middle(whole) -> None:
    _, _, made = whole
    images, alignment = load_faces(made).images[..., 0], alignment_of(made)
    assert alignment is not None
    missing = np.flatnonzero(~alignment.found)
    for row in missing[:5]:
        whole_picture = Image.fromarray(FACES.images[row]).resize((96, 96), Image.Resampling.BILINEAR)
        assert np.array_equal(images[row], np.asarray(whole_picture))
    assert not alignment.landmarks[missing].any()
    assert not alignment.boxes[missing].any()
    for row in np.flatnonzero(alignment.found)[:20]:
        # The middle of the face, interpolated from the source by hand, is where the box says.
        left, top, right, bottom = np.clip(alignment.boxes[row], 0, 48)
        shares = (np.arange(16, 80) + 0.5) / 96
        x, y = left + shares * (right - left) - 0.5, top + shares * (bottom - top) - 0.5
        u, v = np.floor(x).astype(int), np.floor(y).astype(int)
        source, du, dv = FACES.images[row].astype(float), x - u, (y - v)[:, None]
        upper = source[np.ix_(v, u)] * (1 - du) + source[np.ix_(v, u + 1)] * du
        lower = source[np.ix_(v + 1, u)] * (1 - du) + source[np.ix_(v + 1, u + 1)] * du
        assert np.abs(upper * (1 - dv) + lower * dv - images[row][16:80, 16:80]).max() < 1.5


def test_cutting_other_shapes() -> None:
    wide = np.zeros((2, 20, 60, 3), np.uint8)
    wide[:, :, 20:40] = (10, 200, 30)
    boxes = np.array([[0, 0, 0, 0], [-5, -5, 18, 20]], np.float32)
    out = cut(wide, boxes, np.array([False, True]))
    assert out.shape == (2, 96, 96, 3)
    assert (out[0, 4:-4, 4:-4] == (10, 200, 30)).all()  # the middle square
    assert not out[1].any()
    assert cut(wide[:0], boxes[:0], np.zeros(0, bool)).shape == (0, 96, 96, 3)


def test_a_box_that_shows_no_pixel_is_no_face(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes beside the picture, and thinner than a pixel of it: the middle is shown, and the row is flagged."""
    # Of the picture of 96 pixels that is searched; the source's are twice as large.
    boxes = np.array([[-30, 2, 1.8, 50], [4, 95, 60, 140], [100, 0, 120, 9], [-30, 2, 2, 50]], np.float32)
    ones = np.ones((4, 5, 2), np.float32)

    def finds(images: np.ndarray, *_, **__) -> Alignment:
        return Alignment(np.ones(4, bool), ones, boxes, ones[:, 0, 0], np.full(4, 2, np.int32))

    monkeypatch.setattr(aligning, "detect", finds)
    few = FaceSet(FACES.images[:4], FACES.labels[:4], np.zeros(4, np.uint8), "four")
    made = align(store, store_faces(store, few, {}), device="cpu", quiet=True)
    alignment, images = alignment_of(made), load_faces(made).images[..., 0]
    assert alignment is not None
    assert alignment.found.tolist() == [False, False, False, True]
    for array in (alignment.landmarks, alignment.boxes, alignment.score, alignment.count):
        assert not array[:3].any()
        assert array[3].any()
    for row in range(3):
        middle = Image.fromarray(few.images[row]).resize((96, 96), Image.Resampling.BILINEAR)
        assert np.array_equal(images[row], np.asarray(middle))
    assert (made.metrics["found"]["Training"], made.metrics["several"]["Training"]) == (1, 1)


def test_twins_splits_and_looks_are_the_sources(whole) -> None:
    store, source, made = whole
    assert twins_of(store, made, quiet=True)[0].id == twins_of(store, source, quiet=True)[0].id
    for name in ("official", "official-clean", "stratified:0.6,0.2,0.2"):
        artifact, split = split_of(store, made, name, quiet=True)
        other_artifact, other = split_of(store, source, name, quiet=True)
        assert artifact.id != other_artifact.id
        assert all(np.array_equal(a, b) for a, b in zip(parts_of(split), parts_of(other), strict=True))
    assert np.array_equal(identity_images(store, made), FACES.images)
    ours, theirs = audit(store, made, quiet=True), audit(store, source, quiet=True)
    assert {k: v for k, v in ours.items() if k not in ("data", "sheet")} == {
        k: v for k, v in theirs.items() if k not in ("data", "sheet")
    }


def test_equal_channels_are_the_gray_face(whole) -> None:
    colour = np.repeat(FACES.images[:20, ..., None], 3, 3)
    assert np.array_equal(faces_of(colour), faces_of(FACES.images[:20]))
    tinted = colour // np.array([1, 2, 1], np.uint8)
    assert not np.isin(faces_of(tinted), faces_of(FACES.images[:20])).any()
    assert len(faces_of(np.full((3, 5, 5, 3), (9, 7, 5), np.uint8))) == 0


@pytest.mark.parametrize("asked", ["train", "all"])
def test_rows_without_a_face_are_kept_out_of_parts(whole, asked: str) -> None:
    store, source, made = whole
    dropped = align(store, source, drop_faceless=asked, quiet=True)
    assert store.name_of(dropped) == f"few-aligned-drop-{asked}"
    assert (dropped.path / "faces.npz").samefile(made.path / "faces.npz")
    assert np.array_equal(load_faces(dropped).images, load_faces(made).images)
    alignment = alignment_of(made)
    assert alignment is not None
    _, full = split_of(store, source, "official")
    _, split = split_of(store, dropped, "official")
    for role, before, after in zip(Role, parts_of(full), parts_of(split), strict=True):
        kept = before[alignment.found[before]] if asked == "all" or role == Role.TRAIN else before
        assert np.array_equal(after, kept)
        assert faceless_dropped(split, role) == len(before) - len(kept)
    assert faceless_dropped(full, Role.TRAIN) == 0


def test_the_set_with_all_rows_has_a_name_of_its_own(store: Store) -> None:
    few = FaceSet(FACES.images[:60], FACES.labels[:60], FACES.usage[:60], "few")
    source = store_faces(store, few, {})
    dropped = align(store, source, drop_faceless="train", name="strict", device="cpu", quiet=True)
    refs = store.refs("data")
    assert refs == {"few": source.id, "few-aligned": refs["few-aligned"], "strict": dropped.id}
    whole = store.get("data", "few-aligned")
    assert (whole.spec["drop_faceless"], whole.metrics["name"]) == (None, "few-aligned")
    assert align(store, source, device="cpu", quiet=True).id == whole.id
    # Where the name means another set, that one keeps it.
    other = Settings(smallest=60)
    align(store, source, drop_faceless="all", settings=other, name="near", device="cpu", quiet=True)
    assert store.refs("data")["few-aligned"] == whole.id
    (name,) = store.refs("data").keys() - refs.keys() - {"near"}
    made = store.get("data", name)
    assert name == f"few-aligned-{made.id[:6]}" == made.metrics["name"]
    assert made.id == align(store, source, settings=other, name="mine", device="cpu", quiet=True).id


def test_a_part_without_any_face_is_refused(store: Store) -> None:
    grey = FaceSet(making.faces(30), np.arange(30) % 7, np.repeat([0, 1, 2], 10), "blocks")
    made = align(store, store_faces(store, grey, {}), drop_faceless="all", device="cpu", quiet=True)
    with pytest.raises(UsageError, match="in none of the 10 train rows"):
        split_of(store, made, "official")


def test_scores_without_the_hard_rows_say_so_and_looks_count_the_source(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "tiny", making.tiny)
    source = store_faces(store, FACES, {})
    dropped = align(store, source, drop_faceless="all", device="cpu", quiet=True)
    recipe = Recipe(epochs=1, batch_size=32)
    first = train(store, recipe, data="few", quiet=True, name="first")
    second = train(store, recipe, data=store.name_of(dropped), quiet=True, name="second")
    scores = [evaluate(store, run.id, quiet=True).report.protocol for run in (first, second)]
    alignment = alignment_of(dropped)
    assert alignment is not None
    missing = int((~alignment.found[FACES.rows_of("PrivateTest")]).sum())
    assert [(score.looks, score.faceless_dropped) for score in scores] == [(1, 0), (2, missing)]
    assert missing > 0
    assert f"{missing} TEST ROWS WITHOUT A DETECTED FACE LEFT OUT: AN EASIER TEST" in scores[1].line()
    assert "DETECTED FACE" not in scores[0].line()
    select = evaluate(store, second.id, role="select", quiet=True).report.protocol
    assert f"{select.faceless_dropped} SELECT ROWS WITHOUT" in select.line()
    with pytest.raises(UsageError, match="different data sets"):
        fuse(store, ["first", "second"], quiet=True)
    fused = fuse(store, ["second"], quiet=True)
    assert open_graph(fused.file("ensemble.onnx")).shape == (96, 96, 3)
    assert fused.metrics["flips"] == 0
    face = tmp_path / "face.png"
    Image.fromarray(FACES.images[0]).save(face)
    with pytest.raises(UsageError, match=r"takes aligned faces \[96, 96, 3\].*fuse runs of a set that was not aligned"):
        predict(face, graph=fused)


def test_interrupted_it_goes_on_and_ends_the_same(whole, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, made = whole
    source = store_faces(store, FACES, {})
    monkeypatch.setattr(aligning, "PIECE", 64)
    truly, done = aligning._made, []

    def stopping(images: np.ndarray, *rest) -> aligning._Piece:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(len(images))
        return truly(images, *rest)

    monkeypatch.setattr(aligning, "_made", stopping)
    with pytest.raises(KeyboardInterrupt):
        align(store, source, device="cpu", quiet=True)
    assert store.ids("data") == [source.id]
    (working,) = (store.root / "unfinished").iterdir()
    pieces = sorted(working.iterdir())
    assert [p.name for p in pieces] == ["rows-0000000.npz", "rows-0000064.npz"]
    pieces[0].write_bytes(pieces[0].read_bytes()[:1000])  # torn

    again = []
    monkeypatch.setattr(aligning, "_made", lambda images, *rest: again.append(len(images)) or truly(images, *rest))
    resumed = align(store, source, device="cpu", quiet=True)
    assert again == [64, 64, 8]  # the torn one and the two that were missing
    assert resumed.id == made.id
    assert np.array_equal(load_faces(resumed).images, load_faces(made).images)
    for key, array in vars(alignment_of(resumed)).items():
        assert np.array_equal(array, getattr(alignment_of(made), key)), key
    assert not any((store.root / "unfinished").iterdir())


def test_a_coloured_set_of_another_size_stays_coloured(store: Store) -> None:
    tint = np.array([1.0, 0.75, 0.6])
    large = FACES.images[:24].repeat(3, 1).repeat(3, 2)
    colour = FaceSet((large[..., None] * tint).astype(np.uint8), FACES.labels[:24], FACES.usage[:24], "colour")
    source = store_faces(store, colour, {})
    assert np.array_equal(load_faces(source).images, colour.images)
    made = align(store, source, device="cpu", quiet=True)
    images, alignment = load_faces(made).images, alignment_of(made)
    assert alignment is not None
    assert images.shape == (24, 96, 96, 3)
    assert images[..., 0].mean() > 1.2 * images[..., 1].mean() > 1.2 * images[..., 2].mean()
    assert alignment.found.any()
    assert alignment.landmarks[alignment.found].max() > 96  # in pixels of the source, which has 144
    assert len(twins_of(store, source, quiet=True)[1].groups) == 24


def test_neighbours_are_those_of_the_photographs(whole) -> None:
    store, source, made = whole
    for method in ("ros", "smote_tomek"):
        ours, theirs = (load_resampling(make_resampling(store, d, method=method, quiet=True)) for d in (made, source))
        for key in ("kind", "parent_a", "parent_b", "weight", "labels"):
            assert np.array_equal(getattr(ours, key), getattr(theirs, key)), (method, key)
        assert ours.pixels(load_faces(made).images, slice(0, 3)).shape == (3, 96, 96, 3)
    dropped = align(store, source, drop_faceless="train", quiet=True)
    hybrid = load_resampling(make_resampling(store, dropped, method="hybrid", target=12, quiet=True))
    alignment = alignment_of(made)
    assert alignment is not None
    assert alignment.found[hybrid.parent_a].all()
    seen = []
    coarse = Space("coarse", lambda pixels: seen.append(pixels.shape) or (lambda faces: faces[:, ::97]))
    make_resampling(store, made, method="smote", options=SearchOptions(coarse), quiet=True)
    assert seen == [(len(FACES.rows_of("Training")), 48 * 48)]
    foreign = Space("run:abc", lambda pixels: lambda faces: faces, split=split_of(store, made, "official")[0].id)
    with pytest.raises(UsageError, match=r"few-aligned is aligned.*Use the space pixels or pca:50"):
        make_resampling(store, made, method="smote", options=SearchOptions(foreign), quiet=True)


def test_wrong_requests(whole) -> None:
    store, source, made = whole
    with pytest.raises(UsageError, match=r"is aligned already\. Align few\."):
        align(store, made)
    with pytest.raises(UsageError, match="Did you mean 'train'"):
        align(store, source, drop_faceless="trian")
    with pytest.raises(UsageError, match="cannot be a name"):
        align(store, source, name="a b")
    with pytest.raises(UsageError, match="Known: auto, cpu"):
        align(store, source, device="tpu")
    with pytest.raises(UsageError, match="few-aligned is aligned"):
        inject_data(store, made, source, classes=["happy"])
    empty = store_faces(store, FaceSet(FACES.images[:0], FACES.labels[:0], FACES.usage[:0], "empty"), {})
    with pytest.raises(EnsembleFerError, match="nothing to align"):
        align(store, empty)
    assert align(store, source, settings=Settings(smallest=60), name="near", quiet=True).id != made.id


def test_the_sheet_shows_source_box_landmarks_and_what_is_missing(whole) -> None:
    _, _, made = whole
    faces = load_faces(made)
    alignment = alignment_of(made)
    assert alignment is not None
    sheet = np.asarray(show_aligned(FACES, faces, alignment, columns=4, side=96))
    assert sheet.ndim == 3
    colours = {tuple(colour) for colour in sheet.reshape(-1, 3)[np.ptp(sheet.reshape(-1, 3), axis=1) > 0]}
    assert colours == {(0, 191, 255), (255, 255, 0), (255, 0, 0)}
    nothing = Alignment(*(np.zeros_like(array) for array in vars(alignment).values()))
    crossed = np.asarray(show_aligned(FACES, faces, nothing, columns=1, classes=["happy"], side=48))
    assert {tuple(c) for c in crossed.reshape(-1, 3)[np.ptp(crossed.reshape(-1, 3), axis=1) > 0]} == {(255, 0, 0)}


def test_the_command(tmp_path: Path) -> None:
    import json

    from tests.cli.running import run

    store = Store(tmp_path / "s")
    store_faces(store, FaceSet(FACES.images[:40], FACES.labels[:40], FACES.usage[:40], "few"), {})
    found = json.loads(run("align", "--json", "--store", store.root).stdout)
    assert found["name"] == "few-aligned"
    assert found["found"]["Training"] > 20
    # Again, as after a kill at the last moment: the aligned set beside it is none that could be meant.
    assert json.loads(run("align", "--json", "--store", store.root).stdout) == found
    store_faces(store, FaceSet(FACES.images[40:80], FACES.labels[40:80], FACES.usage[40:80], "others"), {})
    which = run("align", "--store", store.root)
    assert which.exit_code == 2
    assert "several data sets here: few, few-aligned, others. Name one" in which.stderr
    table = run("align", "--data", "few", "--drop-faceless", "all", "--store", store.root)
    assert "few-aligned-drop-all" in table.stdout
    assert "warning: the test part is easier" in table.stderr
    wrong = run("align", "--data", "few", "--drop-faceless", "al", "--store", store.root)
    assert wrong.exit_code == 2
    assert "Did you mean 'all'" in wrong.stderr
    shown = run("data", "show", "--data", "few-aligned", "-o", tmp_path / "a.png", "--store", store.root)
    assert shown.exit_code == 0
    assert Image.open(tmp_path / "a.png").mode == "RGB"
