# Every target is one or two plain commands. PORT=5006 NO_SERVE= PYTHON=python3
PYTHON ?= python3
PORT ?= 5006
BIN := .venv/bin
export HF_HUB_OFFLINE = 1

.PHONY: setup demo test test-all lint bench clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[all,dev]'
	touch $@

demo: setup
	$(BIN)/attnviz demo --port $(PORT) $(if $(NO_SERVE),--no-serve)

test: setup
	$(BIN)/python tests/browser/chromium.py
	$(BIN)/pytest -m 'not slow'

test-all: setup
	$(BIN)/python tests/browser/chromium.py
	$(BIN)/pytest

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	for file in tests/bench/*.py; do $(BIN)/python $$file || exit 1; done

clean:
	rm -rf .venv data/runs
