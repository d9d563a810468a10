"""Predictions of other programs: read strictly, placed by row, stamped as unknown, ranked and combined like runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from ensemble_fer.comparing import compare
from ensemble_fer.data.importing import store_faces
from ensemble_fer.data.predictions_csv import read_said
from ensemble_fer.errors import BadData, MissingError, SplitMisuse, UsageError
from ensemble_fer.evaluate.predictions import load_predictions
from ensemble_fer.export.exporting import export
from ensemble_fer.export.fusing import fuse
from ensemble_fer.leaderboard import leaderboard
from ensemble_fer.models import MODELS
from ensemble_fer.outside import import_predictions
from ensemble_fer.report import evaluate
from ensemble_fer.store import Store
from ensemble_fer.train import load_member
from ensemble_fer.types import CLASSES, Role, softmax
from tests.cli.running import run
from tests.export import making
from tests.export.making import untrained_run

SELECT, TEST = np.arange(40, 55), np.arange(55, 70)  # of making.face_set()


@pytest.fixture
def ours(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with two runs of fifteen select and fifteen test rows."""
    monkeypatch.setitem(MODELS, "tiny", making.tiny)
    store_faces(store, making.face_set(), {})
    for seed, name in enumerate(("first", "second")):
        untrained_run(store, name, seed)
    return store


def logits(rows: np.ndarray, seed: int = 0) -> np.ndarray:
    """Logits that follow from the row, whichever rows are asked for."""
    return np.stack([np.random.default_rng((seed, row)).normal(size=7) * 2 for row in rows])


def written(path: Path, rows: np.ndarray, numbers: np.ndarray, *, columns: tuple[str, ...] = ("row", "label")) -> Path:
    labels = making.face_set().labels
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*columns, *CLASSES])
        for row, line in zip(rows, numbers, strict=True):
            values = {"row": row, "label": CLASSES[labels[row]] if 0 <= row < len(labels) else "happy"}
            table.writerow([*(values[name] for name in columns), *line])
    return path


def test_both_parts_in_any_order_of_rows(ours: Store, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).permutation(np.concatenate([SELECT, TEST]))
    made = import_predictions(ours, written(tmp_path / "t.csv", rows, logits(rows)), name="theirs", about="their net")
    said = load_predictions(made.file("select.npz"))
    np.testing.assert_array_equal(said.rows, SELECT)
    np.testing.assert_allclose(said.logits, logits(SELECT), rtol=1e-6)
    np.testing.assert_array_equal(said.labels, making.face_set().labels[SELECT])
    assert "trained on unknown, made elsewhere" in said.protocol.line()
    assert "pretraining unknown, made elsewhere: their net" in said.protocol.line()
    test = evaluate(ours, "theirs", quiet=True)
    assert test.stored, "scored when it was imported"
    np.testing.assert_allclose(test.predictions.logits, logits(TEST), rtol=1e-6)
    assert test.predictions.protocol.looks == 1
    assert test.predictions.twin_in_train.tolist() == [False] * 14 + [True]
    again = import_predictions(ours, tmp_path / "t.csv", name="theirs", about="their net")
    assert again.id == made.id
    assert len((ours.root / "looks.jsonl").read_text().splitlines()) == 2, "one look, one choosing"


def test_probabilities_are_told_from_logits(tmp_path: Path) -> None:
    p = softmax(logits(SELECT)).round(4)
    path = written(tmp_path / "p.csv", SELECT, p)
    np.testing.assert_allclose(softmax(read_said(path).logits), p / p.sum(1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(read_said(path, "logits").logits, p, atol=1e-7)
    with pytest.raises(BadData, match=r"line 2: no probabilities, their sum is"):
        read_said(written(tmp_path / "l.csv", SELECT, logits(SELECT)), "probabilities")
    zeros = np.eye(7)[np.arange(15) % 7]
    assert np.isfinite(read_said(written(tmp_path / "z.csv", SELECT, zeros)).logits).all()


@pytest.mark.parametrize("rounded", [1.0000001, -1e-9])
def test_probabilities_that_rounding_took_over_the_edge_are_probabilities(tmp_path: Path, rounded: float) -> None:
    p = softmax(logits(SELECT))
    p[3] = np.where(np.arange(7) == 2, 1.0, 0.0)
    p[3, 2 if rounded > 0 else 4] = rounded
    read = softmax(read_said(written(tmp_path / "p.csv", SELECT, p)).logits)
    np.testing.assert_allclose(read, p, atol=1e-6)
    p[3] = [0.3, -0.2, 0.9, 0, 0, 0, 0]
    with pytest.raises(BadData, match=r"line 5: the numbers look like probabilities"):
        read_said(written(tmp_path / "p.csv", SELECT, p))


def test_predictions_of_the_test_part_alone_are_whole(ours: Store, tmp_path: Path) -> None:
    import_predictions(ours, written(tmp_path / "t.csv", TEST, logits(TEST)), name="theirs")
    said = r"of the select part .* there are none\. Import them"
    with pytest.raises(MissingError, match=said):
        evaluate(ours, "theirs", role=Role.SELECT, quiet=True)
    with pytest.raises(MissingError, match=said):
        compare(ours, "theirs", "first")


@pytest.mark.parametrize("about", ["a\nb", "\x1b[2J", "x" * 201])
def test_what_made_them_is_one_line_of_the_stamp(ours: Store, tmp_path: Path, about: str) -> None:
    with pytest.raises(UsageError, match="one line"):
        import_predictions(ours, written(tmp_path / "t.csv", SELECT, logits(SELECT)), name="theirs", about=about)


def test_lines_without_row_ids_are_a_part_in_its_order(ours: Store, tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", SELECT, logits(SELECT), columns=())
    with pytest.raises(UsageError, match="--part select  or  --part test"):
        import_predictions(ours, path, name="theirs")
    made = import_predictions(ours, path, name="theirs", part="select")
    np.testing.assert_allclose(load_predictions(made.file("select.npz")).logits, logits(SELECT), rtol=1e-6)
    assert not (ours.root / "looks.jsonl").read_text().count('"test"')
    short = written(tmp_path / "s.csv", SELECT[1:], logits(SELECT[1:]), columns=())
    with pytest.raises(UsageError, match=r"14 lines of numbers, and the select part .* 15 rows"):
        import_predictions(ours, short, name="short", part="select")
    with pytest.raises(UsageError, match="expected select or test"):
        import_predictions(ours, path, name="t", part="train")


def test_rows_that_do_not_belong_are_refused(ours: Store, tmp_path: Path) -> None:
    def refused(rows: np.ndarray) -> Path:
        return written(tmp_path / "t.csv", rows, logits(rows))

    with pytest.raises(SplitMisuse, match=r"1 rows are training rows .* the first is 3"):
        import_predictions(ours, refused(np.append(SELECT, 3)), name="t")
    with pytest.raises(UsageError, match="2 of 15 rows of the test part are missing, the first is 55"):
        import_predictions(ours, refused(np.concatenate([SELECT, TEST[2:]])), name="t")
    with pytest.raises(UsageError, match="row 70 is not in the set"):
        import_predictions(ours, refused(np.append(SELECT, 70)), name="t")
    with pytest.raises(BadData, match="line 17: row 40 again"):
        import_predictions(ours, refused(np.append(SELECT, 40)), name="t")
    text = written(tmp_path / "t.csv", SELECT, logits(SELECT)).read_text().splitlines()
    lines = [line.split(",") for line in text]
    lines[3][1], lines[4][1] = lines[4][1], lines[3][1]
    (tmp_path / "t.csv").write_text("\n".join(map(",".join, lines)))
    with pytest.raises(SplitMisuse, match="2 of 15 labels are not those of the set, the first at row 42"):
        import_predictions(ours, tmp_path / "t.csv", name="t")
    assert ours.refs("run").keys() == {"first", "second"}
    assert not (ours.root / "looks.jsonl").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "no column angry"),
        ("angry,disgust,fear,happy,sad,surprise\n1,2,3,4,5,6\n", "no column neutral"),
        (",".join(CLASSES) + "\n", "no line of numbers"),
        (",".join(CLASSES) + "\n1,2,3,4,5,6\n", "line 2: list index out of range"),
        (",".join(CLASSES) + "\n1,2,3,4,5,6,x\n", "line 2: could not convert"),
        (",".join(CLASSES) + "\n1,2,3,4,5,6,nan\n", "line 2: not a finite number"),
        ("label," + ",".join(CLASSES) + "\njoyless,1,2,3,4,5,6,7\n", "line 2: label 'joyless' is no class"),
        ("row," + ",".join(CLASSES) + "\n1.5,1,2,3,4,5,6,7\n", "line 2: invalid literal"),
        (",".join(CLASSES) + "\n1,2,3,4,5,6,1e300\n", "line 2: not a finite number"),
        ("row," + ",".join(CLASSES) + f"\n{10**20},1,2,3,4,5,6,7\n", "line 2: row 100000001 is out of range"),
        (",".join(CLASSES) + "\n1,0,0,0,0,0,0\n.5,.1,.1,.1,.1,.05,.03\n", "line 3: .* their sum is 0.98; .*--kind"),
        (",".join(CLASSES) + "\n90,2,2,2,2,1,1\n", "look like probabilities or per cent, but their sum is 100"),
        (b"\xff\xfe\x00", "not a csv file"),
    ],
)
def test_bad_files_are_named_by_line(tmp_path: Path, content: str | bytes, reason: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadData, match=reason):
        read_said(path)
    with pytest.raises(MissingError, match="there is no file"):
        read_said(tmp_path / "none.csv")


def test_they_are_ranked_compared_and_fused_without_a_graph(ours: Store, tmp_path: Path) -> None:
    rows = np.concatenate([SELECT, TEST])
    import_predictions(ours, written(tmp_path / "t.csv", rows, logits(rows)), name="theirs")
    board = {row["name"]: row for row in leaderboard(ours)["rows"]}
    assert board["theirs"]["test"]["looks"] == 1
    assert board["theirs"]["select"]["accuracy"] is not None
    assert compare(ours, "theirs", "first")["part"] == "select"
    mixed = fuse(ours, ["first", "theirs"], name="mixed", quiet=True)
    assert "ensemble.onnx" not in mixed.manifest["files"]
    members = [load_predictions(ours.get("run", name).file("select.npz")) for name in ("first", "theirs")]
    mean = np.mean([p.probabilities() for p in members], axis=0)
    np.testing.assert_allclose(load_predictions(mixed.file("select.npz")).probabilities(), mean, atol=1e-6)
    assert "unknown" in evaluate(ours, "mixed", quiet=True).report.protocol.line()
    with pytest.raises(MissingError, match="of the test part with test-time augmentation 'flip' there are none"):
        evaluate(ours, "theirs", tta="flip", quiet=True)
    looks = (ours.root / "looks.jsonl").read_bytes()
    with pytest.raises(MissingError, match="'flip' there are none"):
        evaluate(ours, "mixed", tta="flip", quiet=True)
    assert (ours.root / "looks.jsonl").read_bytes() == looks, "nothing was looked at for a score that cannot be made"
    with pytest.raises(MissingError, match="has no weights"):
        load_member(ours.get("run", "theirs"))
    with pytest.raises(MissingError, match="has no graph"):
        export(ours, "mixed", quiet=True)
    done = run("predict", "face.png", "--ensemble", "mixed", "--store", ours.root)
    assert done.exit_code == 3
    assert "has no graph" in done.stderr


def test_the_command(ours: Store, tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", SELECT, logits(SELECT))
    done = run("predictions", "import", path, "--name", "theirs", "--json", "--store", ours.root)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["name"] == "theirs"
    assert (
        "select part: accuracy" in run("predictions", "import", path, "--name", "theirs", "--store", ours.root).stdout
    )
    assert "no graph" in run("fuse", "first", "theirs", "--store", ours.root).stdout
    assert run("predictions", "import", path, "--name", "no/name", "--store", ours.root).exit_code == 2
    assert run("predictions", "import", tmp_path / "no.csv", "--name", "n", "--store", ours.root).exit_code == 3
