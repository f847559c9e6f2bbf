# Two commands: `make train` and `make test`. Both make the environment that they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: train test test-slow soak sabotage versions check bench lint clean

train: $(VENV)/installed
	$(BIN)/python cli.py train

test: $(VENV)/installed lint
	$(BIN)/pytest -m "not slow"

# What takes minutes or is statistical: long trainings, twenty kills.
test-slow: $(VENV)/installed
	$(BIN)/pytest -m slow

# Every promise of docs/promises.md, tried at its full size; ends in one table.
soak: $(VENV)/installed
	$(BIN)/pytest --soak -m promise

# A fault planted for every promise, in a copy of the tree: its tests must fail.
sabotage: $(VENV)/installed
	$(BIN)/pytest -m slow tests/soak/test_sabotage.py

# The lowest and the newest versions of torch, numpy and triton that can be had, and the wheel.
versions: $(VENV)/installed
	PYTHON=$(PYTHON) tests/versions.sh

check: $(VENV)/installed
	$(BIN)/python cli.py check

bench: $(VENV)/installed
	$(BIN)/python cli.py bench

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]' --constraint constraints.txt
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
