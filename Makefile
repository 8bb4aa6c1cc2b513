# make test: everything CI runs. make help lists the rest.
SHELL := /bin/bash
BIN := .venv/bin
# Two processes, each with whole files, so that a file's fixtures are made once; one test at a time: WORKERS=0.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile --durations=10

.PHONY: help install lint test test-fast test-unit test-distributed test-slow docs lock gpu-check quickstart

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

install: ## virtual environment .venv with the pinned packages
	@tools/setup_environment.sh

lint: install ## ruff (format, lint), pyright, shellcheck
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/shellcheck --severity=warning tools/*.sh examples/*.sh examples/*/*.sh .ci/run

test-fast: install ## within minutes: every test that is not marked slow
	$(PYTEST) -m "not slow" tests

test-unit: install ## fast tests, no process groups
	$(PYTEST) tests/unit

test-distributed: install ## several processes over gloo, golden losses
	$(PYTEST) tests/distributed

test-slow: install ## end to end: nano chain, vLLM, bad input, Slurm where it is installed
	$(PYTEST) tests/integration

test: lint ## lint, then every test in one session, the longest files first
	$(PYTEST) tests/unit tests/distributed tests/integration

docs: install ## the documentation site, in site/; any warning fails
	$(BIN)/python -m pip install --quiet --upgrade --no-deps --target build/docs -r requirements/docs.txt
	PYTHONPATH=build/docs $(BIN)/python -m mkdocs build --strict

gpu-check: $(if $(PYTHON),,install) ## on a GPU machine: what of the GPU parts works there (PYTHON=... for the image's own)
	$(or $(PYTHON),$(BIN)/python) tools/gpu_check.py

quickstart: ## train, export, serve and evaluate MiMo-nano on this machine
	examples/nano/quickstart.sh

lock: install ## resolve requirements/cpu.txt anew from cpu.in (requirements/README.md)
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --override requirements/cpu-overrides.txt --no-header \
	  --no-annotate -c requirements/cpu.txt requirements/cpu.in > requirements/cpu.lock.tmp
	(echo "# Resolved from cpu.in by 'make lock'; install with --no-deps."; \
	  grep -v "sys_platform == 'never'" requirements/cpu.lock.tmp) > requirements/cpu.txt
	rm requirements/cpu.lock.tmp
