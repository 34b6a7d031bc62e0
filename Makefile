# Everything a fresh machine needs is made here: Python 3.11, make and git suffice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LINKS := .links/mergearena/.made
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test test-all check format bench docs clean
.DEFAULT_GOAL := run

run: $(VENV)/.runtime  ## play the default benchmark, print the board, name the page
	$(BIN)/mergearena run

test: $(VENV)/.dev  ## everything but the slow tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-all: $(VENV)/.dev  ## the slow tests too: trainings and whole runs
	$(BIN)/python -m pytest -m ""

check: $(VENV)/.dev $(LINKS)  ## ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd .links && ../$(BIN)/lint-imports ../pyproject.toml --no-logo --no-cache

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## speed, side by side in one run
	$(BIN)/python -m pytest -o addopts= --benchmark-only --benchmark-columns=min,median,rounds tests/benchmarks

docs: $(VENV)/.docs  ## write docs/methods.md anew, and the site into build/site
	$(BIN)/python docs/generate/methods.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# mypy and import-linter do not follow the import hook of an editable installation: links show them the one package.
$(LINKS): $(wildcard mergearena/*)
	mkdir -p $(@D)
	ln -sfn $(addprefix ../../,$(wildcard mergearena/*)) $(addprefix ../../,attacks bench defenses leaderboard) $(@D)
	@touch $@

clean:
	rm -rf $(VENV) .links build *.egg-info runs

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "MergeArena needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

# torch before the rest: with it in place nothing pulls another build of it.
$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) torch
	$(PIP) --editable .
	@touch $@

$(VENV)/.docs: $(VENV)/.runtime
	$(PIP) --editable '.[docs]'
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) --editable '.[dev,zoo]'
	@touch $@
