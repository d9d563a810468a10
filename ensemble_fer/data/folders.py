"""Image folders: ``train|test/<class>/picture``, or ``<class>/picture`` alone.

The official usage is in the file names of Kaggle's folders (``PublicTest_123.png``) and wins over the folder,
which knows only train and test.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ensemble_fer.data.labels import class_advice, class_code, eighth_class, folder_usage, usage_code
from ensemble_fer.data.readers import BadPicture, Rows, count_left_out, picture_limits, read_picture
from ensemble_fer.errors import BadData
from ensemble_fer.runtime import tracked
from ensemble_fer.types import CLASSES, OFFICIAL

PICTURES = {
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp"),
    *(".pgm", ".ppm", ".pbm", ".pnm"),
}
RUBBISH = {"thumbs.db", "desktop.ini", "__macosx"}
_NUMBERED = tuple((str(code), name) for code, name in enumerate(CLASSES))
_OFFICIAL = re.compile(rf"({'|'.join(OFFICIAL)})[_-](\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """One file that should be a face."""

    path: Path
    label: int
    usage: int
    order: tuple


@dataclass
class BadFiles:
    """What is no face: a line each, and the usages of the rows that are lost with it.

    ``dropped`` counts the pictures of classes beside the seven, which are no mistake.
    """

    root: Path
    problems: list[str] = field(default_factory=list)
    usages: list[int | None] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def add(self, path: Path, reason: str, usages: Sequence[int | None]) -> None:
        self.problems.append(f"{path.relative_to(self.root)}: {reason}")
        self.usages.extend(usages)


def read_folders(root: Path, *, quiet: bool = False) -> Rows:
    """Read and check every picture below a folder.

    Parameters
    ----------
    root : Path
        Holds ``train``, ``validation`` and ``test`` (any of them, in any usual spelling) with a folder a class,
        or the class folders themselves; all is Training then. A single folder in between is passed through.
    quiet : bool
        No progress bar.

    Returns
    -------
    Rows
        Ordered by usage, then by the number in official file names, then by path, so that an exported csv
        comes back in its own order. Bad files are named in ``problems`` by their path. Files whose suffix is no
        picture's are passed over, and ``notes`` says how many.

    Raises
    ------
    BadData
        There is no class folder at all.
    """
    top = _descend(root)
    bad = BadFiles(root)
    notes: list[str] = []
    found: list[Found] = []
    strays: list[str] = []
    split_here = any(folder_usage(p.name) is not None for p in _entries(top) if p.is_dir())
    for part in _entries(top):
        usage = folder_usage(part.name) if split_here else 0
        if not part.is_dir():
            _stray(part, None, bad, strays)
        elif part.is_symlink():
            bad.add(part, "a link to a folder; give the folder itself", [usage])
        elif usage is None:
            inside = [_usage_of(file, None) for file in _files(part) if file.suffix.lower() in PICTURES]
            bad.add(part, "beside train and test; expected train, validation or test", inside)
        else:
            for folder in _entries(part) if split_here else [part]:
                _class_folder(folder, usage, found, bad, strays)
    if not found and not bad.problems and not bad.dropped:
        expected = "expected train/<class>/… and test/<class>/…, or <class>/…"
        raise BadData(str(root), [f"no pictures in class folders; {expected}"])
    if not split_here:
        notes.append("no train or test folder: rows without an official usage in their file name are Training")
    if strays:
        notes.append(f"{len(strays)} other files passed over: {', '.join(strays[:3])}{' …' if len(strays) > 3 else ''}")
    if any(part.strip().isdigit() for part in {one.path.relative_to(top).parts[split_here] for one in found}):
        notes.append(f"class folders are numbers, taken as FER2013's: {', '.join(map(' '.join, _NUMBERED))}")
    found.sort(key=lambda one: one.order)
    images, labels, usages, converted = [], [], [], 0
    with picture_limits():
        for one in tracked(found, len(found), "reading faces", quiet=quiet):
            try:
                face = read_picture(one.path)
            except (BadPicture, OSError) as reason:
                bad.add(one.path, str(reason), [one.usage])
                continue
            images.append(face.pixels)
            labels.append(one.label)
            usages.append(one.usage)
            converted += face.converted
    for code, role in ((1, "selects"), (2, "tests")):
        if split_here and code not in usages:
            lacks = f"the official split has no part that {role}; use a stratified split"
            notes.append(f"no {OFFICIAL[code]} rows: {lacks}")
    out = count_left_out(bad.usages)
    return Rows.of(
        "folders",
        images,
        labels,
        usages,
        problems=bad.problems,
        left_out=out,
        converted=converted,
        dropped=dict(bad.dropped),
        notes=notes,
    )


def _descend(root: Path) -> Path:
    """Past folders that hold nothing but one folder (``archive/images/train``)."""
    while True:
        inside = list(_entries(root))
        folders = [p for p in inside if p.is_dir() and not p.is_symlink()]
        if len(folders) != 1 or any(p.suffix.lower() in PICTURES for p in inside):
            return root
        name = folders[0].name
        if class_code(name) is not None or folder_usage(name) is not None or eighth_class(name):
            return root
        if not any(p.is_dir() for p in _entries(folders[0])):
            return root  # a class folder that is misspelt: let it be named
        root = folders[0]


def _entries(folder: Path) -> Iterator[Path]:
    """What lies in a folder by name, without hidden files and system rubbish."""
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") and path.name.casefold() not in RUBBISH:
            yield path


def _class_folder(folder: Path, usage: int, found: list[Found], bad: BadFiles, strays: list[str]) -> None:
    if not folder.is_dir():
        _stray(folder, usage, bad, strays)
        return
    if folder.is_symlink():
        bad.add(folder, "a link to a folder; give the folder itself", [usage])
        return
    files = []
    for path in sorted(_files(folder)):
        if path.suffix.lower() in PICTURES:
            files.append(path)
        else:
            strays.append(str(path.relative_to(bad.root)))
    label = class_code(folder.name)
    other = eighth_class(folder.name)
    if label is None and other:
        bad.dropped[other] += len(files)
        return
    if label is None:
        if files:
            reason = f"folder of {len(files):,} pictures: {class_advice(folder.name)}"
            bad.add(folder, reason, [_usage_of(path, usage) for path in files])
        return
    base = bad.root.resolve()
    for path in files:
        code = _usage_of(path, usage)
        assert code is not None
        if path.is_symlink() and not path.resolve().is_relative_to(base):
            bad.add(path, f"a link that leads outside of {bad.root}", [code])
            continue
        official = _OFFICIAL.match(path.name)
        number = int(official[2]) if official else 0
        order = (code, official is None, number, [_natural(part) for part in path.relative_to(bad.root).parts])
        found.append(Found(path, label, code, order))


def _files(folder: Path) -> Iterator[Path]:
    for below, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".") and f.casefold() not in RUBBISH]
        yield from (Path(below) / f for f in files if not f.startswith(".") and f.casefold() not in RUBBISH)


def _usage_of(path: Path, usage: int | None) -> int | None:
    """The usage that the file name says, else that of its folder."""
    official = _OFFICIAL.match(path.name)
    return usage_code(official[1]) if official else usage


def _stray(path: Path, usage: int | None, bad: BadFiles, strays: list[str]) -> None:
    """A file outside the class folders: a picture there has no label, anything else is passed over."""
    if path.suffix.lower() in PICTURES:
        bad.add(path, "a picture outside a class folder has no label", [_usage_of(path, usage)])
    else:
        strays.append(str(path.relative_to(bad.root)))


def _natural(text: str) -> list[tuple[int, str]]:
    """Sorts im2 before im10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]{1,18})", text)]
