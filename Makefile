# Needs Python 3.11 or newer, make and a package index. Everything is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES := $(shell $(PYTHON) -c 'import os; print(os.cpu_count())')
# One more than there are cores: tests of the running product wait for it much of the time.
WORKERS := $(shell expr $(CORES) + 1)
# Tests that need no database, browser or training.
PURE := $(addprefix boursomatic_assets_tests/,core alerts/test_messages.py automation/test_decisions.py)
# Every test process, and every command that tests start, would compile the package anew.
check test: export PYTHONDONTWRITEBYTECODE :=
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help materialize dev check test bench clean

help: ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

materialize: $(VENV)/installed ## install, run the whole graph on the bundled prices, print the result (ARGS="--help")
	@$(BIN)/boursomatic materialize $(ARGS)

dev: $(VENV)/installed ## open the Dagster UI with its daemon on http://127.0.0.1:3000
	@$(BIN)/boursomatic dev $(ARGS)

check: $(VENV)/installed-test ## format, lint, types, import contracts and the tests of pure code, in a minute or two
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	HYPOTHESIS_PROFILE=quick $(BIN)/python -m pytest --quiet --numprocesses $(CORES) -m "not slow" $(PURE) $(ARGS)

test: $(VENV)/installed-test ## install what tests need and run what CI runs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	DAGSTER_DISABLE_TELEMETRY=1 $(BIN)/dagster definitions validate --log-level warning -m boursomatic_assets.definitions
	$(BIN)/python -m pytest --cov --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

bench: $(VENV)/installed ## measure every stage (ARGS="--provider files --path prices.parquet")
	@$(BIN)/boursomatic bench $(ARGS)

clean: ## remove the virtual environment and caches; data in BOURSOMATIC_HOME stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing into $(VENV) ..."
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing into $(VENV), with what the tests need ..."
	@$(INSTALL) --editable ".[test]"
	@touch $(VENV)/installed $@
