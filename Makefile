# make demo   install, find planted label errors among handwritten digits, write a report
# make test   install with the development tools, run the tests
# make lint   ruff and mypy
# make docs   the documentation as a site, docs/_build/index.html; warnings are errors
# make bench  ratios of speed, a few minutes on an idle machine

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-long lint docs bench clean

demo: $(VENV)/.core
	$(BIN)/whence demo --out demo

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not long"

test-long: $(VENV)/.dev
	$(BIN)/python -m pytest -m long

lint: $(VENV)/.dev
	$(BIN)/ruff check src tests benchmarks examples docs/*.py noxfile.py
	$(BIN)/ruff format --check -q src tests benchmarks examples docs/*.py noxfile.py
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.speed

$(VENV)/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e ".[dev]"
	touch $(VENV)/.core $@

$(VENV)/.docs: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e ".[docs]"
	touch $(VENV)/.core $@

clean:
	rm -rf $(VENV) demo build dist docs/_build .nox .pytest_cache .mypy_cache .ruff_cache .hypothesis
