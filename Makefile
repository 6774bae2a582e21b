# The course's commands. Everything happens in .venv, which is made once and remade when the requirements change.
#   make lab       open the course in JupyterLab        LAB_ARGS="--no-browser --port=9000" is handed on
#   make test      run the test suite: units, every notebook, the browser
#   make deep      run what takes long: stored figures trained anew, runs killed again and again
#   make lint      ruff on code and notebooks, mypy on the library
#   make lesson    store one lesson, try it, photograph its page: make lesson L=09
#   make notebooks run every notebook and store it in canonical form
#   make pages     export every lesson as a page that needs neither kernel nor network, into build/pages
#   make mutants   break the library formula by formula, by hand and by a draw; the tests must notice each time
#   make bench     measure speed against diffusers, as ratios; nothing else should run meanwhile
#   make lowest    run the tests once more with the lowest versions that requirements.txt and pyproject.toml declare
# PYTHON=python3.12 picks the interpreter; TORCH_INDEX=<URL of PyTorch's CPU wheels> keeps CUDA away on Linux.

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
LAB_ARGS ?=

BIN := $(VENV)/bin
TORCH := $(shell sed -n 's/^\(torch[^_a-z].*\)/\1/p' requirements.txt)
FIRST := $(firstword $(wildcard notebooks/00_*.ipynb) notebooks)
NEWS := @jupyterlab/apputils-extension:announcements
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help lab test deep lint lesson notebooks pages mutants bench lowest
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' Makefile

# Stamps: the runtime for `make lab`, the test extra on top for the rest. A second call installs nothing.
$(VENV)/.runtime: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") "$(TORCH)"
	$(BIN)/python -m pip install --quiet -r requirements.txt -e .
	$(BIN)/jupyter labextension disable --level=sys_prefix "$(NEWS)"
	$(BIN)/python -m diffusion_lib.teaching.server
	@touch $@

$(VENV)/.tests: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet -e ".[test]"
	@touch $@

lab: $(VENV)/.runtime
	@find notebooks -name '*.ipynb' -not -path '*/.ipynb_checkpoints/*' -exec $(BIN)/jupyter trust {} +
	$(BIN)/jupyter lab --ip=127.0.0.1 --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/$(FIRST) $(LAB_ARGS)

test: $(VENV)/.tests
	$(BIN)/python tools/suite.py

deep: $(VENV)/.tests
	$(BIN)/python tools/suite.py deep

lint: $(VENV)/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lesson: $(VENV)/.tests
	$(BIN)/python tools/lesson.py $(L)

notebooks: $(VENV)/.tests
	$(BIN)/python tools/notebooks.py store

pages: $(VENV)/.tests
	$(BIN)/python tools/pages.py

mutants: $(VENV)/.tests
	$(BIN)/python tools/mutants.py

bench: $(VENV)/.tests
	$(BIN)/python benchmarks/speed.py --write

lowest: $(VENV)/.tests
	$(BIN)/python tools/lowest.py
