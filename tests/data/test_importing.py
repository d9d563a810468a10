"""Importing: the same faces have one id, all rows come or none, and the real set is read in time."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ensemble_fer.data.importing import import_data, load_faces
from ensemble_fer.errors import BadData, MissingError, StoreError, UsageError
from ensemble_fer.store import Store
from ensemble_fer.types import CLASSES, OFFICIAL, FaceSet
from tests.data.pictures import csv_line, faces, save, write_csv


@pytest.fixture
def few(tmp_path: Path) -> FaceSet:
    usage = np.repeat(np.arange(3), 7)
    return FaceSet(faces(21), np.tile(np.arange(7), 3), usage)


def as_csv(path: Path, few: FaceSet) -> Path:
    given = zip(few.images, few.labels, few.usage, strict=True)
    return write_csv(path, [csv_line(image, label, OFFICIAL[usage]) for image, label, usage in given])


def test_same_faces_same_id_from_every_layout(tmp_path: Path, store: Store, few: FaceSet) -> None:
    made = [import_data(store, as_csv(tmp_path / "fer2013.csv", few), quiet=True)]
    for row in range(21):
        usage = OFFICIAL[few.usage[row]]
        part = "train" if usage == "Training" else "test"
        save(tmp_path / "folders" / part / CLASSES[few.labels[row]] / f"{usage}_{row}.png", few.images[row])
    made.append(import_data(store, tmp_path / "folders", name="again", quiet=True))
    np.savez(tmp_path / "f.npz", images=few.images, labels=few.labels, usage=few.usage)
    made.append(import_data(store, tmp_path / "f.npz", quiet=True))
    (tmp_path / "unpacked").mkdir()
    (tmp_path / "fer2013.csv").rename(tmp_path / "unpacked/fer2013.csv")
    made.append(import_data(store, tmp_path / "unpacked", quiet=True))
    assert len({a.id for a in made}) == 1
    assert store.refs("data") == {"again": made[0].id, "fer2013": made[0].id}
    loaded = load_faces(made[0])
    assert loaded.fingerprint == few.fingerprint
    assert loaded.name == "fer2013"
    metrics = made[0].metrics
    assert metrics["rows"] == 21
    assert metrics["usage"] == {usage: [1] * 7 for usage in OFFICIAL}
    assert metrics["layout"] == "csv"
    assert metrics["converted"] == 0
    assert metrics["skipped"] == []
    assert metrics["left_out"] == dict.fromkeys([*OFFICIAL, "unknown"], 0)


def test_other_faces_other_id(tmp_path: Path, store: Store, few: FaceSet) -> None:
    first = import_data(store, as_csv(tmp_path / "a.csv", few), quiet=True)
    labels = few.labels.copy()
    labels[0] = 1
    other = import_data(store, as_csv(tmp_path / "b.csv", FaceSet(few.images, labels, few.usage)), quiet=True)
    assert first.id != other.id
    assert store.get("data", "fer2013").id == other.id


def test_bad_rows_import_nothing_or_are_recorded(tmp_path: Path, store: Store, few: FaceSet) -> None:
    path = as_csv(tmp_path / "f.csv", few)
    lines = path.read_text().splitlines()
    lines[3], lines[10] = "7" + lines[3][1:], lines[10][:500]
    path.write_text("\n".join(lines))
    with pytest.raises(BadData, match="2 bad rows") as caught:
        import_data(store, path, quiet=True)
    assert [p.split(":")[0] for p in caught.value.problems] == ["line 4", "line 11"]
    assert "skip-bad-rows" in str(caught.value)
    assert store.ids("data") == []
    assert store.refs("data") == {}
    made = import_data(store, path, skip_bad_rows=True, quiet=True)
    kept = np.delete(np.arange(21), [2, 9])
    assert np.array_equal(load_faces(made).images, few.images[kept])
    manifest = json.loads((made.path / "manifest.json").read_text())
    assert manifest["metrics"]["skipped"] == caught.value.problems


@pytest.mark.parametrize("dirty_first", [True, False])
def test_a_set_that_lost_rows_is_not_the_clean_one(
    tmp_path: Path, store: Store, few: FaceSet, *, dirty_first: bool
) -> None:
    """The same good rows, but one says that a test row is gone and the other that nothing is."""
    clean = as_csv(tmp_path / "clean.csv", few)
    dirty = tmp_path / "dirty.csv"
    dirty.write_text(clean.read_text() + csv_line(few.images[0], 9, "PrivateTest") + "\n3,1 2 3\n")
    paths = [dirty, clean] if dirty_first else [clean, dirty]
    made = {p: import_data(store, p, name=p.stem, skip_bad_rows=True, quiet=True) for p in paths}
    assert made[clean].id != made[dirty].id
    assert made[clean].metrics["skipped"] == []
    assert len(made[dirty].metrics["skipped"]) == 2
    assert made[dirty].metrics["left_out"] == {"Training": 0, "PublicTest": 0, "PrivateTest": 1, "unknown": 1}
    assert import_data(store, dirty, name="dirty", skip_bad_rows=True, quiet=True).id == made[dirty].id
    # Other bad rows beside the same good ones are another set again.
    dirty.write_text(clean.read_text() + "3,1 2 3\n")
    third = import_data(store, dirty, name="third", skip_bad_rows=True, quiet=True)
    assert third.id not in {a.id for a in made.values()}


def test_no_good_row_is_an_error_even_when_skipping(tmp_path: Path, store: Store) -> None:
    path = write_csv(tmp_path / "f.csv", ["9,1 2 3,Training"])
    with pytest.raises(BadData, match="no good row"):
        import_data(store, path, skip_bad_rows=True, quiet=True)
    with pytest.raises(BadData, match="no good row"):
        import_data(store, write_csv(tmp_path / "g.csv", []), quiet=True)
    assert store.ids("data") == []


def test_sources_that_are_not_there_or_not_known(tmp_path: Path, store: Store) -> None:
    with pytest.raises(MissingError, match="data synth"):
        import_data(store, tmp_path / "fer2013.csv")
    (tmp_path / "archive.zip").write_bytes(b"PK")
    with pytest.raises(UsageError, match="Unpack it first"):
        import_data(store, tmp_path / "archive.zip")
    (tmp_path / "faces.h5").write_bytes(b"?")
    with pytest.raises(UsageError, match=r"expected a .csv or .npz"):
        import_data(store, tmp_path / "faces.h5")


def test_changed_faces_are_noticed(tmp_path: Path, store: Store, few: FaceSet) -> None:
    made = import_data(store, as_csv(tmp_path / "f.csv", few), quiet=True)
    file = made.path / "faces.npz"
    content = bytearray(file.read_bytes())
    content[2000] ^= 1
    file.write_bytes(content)
    with pytest.raises(StoreError, match="not what was written"):
        load_faces(made)


# -- the real set ---------------------------------------------------------------------------------


def export_module(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("fer2013_export", folder / "export.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.real
def test_real_exports_of_every_layout_have_one_id(
    real_folder: Path, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = export_module(real_folder)
    ids = set()
    for layout, out in (("csv", "f.csv"), ("folders", "folders"), ("npz", "f.npz")):
        arguments = ["export.py", layout, str(tmp_path / out), "--rows", "300"]
        monkeypatch.setattr(sys, "argv", arguments)
        module.main()
        made = import_data(store, tmp_path / out, quiet=True)
        assert made.metrics["converted"] == 0
        ids.add(made.id)
    assert len(ids) == 1


@pytest.mark.real
@pytest.mark.slow
def test_real_csv_in_time(real_faces: FaceSet, tmp_path: Path, store: Store) -> None:
    """All 35,887 rows: at most 20 s, here as processor time, since other tests may run beside."""
    words = [str(level) for level in range(256)]
    with (tmp_path / "fer2013.csv").open("w") as file:
        file.write("emotion,pixels,Usage\n")
        for image, label, usage in zip(real_faces.images, real_faces.labels, real_faces.usage, strict=True):
            file.write(f"{label},{' '.join(map(words.__getitem__, image.tobytes()))},{OFFICIAL[usage]}\n")
    # In a process of its own, which remembers the memory of nothing else.
    program = (
        "import json, sys, time\n"
        "from ensemble_fer.data.importing import import_data\n"
        "from ensemble_fer.runtime import peak_mb\n"
        "from ensemble_fer.store import Store\n"
        "started = time.process_time()\n"
        "made = import_data(Store(sys.argv[1]), sys.argv[2], quiet=True)\n"
        "print(json.dumps([made.id, time.process_time() - started, peak_mb()]))\n"
    )
    command = [sys.executable, "-c", program, str(store.root), str(tmp_path / "fer2013.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    identity, seconds, megabytes = json.loads(done.stdout)
    made = store.by_id("data", identity)
    assert load_faces(made).fingerprint == real_faces.fingerprint
    assert made.metrics["usage"]["Training"] == [3995, 436, 4097, 7215, 4830, 3171, 4965]
    assert seconds < 20
    assert megabytes < 1000
