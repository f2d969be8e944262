# Plain pip in .venv; every verb sets up first when it must. TORCH_INDEX=cpu takes PyTorch's own CPU wheels.

PYTHON ?= python3.11
SLOW ?= slow
TORCH_INDEX ?=

BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
BENCH := .venv-bench/bin
BENCH_READY := .venv-bench/.ready
BENCH_PIP := $(BENCH)/python -m pip --disable-pip-version-check install --quiet
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

# Idle OpenMP threads sleep instead of spinning: on few cores that is worth more than any other setting.
export OMP_WAIT_POLICY := PASSIVE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-avx2 tour check bench parity clean

help: ## list these verbs
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: $(READY) ## create .venv with the pinned packages (PYTHON=python3.11, TORCH_INDEX=cpu)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
ifeq ($(TORCH_INDEX),cpu)
	$(PIP) --no-deps --index-url https://download.pytorch.org/whl/cpu $(TORCH)
endif
	$(PIP) -c constraints.txt -e '.[dev]' tensorboard
	@touch $@

demo: $(READY) ## align the embedded model and compare it with its base
	$(BIN)/sightline demo

test: $(READY) ## fast tests, two workers
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-slow: $(READY) ## slow tests, one after another (SLOW="slow and resume" chooses by marker)
	$(BIN)/python -m pytest -m "$(SLOW)"

# A processor with AVX2 alone, like most laptops, is to be had on any x86-64 by these two settings: bfloat16 becomes slow.
AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2
ON_AVX2 := $(addprefix tests/,models/test_arithmetic.py models/test_sampler.py models/test_reference.py models/test_load.py \
	train/test_verify.py train/test_trained_vision.py train/test_loop.py train/test_traces.py \
	build/test_arithmetic.py build/test_avx2.py build/test_runs.py build/test_best_of.py)

test-avx2: $(READY) ## a part of the fast tests, and a run, as on a processor where bfloat16 is slow
	$(AVX2) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(ON_AVX2)

tour: $(READY) ## README's tour, from the wheel in an empty folder
	$(BIN)/python -m bench.tour

check: $(READY) ## lint, format, types, floors, docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest tests/guards -q -p no:randomly

$(BENCH_READY): pyproject.toml constraints.txt bench/constraints.txt
	test -x $(BENCH)/python || $(PYTHON) -m venv .venv-bench
ifeq ($(TORCH_INDEX),cpu)
	$(BENCH_PIP) --no-deps --index-url https://download.pytorch.org/whl/cpu $(TORCH)
endif
	$(BENCH_PIP) -c constraints.txt -c bench/constraints.txt -e . trl
	@touch $@

bench: $(BENCH_READY) ## learning steps side by side with TRL, in an environment of its own (ARGS="--set more" chooses)
ifdef ARGS
	$(BENCH)/python -W ignore -m bench.train $(ARGS)
else
	$(BENCH)/python -W ignore -m bench.train
	$(BENCH)/python -W ignore -m bench.train --dtype bfloat16 --only grpo --no-peaks
	$(BENCH)/python -W ignore -m bench.train --set more --no-peaks
	$(BENCH)/python -W ignore -m bench.train --set qwen2.5-vl-tiny --no-peaks
endif

parity: $(BENCH_READY) ## 20 steps of TRL's DPO and GRPO and of ours: the losses must agree
	$(BENCH)/python -W ignore -m bench.parity --json bench/results/parity.json

clean: ## remove caches and builds; .venv and runs stay
	rm -rf dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
