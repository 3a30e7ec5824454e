# Every target makes what it needs in .venv; nothing is installed elsewhere except by `make test`,
# which adds system packages where it may (.ci/system-packages says which and why).
PYTHON ?= python3
VENV   := .venv
GOAL   ?= $(MAKECMDGOALS)
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
FIRMWARE := firmware_bridge/firmware
BUILD  := pyproject.toml hatch_build.py $(wildcard core/c/*.[ch])

.PHONY: help setup demo test test-slow check extras oracles bench fuzz tools firmware clean
.DELETE_ON_ERROR:

help:
	@echo "make demo       install into .venv, then split, run and report the example; no hardware"
	@echo "make test       install what the tests need, run them"
	@echo "make setup      development environment: everything check, test and bench need"
	@echo "make check      formatting, lint, types, import rules, C warnings"
	@echo "make test-slow  the tests that take minutes"
	@echo "make extras     install each extra alone and check what imports and what must not"
	@echo "make oracles    an environment with what the tests hold ours against, if there (120 MB)"
	@echo "make bench      every figure in docs/BENCHMARKS.md, written anew (about two hours)"
	@echo "make fuzz       1,000,000 mutated frames, every parser guided by coverage, the firmware"
	@echo "make firmware   the microcontroller's firmware for every board"
	@echo "make tools      environments for 'waistline convert' and the NCS2 (3 GB)"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: Waistline needs Python 3.11 or newer"; \
	  echo "cause: $(PYTHON) is $$($(PYTHON) --version 2>&1 | head -n 1)"; \
	  echo "fix:   install a newer Python, then: make PYTHON=python3.12 $(GOAL)"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "error: this Python cannot make virtual environments"; \
	  echo "cause: the modules venv and ensurepip come in a package of their own on Debian"; \
	  echo "fix:   sudo apt install python3-venv"; exit 3; }
	@$(PYTHON) -m venv $(VENV)

# One stamp per set of extras; a richer set serves the poorer one.
$(VENV)/.demo: $(BUILD) | $(BIN)/python
	@[ -e $(VENV)/.test ] || [ -e $(VENV)/.dev ] || { echo "installing into $(VENV) ..."; true; }
	@$(PIP) install -e '.[onnxruntime,host,edge]'
	@touch $@

$(VENV)/.test: $(BUILD) | $(BIN)/python
	@echo "installing into $(VENV) ..."
	@$(PIP) install -e '.[test]'
	@touch $@ $(VENV)/.demo

$(VENV)/.dev: $(BUILD) | $(BIN)/python
	@echo "installing into $(VENV) ..."
	@$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/.demo $(VENV)/.test

$(VENV)/.fuzz: $(BUILD) | $(BIN)/python
	@echo "installing into $(VENV) ..."
	@$(PIP) install -e '.[fuzz]'
	@touch $@ $(VENV)/.demo $(VENV)/.test

setup: $(VENV)/.dev

# The act on a microcontroller needs its firmware; without the tools the demo says what to install.
demo: $(VENV)/.demo
	@if command -v arm-none-eabi-gcc qemu-system-arm >/dev/null; then \
	  $(MAKE) --no-print-directory -s -C $(FIRMWARE) BOARD=qemu-mps2-an386 >/dev/null; fi
	@$(BIN)/waistline demo

test:
	@.ci/system-packages
	@$(MAKE) --no-print-directory $(VENV)/.test GOAL=test
	$(BIN)/pytest -m 'not slow' -n auto

test-slow: $(VENV)/.test
	$(BIN)/pytest -m slow -n auto

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if command -v cc >/dev/null; then \
	  for f in core/c/*.c $(FIRMWARE)/src/*.c; do \
	    cc -std=c99 -O2 -ffreestanding -Wall -Wextra -Wpedantic -Werror -Wconversion -Wshadow \
	      -Icore/c -I$(FIRMWARE)/src -fsyntax-only $$f || exit 1; \
	  done; echo "C: no warnings"; \
	else echo "C: not checked, there is no compiler (cc)"; fi

# Needs gcc-arm-none-eabi and libnewlib-arm-none-eabi; prints the size of every board.
firmware:
	@$(MAKE) --no-print-directory -C $(FIRMWARE)

extras: | $(BIN)/python
	@$(BIN)/python .ci/extras.py

oracles: .oracles/.made

.oracles/.made: .ci/oracles | $(BIN)/python
	@.ci/oracles $(BIN)/python
	@touch $@

bench: $(VENV)/.test
	$(BIN)/python benchmarks/run.py

# FUZZ_FRAMES (1,000,000), FUZZ_SECONDS of each guided target (60) and of each of the firmware's
# three (240), and FUZZ_SEED may be set.
fuzz: $(VENV)/.fuzz
	FUZZ_SECONDS= $(BIN)/python fuzz/run.py
	$(BIN)/python fuzz/guided.py
	$(BIN)/python fuzz/sanitized.py
	WAISTLINE_HYPOTHESIS=fuzz $(BIN)/pytest tests/unit -n auto -k 'hostile or mutat or corrupt or fuzz or chunk'

# What converts models, and what drives an NCS2, live apart: their pins fit nothing else.
tools: $(VENV)/.demo
	$(BIN)/waistline tools install tflite
	$(BIN)/waistline tools install ncs2 || echo "going on without ncs2"

clean:
	rm -rf $(VENV) .oracles .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache runs
	find core node edge hostctl planner calibration firmware_bridge -name '*.so' -delete
