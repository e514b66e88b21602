# `make run`: the main job, with one more retraining for a verdict. `make test`: all checks. `make docs`: the documentation
# site. `make release`: both archives, checked. All set up .venv first; nothing else is needed.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ARGS ?= evaluation.reference_seeds=1

.PHONY: run test docs release setup clean

run: $(VENV)/.installed
	$(BIN)/fedlaf $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

docs: $(VENV)/.installed-dev
	$(BIN)/sphinx-build --builder html --fail-on-warning --fresh-env --quiet docs build/site
	@echo "build/site/index.html"

# In an environment of its own: cffconvert wants an older jsonschema than the notebook does.
release: build/release/.installed
	rm -rf build/dist
	build/release/bin/python -m build --quiet --outdir build/dist .
	build/release/bin/twine check --strict build/dist/*
	build/release/bin/cffconvert --validate --infile CITATION.cff

setup: $(VENV)/.installed-dev

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[dev,docs]'
	touch $@ $(VENV)/.installed

build/release/.installed:
	$(PYTHON) -m venv build/release
	build/release/bin/pip install --quiet build twine cffconvert
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
