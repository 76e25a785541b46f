# Everything starts here: `make demo` and `make test` install what they need first, and nothing twice.

PYTHON ?=
RECIPE ?= recipes/quickstart.yaml
SIMULATORS ?= metaworld pusht
ARGS ?=
# Files of tests go to one process more than there are cores, since a quarter of their time they wait for processes that they have
# started; four at most, the slow ones first; ARGS="-n 0" keeps one.
PARALLEL = -n $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1) --maxprocesses 4 --dist loadfile --no-loadscope-reorder
UPGRADE ?=

VPOLICY := .venv/bin/vpolicy
REPORT = runs/$(basename $(notdir $(RECIPE)))/report.html

export PYTHON SIMULATORS UPGRADE
# Compiling what is imported takes longer than importing it; where this is set, every process would do so again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup rendering demo test test-all check docs wheels lock clean

help:
	@echo 'make demo    install, then train and evaluate $(RECIPE); ends with a report to open'
	@echo 'make test    install, then run the tests            (ARGS="-k name" are passed to pytest)'
	@echo 'make test-all  the same with the slow ones, as continuous integration does'
	@echo 'make check   install, then style, types, layers'
	@echo 'make docs    install, then build the documentation into site/'
	@echo 'make setup   install only: .venv from requirements.lock, our packages editable'
	@echo 'make wheels  install, then build every package into dist/'
	@echo 'make lock    resolve requirements.lock again from every pyproject.toml'
	@echo 'make clean   remove .venv, .tools and caches; runs, data and simulators stay'
	@echo
	@echo 'PYTHON=/path/to/python chooses the interpreter (3.11 or newer) for a new .venv.'

setup:
	@sh scripts/setup.sh

rendering: setup
	@sh scripts/rendering.sh

demo: rendering
	@echo '==> vpolicy run $(RECIPE) $(ARGS)'
	@$(VPOLICY) run $(RECIPE) $(ARGS)
	@if [ -f $(REPORT) ]; then echo '==> Open this in a browser: $(CURDIR)/$(REPORT)'; fi

test: SELECTED = -m "not slow"
test test-all: rendering
	@echo '==> pytest $(PARALLEL) $(SELECTED) $(ARGS)'
	@.venv/bin/python -m pytest $(PARALLEL) $(SELECTED) $(ARGS)

check: setup
	@sh scripts/check.sh

wheels: setup
	@sh scripts/wheels.sh

docs: setup
	@echo '==> mkdocs build'
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet
	@echo '==> Open this in a browser: $(CURDIR)/site/index.html'

lock:
	@sh scripts/lock.sh

clean:
	rm -rf .venv .tools site .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
