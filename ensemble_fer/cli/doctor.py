"""``doctor`` and ``demo``: is everything here, and the whole path on synthetic faces."""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path
from typing import Any

import typer

from ensemble_fer.cli.evaluation import print_leaderboard
from ensemble_fer.cli.options import DEFAULT_STORE, JsonOption, SeedOption, StoreOption, open_store, writable
from ensemble_fer.cli.output import print_json, print_table, remark, say

CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd")


def add_to(app: typer.Typer) -> None:
    app.command("doctor", epilog="Example:  ensemble-fer doctor --json")(doctor)
    app.command("demo", epilog="Example:  ensemble-fer demo --store artifacts/demo")(demo)


def doctor(as_json: JsonOption = False, store: StoreOption = DEFAULT_STORE) -> None:
    """Say what is here and what is missing: packages, processor, GPU, data, a store to write to."""
    found = examine(store)
    if as_json:
        print_json(found)
    else:
        print_findings(found)
    if found["problems"]:
        for line in found["problems"]:
            remark(f"missing: {line}")
        raise typer.Exit(3)


def demo(
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    store: StoreOption = DEFAULT_STORE / "demo",
) -> None:
    """The whole path on synthetic faces, in minutes on two cores; says what it made and where."""
    from ensemble_fer.demo import account, run_demo

    done = run_demo(open_store(store), seed=seed, say=remark)
    if as_json:
        print_json(done)
        return
    print_leaderboard(done["leaderboard"])
    say(account(done, store))


def examine(store: Path) -> dict[str, Any]:
    """What ``doctor --json`` prints.

    Returns
    -------
    dict
        version, python, system, processor, cores, cpu_features, packages ``{name: version or None}``,
        extras ``{name: {missing, get}}``, gpu, store ``{path, writable, data}``, problems (lines that
        say what is missing and how to get it; empty if all is well).
    """
    from ensemble_fer import __version__
    from ensemble_fer.runtime import machine

    here = machine()
    packages, extras = declared_packages()
    problems = [f"package {name}. Get it:  pip install ensemble-fer" for name, v in packages.items() if v is None]
    if sys.version_info < (3, 11):  # noqa: UP036 - pip checks this too, a bare checkout does not
        problems.append(f"Python 3.11 or later; this is {platform.python_version()}")
    store_writable = writable(store)
    if not store_writable:
        problems.append(f"a store to write to: {store} is not writable. Choose another with --store")
    return {
        "version": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": here["processor"],
        "cores": here["cores"],
        "cpu_features": cpu_features(),
        "packages": packages,
        "extras": extras,
        "gpu": gpu() if packages.get("torch") else None,
        "store": {
            "path": str(store),
            "writable": store_writable,
            "data": _data_sets(store, problems) if not problems else [],
        },
        "problems": problems,
    }


def declared_packages() -> tuple[dict[str, str | None], dict[str, dict]]:
    """Versions of the packages that this one declares, and which extras are incomplete."""
    from importlib import metadata

    packages: dict[str, str | None] = {}
    extras: dict[str, dict] = {}
    try:
        declared = metadata.requires("ensemble-fer") or []
    except metadata.PackageNotFoundError:
        # A bare checkout on the path: nothing declares what it needs, so only the core is looked for.
        declared = ["numpy", "onnxruntime", "pillow", "torch", "typer"]
    for line in declared:
        matched = re.match(r"[A-Za-z0-9_.-]+", line)
        assert matched is not None
        name = matched.group()
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if extra is None:
            packages[name] = _version(name)
        elif _version(name) is None:
            entry = extras.setdefault(extra[1], {"missing": [], "get": f"pip install 'ensemble-fer[{extra[1]}]'"})
            entry["missing"].append(name)
    return dict(sorted(packages.items())), extras


def cpu_features() -> list[str]:
    """Which of the instruction sets that matter here the processor has."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return []
    return [feature for feature in CPU_FEATURES if feature in words]


def gpu() -> str | None:
    """Name of the GPU that torch can use, or None."""
    try:
        import torch

        return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    except (ImportError, OSError, RuntimeError) as error:
        return f"none: torch does not load ({error})"


def print_findings(found: dict[str, Any]) -> None:
    """The table of ``doctor``."""
    data = [f"{d['name']} ({d['rows']:,} faces)" for d in found["store"]["data"]]
    rows = [
        ["ensemble-fer", found["version"]],
        ["Python", f"{found['python']} on {found['system']}"],
        ["processor", f"{found['processor']}, {found['cores']} cores"],
        ["instructions", " ".join(found["cpu_features"]) or "unknown"],
        ["GPU", found["gpu"] or "none that torch can use"],
        ["store", f"{found['store']['path']}{'' if found['store']['writable'] else ', not writable'}"],
        ["data", ", ".join(data) or "none yet. Import:  ensemble-fer data import fer2013.csv"],
    ]
    rows += [
        [f"extra {name}", f"lacks {', '.join(e['missing'])}. Get it:  {e['get']}"]
        for name, e in found["extras"].items()
    ]
    rows += [[name, version or "MISSING"] for name, version in found["packages"].items()]
    print_table("", ["what", "found"], rows)


def _version(name: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _data_sets(store: Path, problems: list[str]) -> list[dict]:
    """Name, id and rows of each set; what a name means and is gone or damaged is one problem more."""
    from ensemble_fer.errors import EnsembleFerError

    opened, found = open_store(store), []
    for name in opened.refs("data"):
        try:
            made = opened.get("data", name)
        except EnsembleFerError as error:
            problems.append(str(error))
            continue
        found.append({"name": name, "id": made.id, "rows": made.metrics.get("rows", 0)})
    return found
