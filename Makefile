# `make demo` and `make test` do everything from a fresh checkout; only python3 (3.11 or later) is needed.
PYTHON ?= python3
VENV ?= .venv
PINS ?= constraints.txt
BIN := $(VENV)/bin
# Written last, so that an interrupted set-up is done again.
READY := $(VENV)/ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-lowest test-offline trust fuzz audit lint docs bench-resample bench-train bench-members bench-using bench-scaling released results clean

help:
	@echo "make demo    the whole path on synthetic faces, in minutes (sets up .venv first)"
	@echo "make test    lint, format, types, layering and all tests"
	@echo "make test-lowest  the same with the lowest versions of all libraries, in an environment of its own"
	@echo "make test-offline  the tests without a network; set up before"
	@echo "make trust   hostile files, flipped bits, random numbers: all cases; goes on where it was"
	@echo "make fuzz    a coverage-guided fuzzer on each reader, SECONDS=60 each"
	@echo "make audit   known holes in the pinned versions, from PyPI's database"
	@echo "make setup   .venv with this package and all it needs"
	@echo "make lint    only lint, format, types and layering"
	@echo "make docs    docs/cli.md from the program"
	@echo "make bench-resample  resampling beside imbalanced-learn; needs an idle machine and an hour"
	@echo "make bench-train     training beside the published pipeline; needs an idle machine and ten minutes"
	@echo "make bench-members   every member for the same small budget on FER2013; three hours, goes on where it was"
	@echo "make bench-using     graphs in five forms, photographs, a video; needs an idle machine and ten minutes"
	@echo "make bench-scaling   more processes for one training, for several, on one store; idle, five minutes"
	@echo "make released        the shipped ensemble from its recipes; hours, goes on where it was"
	@echo "make results         the tables and pages of docs/results from the logits that were kept"
	@echo "make clean   remove .venv and caches; artifacts/ stays"

setup: $(READY)

$(READY): pyproject.toml $(PINS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $(PYTHON) is `$(PYTHON) --version 2>&1`; Python 3.11 or later is needed."; \
	  echo "Say which one to use:  make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 3; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: $(PYTHON) has no venv module. On Debian or Ubuntu:  apt-get install python3-venv"; exit 3; }
	@rm -f $(READY)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c $(PINS) -e '.[dev]'
	@# On all cores, and without the libraries' own tests: pip takes a minute and a half for 300 MB of sources.
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests/' $(VENV)/lib || true
	@touch $(READY)

demo: $(READY)
	$(BIN)/ensemble-fer demo --store artifacts/demo

# Lint, format, types and layering are tests too: tests/test_package.py.
test: $(READY)
	$(BIN)/python -m pytest

# With the lowest versions that pyproject.toml allows; of another Python:  make test VENV=.venv-312 PYTHON=python3.12
test-lowest: build/lowest.txt
	$(MAKE) setup VENV=.venv-lowest PINS=build/lowest.txt
	@# Old libraries say other types of themselves; ours are checked against the pinned ones.
	.venv-lowest/bin/python -m pytest --deselect tests/test_package.py::test_types

build/lowest.txt: pyproject.toml tests/floors.py
	@mkdir -p build
	$(PYTHON) -m tests.floors > $@

# All tests where there is no network but this machine's own loopback (Linux, where users may make name spaces).
test-offline: $(READY)
	unshare --map-root-user --net sh -c "ip link set lo up && exec $(BIN)/python -m pytest"

# All cases of tests/trust, of which `make test` does a few; notes under build/trust where it is, and goes on from there.
trust: $(READY)
	ENSEMBLE_FER_TRUST=all $(BIN)/python -m pytest tests/trust

# Asks PyPI for known holes in the pinned versions; pip-audit stays in a folder of its own.
audit:
	@$(PYTHON) -m venv build/audit && build/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	build/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

# A coverage-guided fuzzer on each reader; goes on from what it has found before, under build/fuzz.
SECONDS ?= 60
fuzz: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check atheris
	for reader in csv npz predictions picture weights graph recipe study manifest; do \
	  echo "== $$reader"; $(BIN)/python -m tests.trust.fuzz $$reader --seconds $(SECONDS) || exit 1; done

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo --no-cache

docs: $(READY)
	$(BIN)/python -m ensemble_fer.cli.reference docs/cli.md

# The set must be imported: ensemble-fer data import fer2013.csv
bench-resample: $(READY)
	$(BIN)/python -m ensemble_fer.benchmarks.resampling

bench-train: $(READY)
	$(BIN)/python -m ensemble_fer.benchmarks.training

bench-members: $(READY)
	$(BIN)/python -m ensemble_fer.benchmarks.members

bench-using: $(READY)
	$(BIN)/python -m ensemble_fer.benchmarks.using

bench-scaling: $(READY)
	$(BIN)/python -m ensemble_fer.benchmarks.scaling

# The shipped ensemble from its recipes; finished members are answered from the store. LOOK=--look scores the test part.
released: $(READY)
	$(BIN)/python -m ensemble_fer.releasing $(LOOK)

# The pages of studies from the logits that were kept of them.
results: $(READY)
	@set -e; for page in first released tuning; do \
	  $(BIN)/python -m ensemble_fer.evaluate.tables docs/results/data/$$page --update docs/results/$$page.md; done
	$(BIN)/python -m ensemble_fer.study.results

clean:
	rm -rf .venv .venv-* build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
