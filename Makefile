.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 4
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
WITH_ELASTICSEARCH := $(BIN)/python scripts/with_elasticsearch.py
WITH_BOTH := $(WITH_ELASTICSEARCH) $(BIN)/python scripts/with_mongodb.py
SEED ?= $(shell date +%s)
MINUTES ?= 5
MARKED ?= elasticsearch
FAULTS ?=

.PHONY: help up demo install lint test test-cluster test-real test-compose test-long torture mutations screenshots bench bench-write bench-rebuild clean

help: ## Show these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/bank: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[embedded,dev]'
	@touch $@

install: $(BIN)/bank ## Make the virtual environment and install the bank into it

up: install ## Run the whole bank in this terminal
	$(BIN)/bank up

demo: install ## Run the bank on a scratch folder with load, then check every invariant
	$(BIN)/bank demo

lint: install ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

test: install lint ## Run all tests on the embedded servers
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not cluster"

test-cluster: install ## Run what needs clusters of servers, which are started on loopback
	$(BIN)/pytest -n 2 --dist worksteal -m cluster

test-real: install ## Run what touches Elasticsearch on the real one (needs Java 17 and Maven)
	$(WITH_ELASTICSEARCH) --nodes 3 $(BIN)/pytest -n 3 --dist worksteal -m "$(MARKED)"

test-compose: install ## Run the README's lines for Compose, on a daemon of its own where none answers
	$(BIN)/python scripts/with_docker.py $(BIN)/python -m tests.compose

test-long: install ## Run every test with the full number of rounds
	BANK_TEST_LONG=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal --timeout 3600

torture: install ## Run the bank under seeded faults and judge it: SEED=7 MINUTES=5 FAULTS=kill-worker,flushall CLUSTER=1 APPLICATION=parcels
	PYTHONPATH=examples/parcels $(BIN)/python -m tests.torture --seed $(SEED) --minutes $(MINUTES) --faults "$(FAULTS)" $(if $(CLUSTER),--cluster) $(if $(APPLICATION),--application $(APPLICATION))

mutations: install ## See that torture catches mutations of the bank; takes half an hour
	$(BIN)/python -m tests.torture.mutations

screenshots: install ## Take the pictures of the operator's page in docs/images; needs Chromium
	$(BIN)/python scripts/screenshots.py

# FastStream is only compared with; where it can't be had, its figures are left out.
bench: install ## Measure all and write docs/performance.md; QUICK=1, REAL=1, MEASURES="a c", BESIDE=../before
	@$(BIN)/python -c 'import faststream' 2>/dev/null || \
		$(INSTALL) --editable '.[bench]' || \
		echo 'FastStream could not be installed: it is left out'
	$(if $(REAL),$(WITH_BOTH)) $(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(if $(REAL),--real) $(if $(BESIDE),--beside $(BESIDE)) $(MEASURES)

bench-write: install ## Measure how fast commands are executed, beside bare inserts
	$(BIN)/python -m benchmarks a --show

bench-rebuild: install ## Measure how fast a rebuild replays, and live traffic beside it
	$(BIN)/python -m benchmarks d --show

clean: ## Remove what was built; keeps .bank/
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
