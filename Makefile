# `make demo` and `make test` do all the set-up themselves; the network is used for the installation only.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test lint bench gallery setup clean

demo: .venv/.installed
	$(BIN)/avatar3d generate --prompt "old man with glasses"

test: .venv/.installed node_modules/.installed
	$(BIN)/python -m pytest -n 2

lint: .venv/.installed
	$(BIN)/ruff check avatar3d scripts tests
	$(BIN)/ruff format --check avatar3d scripts tests
	$(BIN)/mypy

bench: .venv/.installed
	$(BIN)/python scripts/benchmark.py

gallery: .venv/.installed
	$(BIN)/python scripts/gallery.py

setup: .venv/.installed node_modules/.installed

clean:
	rm -rf .venv node_modules build *.egg-info .pytest_cache .mypy_cache .ruff_cache

.venv/.installed: pyproject.toml constraints-cpu.txt
	@echo "Installing into .venv (log: .venv/install.log) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -c constraints-cpu.txt -e '.[dev]' > .venv/install.log 2>&1 \
		|| { tail -n 30 .venv/install.log; echo "The installation failed; see .venv/install.log"; exit 1; }
	@touch $@

# The Khronos validator is a node package that only the tests use; without npm its tests are skipped.
node_modules/.installed: package.json
	@if command -v npm > /dev/null && npm install --no-audit --no-fund --no-package-lock --silent > /dev/null 2>&1; \
	then touch $@; else echo "npm or its network is missing: the tests of the Khronos validator will be skipped"; fi
