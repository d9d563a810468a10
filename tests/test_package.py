"""The package as a whole: lint, format, types, layering, what importing costs, and pages made from the program."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ensemble_fer
from ensemble_fer import api
from ensemble_fer.cli import reference

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "ensemble_fer").rglob("*.py"))
HEAVY = ("torch", "timm", "pandas", "sklearn", "imblearn", "scipy", "matplotlib", "PIL", "onnxruntime", "numpy", "rich")

UNPICKLE = ("pickle", "_pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal")


def tool(name: str) -> str:
    """A development tool beside this Python, or skip."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; pip install -e '.[dev]'")
    return found


def passes(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def test_lint() -> None:
    passes(tool("ruff"), "check", "--no-cache", ".")


def test_format() -> None:
    passes(tool("ruff"), "format", "--no-cache", "--check", ".")


def test_types() -> None:
    passes(tool("pyright"), "--pythonpath", sys.executable)


def test_layering() -> None:
    passes(tool("lint-imports"), "--no-cache", "--no-logo")


def cpu_seconds(*arguments: str) -> float:
    """Processor time, user and system, of this Python with these arguments: the least of three runs."""
    took = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
        after = os.times()
        took.append(after.children_user - before.children_user + after.children_system - before.children_system)
    return min(took)


def test_help_is_quick() -> None:
    # 0.5 s are promised. On a machine so slow or busy that numpy alone takes 0.25 s, twice numpy.
    allowed = max(0.5, 2 * cpu_seconds("-c", "import numpy"))
    assert cpu_seconds("-m", "ensemble_fer", "--help") < allowed


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["data", "import", "--help"], ["runs"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = f"""
import json, sys
from ensemble_fer.cli import main
sys.argv = ["ensemble-fer", *{arguments!r}]
try:
    main()
except SystemExit:
    pass
print("\\n" + json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert "typer" in loaded
    assert loaded.isdisjoint(HEAVY), loaded & set(HEAVY)
    assert "Usage: ensemble-fer" in done.stdout + done.stderr


def test_what_is_imported_is_declared() -> None:
    """Not only what some other package brings along; extras in functions only. The benchmarks compare with more."""
    called = {
        "PIL": "pillow",
        "sklearn": "scikit-learn",
        "imblearn": "imbalanced-learn",
        "cv2": "opencv-python-headless",
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=]", line)[0] for line in project["dependencies"]}
    optional = [line for extra, lines in project["optional-dependencies"].items() if extra != "dev" for line in lines]
    extras = {re.split(r"[<>=]", line)[0] for line in optional}
    lines = (ROOT / "constraints.txt").read_text().lower().splitlines()
    pinned = {line.split("==")[0] for line in lines if "==" in line}
    assert names | extras <= pinned, (names | extras) - pinned
    for path in SOURCES:
        if "benchmarks" in path.parts:
            continue
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            known = names if node in tree.body else names | extras
            imported = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for top in {name.partition(".")[0] for name in imported} - sys.stdlib_module_names - {"ensemble_fer"}:
                assert called.get(top, top) in known, f"{path.relative_to(ROOT)} imports {top}"


def test_importing_the_package_is_cheap() -> None:
    script = f"import sys, ensemble_fer, ensemble_fer.api; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_predict_does_not_import_torch() -> None:
    script = "import sys, ensemble_fer.app.prediction; print([m for m in sys.modules if m == 'torch'])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def unpickling(source: str) -> list[str]:
    """What in a source may unpickle: imports, ``allow_pickle`` that is not False, ``torch.load`` under any name."""
    found, tree = [], ast.parse(source)
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    real = {alias.asname: alias.name for node in imported for alias in node.names if alias.asname}
    for node in ast.walk(tree):
        where = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            found += [f"{where} imports {n}" for n in names if n.partition(".")[0] in UNPICKLE]
            if isinstance(node, ast.ImportFrom) and node.module in ("torch", "torch.serialization", "numpy"):
                found += [
                    f"{where} takes {node.module}.load by itself" for n in names if n in ("load", "serialization")
                ]
        if isinstance(node, ast.Constant) and node.value in UNPICKLE:
            found.append(f"{where} names {node.value}, as if to import it")
        if isinstance(node, ast.Call):
            keys = {k.arg: k.value for k in node.keywords}
            if "allow_pickle" in keys and ast.unparse(keys["allow_pickle"]) != "False":
                found.append(f"{where} may allow pickle")
            first, _, rest = ast.unparse(node.func).partition(".")
            called = f"{real.get(first, first)}.{rest}"
            if called.endswith(("np.load", "numpy.load")) and len(node.args) > 1:
                found.append(f"{where} {called} with more than a file by place, of which one may allow pickle")
            if called.endswith("CmaEsSampler") or "JournalStorage" in called:
                found.append(f"{where} {called}, which unpickles what a study's database holds")
            only = keys.get("weights_only")
            if called in ("torch.load", "torch.serialization.load") and ast.unparse(only or ast.Constant(0)) != "True":
                found.append(f"{where} {called} without weights_only=True")
    return found


def test_no_file_unpickles() -> None:
    found = {str(path.relative_to(ROOT)): unpickling(path.read_text()) for path in SOURCES}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "import pickle as p", "from joblib import load", "import marshal", "__import__('dill')",
        "import torch\ntorch.load(f)", "import torch as t\nt.load(f)", "import torch.serialization as s\ns.load(f)",
        "import torch\ntorch.load(f, weights_only=flag)", "from torch import load", "from torch import serialization",
        "import numpy as np\nnp.load(f, allow_pickle=True)", "import numpy as np\nnp.load(f, allow_pickle=flag)",
        "import numpy as n\nn.load(f, None, True)", "optuna.storages.JournalStorage(x)",
    ],
)  # fmt: skip
def test_what_unpickles_is_found(source: str) -> None:
    assert unpickling(source)


def test_every_exported_name_is_there() -> None:
    typed = {
        alias.asname or alias.name
        for node in ast.walk(ast.parse((ROOT / "ensemble_fer/api.py").read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ensemble_fer.")
        for alias in node.names
    }
    assert typed == set(api._HOME), "the names for type checkers and those at run time differ"
    for name in api._HOME:
        assert getattr(api, name).__doc__ or name.isupper(), name
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = api.trian  # type: ignore[attr-defined]


def test_every_module_imports() -> None:
    for path in SOURCES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        importlib.import_module(name)


def test_command_page_is_what_the_program_says() -> None:
    assert (ROOT / "docs/cli.md").read_text(encoding="utf-8") == reference.page(), "run: make docs"


@pytest.mark.parametrize(("name", "command"), list(reference.commands()), ids=lambda v: v if isinstance(v, str) else "")
def test_every_command_says_what_it_does_with_an_example(name: str, command) -> None:
    assert command.help, name
    assert re.match(rf"Example:  ensemble-fer {name}( |$)", command.epilog or ""), f"{name}: {command.epilog!r}"
    for parameter in command.params:
        assert parameter.help, f"{name}: {parameter.name} has no help"
    options = {o for p in command.params for o in p.opts}
    if not name.startswith("config"):
        assert "--store" in options, name
    if name != "data show":
        assert "--json" in options, name


def test_documents_name_only_what_is_there() -> None:
    """Links to files resolve, and every `ensemble-fer …` line in a code block is a command with known options."""
    known = {name: {o for p in c.params for o in (*p.opts, *p.secondary_opts)} for name, c in reference.commands()}
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
        for line in re.findall(r"^\s*(?:\$ )?ensemble-fer +(.+)$", text, re.MULTILINE):
            words = re.split(r"[|#>&;]", line)[0].split()
            name = next((n for n in (" ".join(words[:2]), words[0]) if n in known), None)
            assert name is not None or words[0].startswith("-") or words[0] == "…", f"{page.name}: {line}"
            options = {w.split("=")[0] for w in words if w.startswith("--")} - {"--help"}
            if name is not None:
                assert options <= known[name], f"{page.name}: {line} has {options - known[name]}"


def test_version_is_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", ensemble_fer.__version__)
