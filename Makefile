# deepassay: `make` lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 2
# One thread per test process: several that each take every core wait for one another.
ONE := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

.PHONY: help setup demo test test-all lint bench format lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(READY) ## make the virtual environment from the lock file

$(READY): requirements.lock setup.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("deepassay needs Python 3.11 or newer, this is %d.%d\nhint: make PYTHON=python3.12 ..." % v[:2])'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) from requirements.lock (once; about a minute, several GB with the GPU libraries of torch)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r setup.lock
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## the main job, both modalities, on the built-in corpora (about 10 minutes on 2 cores)
	@$(BIN)/deepassay demo

test: $(READY) lint ## lint, types, import contracts, tests and notebooks
	@$(ONE) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not full" tests
	@$(ONE) $(BIN)/python -m pytest -n $(JOBS) --nbmake --nbmake-timeout=300 -p no:cacheprovider notebooks

test-all: $(READY) lint ## everything `make test` does, plus the whole catalogue and the long tests
	@$(ONE) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal tests
	@$(ONE) $(BIN)/python -m pytest -n $(JOBS) --nbmake --nbmake-timeout=600 -p no:cacheprovider notebooks

lint: $(READY) ## ruff, pyright and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@$(BIN)/lint-imports

format: $(READY) ## format and mend what can be mended by itself
	@$(BIN)/ruff check --fix-only -q .
	@$(BIN)/ruff format .

bench: $(READY) ## the benchmarks, side by side with what one would use otherwise
	@for script in scripts/benchmark_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

lock: $(READY) ## write the lock files anew from pyproject.toml
	@$(BIN)/uv pip compile pyproject.toml --extra train --extra serve --extra cluster --extra marks --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate -q -o requirements.lock
	@echo 'uv' | $(BIN)/uv pip compile - --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate -q -o setup.lock

clean: ## remove the virtual environment and caches (runs stay)
	@rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis
