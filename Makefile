# What can be done here; `make` alone lists it. Every target sets up what it needs, at no cost the second time.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The interpreter to build .venv with, e.g. make setup PYTHON=python3.12. Empty: keep .venv, or the first that fits.
PYTHON ?=
# How many tests run side by side; files stay whole. More than the cores of a small machine: many tests wait, for a
# reader, a disk, another process.
JOBS ?= 3
# Passed on to pytest, e.g. make test PYTEST_ARGS="-k journal -x"
PYTEST_ARGS ?=
# Passed on to the demo, e.g. make demo DEMO_ARGS=--json
DEMO_ARGS ?=

BIN := .venv/bin

# Also where the environment says to keep no bytecode: every program that a test starts would be compiled anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup setup-tests demo test sweeps check format mutants bench pictures words reference openapi pins clean

help: ## lists the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## makes .venv with the pinned packages, installs missing system packages
	@scripts/setup.sh "$(PYTHON)"

setup-tests:
	@scripts/setup.sh --tests "$(PYTHON)"

demo: setup ## runs the main job end to end and tells the story of it
	@$(BIN)/hardwallet demo $(DEMO_ARGS)

test: setup-tests ## runs every test that this machine can run
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(PYTEST_ARGS)

sweeps: setup-tests ## runs the sweeps of which `make test` takes a sample (long)
	HARDWALLET_LONG=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m long $(PYTEST_ARGS)

check: setup ## lint, formatting, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## formats the source and mends what lint can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

mutants: setup-tests ## breaks the money rules one by one; the tests have to notice each (long)
	HARDWALLET_MUTANTS=all $(BIN)/python -m pytest -n $(JOBS) tests/test_mutants.py

bench: setup ## runs the benchmarks, prints the table, writes bench.json
	$(BIN)/python -m benchmarks

pictures: setup ## draws README's pictures of the screens from the running programs
	$(BIN)/python -m scripts.pictures

words: setup ## brings the catalogues up to date with the source, then says what lacks a translation
	$(BIN)/python -m scripts.words update
	$(BIN)/python -m scripts.words check

reference: setup ## builds the API reference, build/reference/index.html; needs no network
	$(BIN)/python -m scripts.reference

openapi: setup ## writes docs/openapi.json, the description of clearing's HTTP surface
	$(BIN)/python -m offline_sync.clearing.description docs/openapi.json

pins: ## pins the newest versions that pyproject.toml allows (needs the network)
	scripts/pin.sh

clean: ## removes .venv, caches and what the benchmarks wrote
	rm -rf .venv .setup.lock build dist *.egg-info bench.json .coverage
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
