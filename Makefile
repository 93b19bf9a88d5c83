# `make demo` and `make test` work on a fresh Debian or Ubuntu machine: they make .venv and install what is missing.

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
PYTEST := $(PY) -m pytest
WORKERS ?= 2
MINUTES ?= 60
COMMA := ,

.DEFAULT_GOAL := help
.PHONY: docs help demo demo-agents real-agents test test-fast test-crash test-real bench bench-durable bench-volumes bench-node bench-gateway bench-memory bench-setup soak lint format venv system-deps clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1\t\2/p' Makefile | expand -t 22

$(VENV)/.runtime: pyproject.toml constraints.txt .ci/venv
	.ci/venv runtime $(VENV)

$(VENV)/.dev: $(VENV)/.runtime
	.ci/venv dev $(VENV)

venv: $(VENV)/.dev  ## make .venv with everything that the tests need

system-deps: $(VENV)/.dev  ## install the system packages that the tests use (root), or name them
	.ci/system-deps

demo: $(VENV)/.runtime  ## real work, ten real kills, a table of what it cost
	$(BIN)/relit demo

demo-agents: $(VENV)/.runtime  ## a real OpenClaw and a real Hermes, each broken three ways
	$(BIN)/relit demo --agents --runtimes .bench/runtimes

lint: $(VENV)/.dev  ## ruff, mypy --strict, layers and purity
	$(BIN)/ruff check src tests bench docs
	$(BIN)/ruff format --check src tests bench docs
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## let ruff put the code in order
	$(BIN)/ruff check --fix src tests bench docs
	$(BIN)/ruff format src tests bench docs

real-agents: $(VENV)/.dev  ## install the real agents that tests use, before anything runs beside that
	$(PY) tests/real/real_runtimes.py

test: system-deps lint real-agents  ## everything but the long matrices; six to fourteen minutes on two cores
	$(PYTEST) -q -n $(WORKERS) --dist worksteal --durations=10 -m "not crash and not real"

test-fast: $(VENV)/.dev  ## what takes milliseconds
	$(PYTEST) -q -n $(WORKERS) -m "not crash and not real and not slow and not postgres and not s3"

MATRIX = $(PYTEST) -q -n $(WORKERS) --dist worksteal --timeout 1800 $(if $(SHARD),--shard $(SHARD)) $(if $(RESUME),--resume)

test-crash: system-deps real-agents  ## every crash point, kill storms, databases that die; SHARD=1/2 is a part, RESUME=1 goes on
	$(MATRIX) -m crash

test-real: real-agents  ## with real agents, an hour; SHARD=1/2 is a part, RESUME=1 goes on where it was stopped
	$(MATRIX) -m "real or agents"

bench: bench-durable bench-volumes bench-node bench-gateway bench-memory  ## every figure that the README quotes

bench-setup: $(VENV)/.dev  ## install the peers that the benchmarks compare with, each into an environment of its own
	$(PY) bench/setup.py durable $(if $(QUICK),--peers dbos)
	$(PY) bench/setup.py volumes $(if $(QUICK),--peers restic)
	$(PY) bench/setup.py node $(if $(QUICK),--peers cc$(COMMA)runit)
	$(PY) bench/setup.py gateway
	$(PY) bench/setup.py memory

bench-durable: system-deps bench-setup  ## durable runs against their peers; QUICK=1 for the short form
	$(PY) bench/durable/main.py $(if $(QUICK),--quick)

bench-volumes: system-deps  ## versioned volumes against restic and borg; QUICK=1 for the short form
	$(PY) bench/setup.py volumes $(if $(QUICK),--peers restic)
	$(PY) bench/volumes/main.py $(if $(QUICK),--quick)

bench-node: system-deps  ## the node against other supervisors; QUICK=1 for the short form (runit, no OpenClaw)
	$(PY) bench/setup.py node $(if $(QUICK),--peers cc$(COMMA)runit)
	$(PY) bench/node/main.py $(if $(QUICK),--quick)

bench-gateway: system-deps  ## the gateway against LiteLLM's proxy and a bare one; QUICK=1 for the short form
	$(PY) bench/setup.py gateway
	$(PY) -m bench.gateway.main $(if $(QUICK),--quick)

bench-memory: system-deps $(VENV)/.dev  ## the memory semaphore on a machine that is a cgroup; QUICK=1 for the short form
	$(PY) bench/setup.py memory
	$(PY) -m bench.memory.main $(if $(QUICK),--quick)

soak: $(VENV)/.dev  ## five minutes of dying workers, then an hour (MINUTES) of 100 faulty agents beside real ones (REAL=0: without)
	$(PY) -m bench.soak --minutes 5
	$(PY) -m bench.soak_agents.main --minutes $(MINUTES) $(if $(filter 0,$(REAL)),--no-real)

docs: $(VENV)/.dev  ## write the reference pages that come from the code
	$(PY) docs/reference/generate.py

clean:  ## remove what the targets above made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .bench
