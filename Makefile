# Everything a developer or CI runs. Needs Python 3.11 or newer (with venv), make and git; the rest is installed
# into .venv from hashed requirements. `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:

VENV ?= .venv
VENV_TRITON ?= .venv-triton
VENV_FUZZ ?= .venv-fuzz
BIN := $(VENV)/bin
# More arguments for pytest, the demo or a benchmark: make test ARGS='-k rollback -x'
ARGS ?=
# Tests that run beside each other: most of them wait for something.
WORKERS ?= 3
IMAGE ?= model-sidecar:dev

# From 1.29 on, onnxruntime reports to its vendor over the network, and leaves files in $HOME, unless told not to
# before it is imported. The sidecar tells it so itself; this is for tests and benchmarks that import it first.
export ORT_DISABLE_TELEMETRY := 1

# The first Python on PATH that is new enough; PYTHON=… names another.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
	"$$p" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)

# Hashed or local, never resolved: an installation is the one that was tested. Quiet but for errors.
PIP := -m pip --disable-pip-version-check install -qq
DISTRIBUTIONS := client/pyproject.toml sidecar/pyproject.toml

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ---------------------------------------------------------------------------------------------- environments
.PHONY: venv venv-triton
venv: $(VENV)/.installed ## set up .venv (the other targets do so themselves)
venv-triton: $(VENV_TRITON)/.installed ## set up .venv-triton, where tritonclient finds its protobuf 6

define require_python
	@test -n '$(PYTHON)' || { echo 'make: no Python 3.11 or newer with venv on PATH (name one with PYTHON=…)' >&2; exit 1; }
endef

$(VENV)/.installed: requirements/dev.txt requirements/models.txt $(DISTRIBUTIONS)
	$(require_python)
	@echo 'Setting up $(VENV) with $(PYTHON): a minute or two, once'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python $(PIP) --require-hashes -r requirements/dev.txt
	@$(BIN)/python $(PIP) --require-hashes --no-deps -r requirements/models.txt
	@$(BIN)/python $(PIP) --no-deps --no-build-isolation -e client -e sidecar
	@touch $@

$(VENV_TRITON)/.installed: requirements/tritonclient.txt client/pyproject.toml
	$(require_python)
	@echo 'Setting up $(VENV_TRITON) with $(PYTHON)'
	@$(PYTHON) -m venv --clear $(VENV_TRITON)
	@$(VENV_TRITON)/bin/python $(PIP) --require-hashes -r requirements/tritonclient.txt
	@$(VENV_TRITON)/bin/python $(PIP) --no-deps --no-build-isolation -e client
	@touch $@

# ---------------------------------------------------------------------------------------------- every day
.PHONY: demo check test fix benchmarks
demo: venv ## a real model: deployed, broken and rolled back by day; watched and rolled back by itself at night
	@$(BIN)/model-sidecar demo $(ARGS)

# Each check runs even if an earlier one failed: one round shows everything there is to mend.
check: venv ## formatting, lint, types, rooms, protos, Dockerfile
	@failed=; \
	step() { local name=$$1 out; shift; \
		if out=$$("$$@" 2>&1); then echo "ok      $$name"; else echo "FAILED  $$name: $$*"; echo "$$out"; failed=1; fi; }; \
	step 'format      ' $(BIN)/ruff format --check --output-format concise .; \
	step 'lint        ' $(BIN)/ruff check --quiet --output-format concise .; \
	step 'types       ' $(BIN)/mypy; \
	step 'rooms       ' $(BIN)/lint-imports --no-logo; \
	step 'protos      ' $(BIN)/buf lint proto; \
	step 'wire, fresh ' $(BIN)/python scripts/generate_wire.py --check; \
	step 'Dockerfile  ' $(BIN)/hadolint Dockerfile; \
	test -z "$$failed"

test: venv venv-triton ## all tests
	@scripts/need.sh strace prometheus chromium || true  # without them the tests that break system calls, ask Prometheus or look at pages skip
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not alone' $(ARGS) || test $$? = 5  # ARGS chose none
	@$(BIN)/python -m pytest -m alone $(ARGS) || test $$? = 5

fix: venv ## format, and mend what lint can mend itself
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

benchmarks: venv ## measure all of docs/benchmarks.md and write it (half an hour; ARGS='--only serving', --fast, --page)
	@$(BIN)/python benchmarks/run.py $(ARGS)

# ---------------------------------------------------------------------------------------------- overload and shutdown
.PHONY: overload terminations
overload: venv ## ten times the capacity: goodput that is left, refusals by code, health and rollbacks meanwhile (minutes)
	@$(BIN)/python benchmarks/overload.py $(ARGS)

terminations: venv ## 200 times SIGTERM under load: how every request ended (a quarter of an hour)
	@$(BIN)/python tests/support/terminations.py $(ARGS)

# ---------------------------------------------------------------------------------------------- detection
.PHONY: detection noting
noting: venv ## what watching costs: a note on the request's path, a prediction in the background, a request with and without
	@$(BIN)/python benchmarks/noting.py $(ARGS)

detection: venv ## false alarms and delays of drift and of labels, beside others (minutes; ARGS='--river-python PYTHON', --fast)
	@$(BIN)/python benchmarks/detection.py $(ARGS)

# ---------------------------------------------------------------------------------------------- long proofs
.PHONY: power-loss
power-loss: venv ## cut the power after every call of every operation, and recover (minutes; ARGS='--seed 1 --states 20000')
	@PYTHONPATH=tests $(BIN)/python -m support.power_cuts $(ARGS)

.PHONY: crash weather kills
crash: venv ## kill a writer at every system call of every operation, and fail each call (an hour; a fast TMPDIR helps)
	@scripts/need.sh strace
	@$(BIN)/python tests/crash/every_call.py $(ARGS)

weather: venv ## fail the store's calls under a sidecar at work, kind by kind, and take its descriptors away (minutes)
	@scripts/need.sh strace
	@$(BIN)/python tests/crash/bad_weather.py $(ARGS)

kills: venv ## kill writers and sidecars at random on five file systems, mounted where root may (minutes)
	@scripts/need.sh bindfs || true  # without it there is no FUSE among them
	@$(BIN)/python tests/crash/kills.py $(ARGS)

.PHONY: operators state-machine fuzz soak
operators: venv ## 8 operators on 4 sidecars over bad connections, thousands of orders, all of it checked (ten minutes)
	@$(BIN)/python scripts/operators.py $(ARGS)

state-machine: venv ## let hypothesis look for an order of events that breaks a promise (half an hour)
	@$(BIN)/python scripts/state_machine.py $(ARGS)

fuzz: venv $(VENV_FUZZ)/.installed ## fuzz every reader, guided by coverage (three minutes each; ARGS='--seconds 1800')
	@$(BIN)/python scripts/fuzz.py --python $(VENV_FUZZ)/bin/python $(ARGS)

soak: venv ## 10,000 flips beside 1,000,000 checked predictions: what fails, what grows (an hour)
	@$(BIN)/python scripts/soak.py $(ARGS)

$(VENV_FUZZ)/.installed: requirements/fuzz.txt $(DISTRIBUTIONS)
	$(require_python)
	@echo 'Setting up $(VENV_FUZZ) with $(PYTHON)'
	@$(PYTHON) -m venv --clear $(VENV_FUZZ)
	@$(VENV_FUZZ)/bin/python $(PIP) --require-hashes -r requirements/fuzz.txt
	@$(VENV_FUZZ)/bin/python $(PIP) --no-deps --no-build-isolation -e client -e sidecar
	@touch $@

.PHONY: mutants
mutants: venv ## make each known bug in a copy, and show that a test catches it (ARGS=NAME… for some)
	@PYTHONPATH=tests $(BIN)/python -m mutants --jobs $$(nproc) $(ARGS)

# ---------------------------------------------------------------------------------------------- generated files
.PHONY: proto docs lock
proto: venv ## regenerate the wire descriptors and stubs from proto/
	@$(BIN)/python scripts/generate_wire.py

docs: venv ## regenerate the tables of README.md from the code
	@$(BIN)/python scripts/generate_docs.py

lock: venv ## resolve requirements/*.txt anew (ARGS=--upgrade moves every pin)
	@UV=$(BIN)/uv scripts/lock.sh $(ARGS)

# ---------------------------------------------------------------------------------------------- the image
.PHONY: image image-test
image: ## build the container image with docker, podman or buildah (as root, Debian's buildah is installed if none is)
	@IMAGE=$(IMAGE) scripts/image.sh

image-test: venv image ## serve from the image as uid 65532 on a read-only root, and predict
	@IMAGE=$(IMAGE) $(BIN)/python scripts/image_test.py

# ---------------------------------------------------------------------------------------------- leftovers
.PHONY: clean
clean: ## remove what the targets above made: environments, caches, the demo's store
	@rm -rf $(VENV) $(VENV_TRITON) $(VENV_FUZZ) .fuzz .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist model-sidecar-demo
	@find client sidecar tests scripts benchmarks -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
