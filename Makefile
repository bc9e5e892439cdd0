# `make demo` and `make test` do all the set-up themselves; the network is used for the installation only.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test lint bench gallery setup importers clean

demo: .venv/.installed
	$(BIN)/avatar3d generate --prompt "old man with glasses"

test: .venv/.installed node_modules/.installed
	$(BIN)/python -m pytest -n 2 --dist loadgroup

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
	rm -rf .venv .venv-blender node_modules build *.egg-info .pytest_cache .mypy_cache .ruff_cache

.venv/.installed: pyproject.toml constraints-cpu.txt
	@echo "Installing into .venv (log: .venv/install.log) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -c constraints-cpu.txt -e '.[dev]' > .venv/install.log 2>&1 \
		|| { tail -n 30 .venv/install.log; echo "The installation failed; see .venv/install.log"; exit 1; }
	@touch $@

# Node packages that only tests and the compressed files use; without npm the tests that need them are skipped.
node_modules/.installed: package.json
	@if command -v npm > /dev/null && npm install --no-audit --no-fund --no-package-lock --silent > /dev/null 2>&1; \
	then touch $@; else echo "npm or its network is missing: the tests that need node packages will be skipped"; fi

# Programs that import what avatar3d writes, for the tests; without them their tests are skipped.
# Blender is a Python package of 1 GB for Python 3.11, GPL, and so kept in an environment of its own.
IMPORTERS := chromium godot3-server assimp-utils
importers:
	@if ! command -v apt-get > /dev/null || [ "$$(id -u)" != 0 ]; \
	then echo "Install yourself: $(IMPORTERS) (names of Debian's packages)"; \
	elif ! dpkg -s $(IMPORTERS) > /dev/null 2>&1; \
	then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(IMPORTERS) > /dev/null; fi
	@$(MAKE) --no-print-directory .venv-blender/.installed

.venv-blender/.installed:
	@$(PYTHON) -m venv .venv-blender
	@.venv-blender/bin/python -m pip install bpy==5.0.1 > .venv-blender/install.log 2>&1 \
		|| { tail -n 5 .venv-blender/install.log; exit 1; }
	@touch $@
