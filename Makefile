# Every target is one or two plain commands. PORT=5006 NO_SERVE= PYTHON=python3
PYTHON ?= python3
PORT ?= 5006
BIN := .venv/bin
# Two processes of one thread each, unless the environment says otherwise (where numba takes more, it gives torch more too); the tests of
# a file share what they make.
OMP_NUM_THREADS ?= 1
NUMBA_NUM_THREADS ?= 1
PYTEST := OMP_NUM_THREADS=$(OMP_NUM_THREADS) NUMBA_NUM_THREADS=$(NUMBA_NUM_THREADS) $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder
export HF_HUB_OFFLINE = 1
# uv compiles nothing, and where Python may not keep what it compiled, every process of the tests compiles torch anew.
unexport PYTHONDONTWRITEBYTECODE

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
	$(PYTEST) -m 'not slow'

test-all: setup
	$(BIN)/python tests/browser/chromium.py
	$(PYTEST)

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	for file in tests/bench/*.py; do $(BIN)/python $$file || exit 1; done

clean:
	rm -rf .venv data/runs
