# make run    the window on the demo model (text and a picture where there is no display)
# make test   the whole test suite; a card is simulated
# make test-python PYTHON=python3.13 VENV=.venv-3.13  what can differ from one Python to another
# make test-gpu  what needs an NVIDIA card
# make test-long  what takes minutes
# make bench  figures of this machine
# make docs-pictures  the pictures of the documentation
# make looks  the window on screens of all sizes, in build/looks, to be looked at
# make train-who-is-where, train-shell-game, train-recall, train-stories ARGS="--data DIR"
#             a model inside, anew, into build/; PyTorch gets an environment of its own
# make check  lint, types, imports, then the tests
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
TOOLS ?= .tools
BIN := $(VENV)/bin
# numba decides at its import whether it simulates: these go in a process of their own
SIMULATED := tests/gpu/test_kernels.py tests/gpu/test_engine.py
# numba-cuda and cuda.core as on a card, with a driver made of Python
DRIVEN := tests/gpu/test_real_card.py tests/gpu/test_engine.py

# on all cores; the long tests of the kernels come in a row, so whoever is done takes from others
SPREAD := -n auto --dist worksteal

.PHONY: run test test-python test-gpu test-long check lint bench docs-pictures looks clean

run: $(VENV)/.run
	@$(BIN)/goose-viz $(ARGS)

test: $(VENV)/.dev
	@$(BIN)/python -m goose_app.display
	$(BIN)/python -m pytest $(SPREAD) tests/goose_viz
	$(BIN)/python -m pytest $(SPREAD) tests/app
	$(BIN)/python -m pytest $(SPREAD) -m "not gpu" tests/gpu
	NUMBA_ENABLE_CUDASIM=1 $(BIN)/python -m pytest $(SPREAD) $(SIMULATED)
	FAKE_CUDA_DRIVER=1 $(BIN)/python -m pytest $(SPREAD) -m gpu $(DRIVEN)

test-python: $(VENV)/.dev
	QT_QPA_PLATFORM=offscreen $(BIN)/python -m pytest tests/test_any_python.py

test-gpu: $(VENV)/.dev
	$(BIN)/python -m pytest -m gpu --timeout 1800 tests/gpu

test-long: $(VENV)/.dev
	$(BIN)/python -m pytest -m long --timeout 14400 --capture=no tests/goose_viz tests/app

check: lint test

lint: $(VENV)/.dev
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/goose-viz bench
	$(BIN)/goose-viz bench --analysis
	$(BIN)/python benchmarks/start.py --json benchmarks/results/start.json
	$(BIN)/python benchmarks/window.py --json benchmarks/results/window.json
	$(BIN)/python benchmarks/memory.py --json benchmarks/results/memory.json
	$(BIN)/python benchmarks/long_run.py --json benchmarks/results/long_run.json

looks: $(VENV)/.dev
	$(BIN)/python tools/looks.py build/looks

docs-pictures: $(VENV)/.dev
	$(BIN)/python tools/docs_pictures.py

train-%: $(TOOLS)/.ready
	$(TOOLS)/bin/python tools/train.py $(subst -,_,$*) --out build/$* $(ARGS)

$(TOOLS)/.ready: | $(BIN)/python
	@$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet torch==2.13.0 numba tokenizers safetensors
	@touch $@

clean:
	rm -rf $(VENV) build dist

# the environment, made anew when the dependencies change
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "goose-viz needs Python 3.11 or newer and finds none; on Debian or Ubuntu: sudo apt-get install python3 python3-venv, or name one with make PYTHON=…" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python cannot make an environment; on Debian or Ubuntu: sudo apt-get install python3-venv" >&2; exit 2; }

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $(VENV)/.run $@
