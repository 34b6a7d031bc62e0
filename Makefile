# Everything a fresh machine needs is made here: Python 3.11, make and git suffice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test test-all check format bench clean
.DEFAULT_GOAL := run

run: $(VENV)/.runtime  ## play the default benchmark, print the board, name the page
	$(BIN)/mergearena run

test: $(VENV)/.dev  ## everything but the slow tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-all: $(VENV)/.dev  ## the slow tests too: trainings and whole runs
	$(BIN)/python -m pytest -m ""

check: $(VENV)/.dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## speed, side by side in one run
	$(BIN)/python -m pytest -o addopts= --benchmark-only --benchmark-columns=min,median,rounds tests/benchmarks

clean:
	rm -rf $(VENV) build *.egg-info runs

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "MergeArena needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

# torch before the rest: with it in place nothing pulls another build of it.
$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) torch
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) --editable '.[dev,zoo]'
	@touch $@
