# Two commands matter: `make run` draws the published gridworld experiment, `make test` checks everything.
# Both set themselves up in .venv on first use. Another interpreter: make test PYTHON=python3.13

PYTHON  ?= python3
WORKERS ?= 2
# Small enough for a minute or so; the command's own defaults are finer: make run SIZES=
SIZES   ?= --cells 100 --policies 30 --training-tasks 400
VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
LOWEST  := build/lowest
QUICK   := -m "not slow and not process and not statistical"
WHEEL   := build/wheel-test
PIP     := -m pip --disable-pip-version-check install --quiet

.DEFAULT_GOAL := help
.PHONY: help run test quick check lowest coverage bench docs wheel-test clean

help:
	@echo "make run         train and deploy on the published gridworld; says where figures and report are"
	@echo "make test        make check, then the tests (WORKERS=$(WORKERS) processes)"
	@echo "make quick       make check, then the tests that are neither slow, statistical nor about processes: the inner loop"
	@echo "make check       ruff and mypy --strict"
	@echo "make lowest      the tests of make quick with the lowest versions that pyproject.toml allows, in $(LOWEST)"
	@echo "make coverage    all tests, and which lines and branches they miss; pages in build/coverage"
	@echo "make wheel-test  build the wheel, install it alone, run the tests against it"
	@echo "make docs        the site with the reference, in build/docs; warnings are errors"
	@echo "make bench       benchmarks; never part of the tests"
	@echo "make clean       remove what the other targets made (runs/ stays)"

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "surefoot needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)" >&2; \
	  echo "name another one: make $(firstword $(MAKECMDGOALS)) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version) (first time, or the pinned versions changed) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(PIP) -c constraints.txt -e ".[figures,dev]"
	@touch $@

run: $(STAMP)
	@mkdir -p runs; n=1; while [ -e runs/gridworld-$$n ]; do n=$$((n + 1)); done; out=runs/gridworld-$$n; \
	$(BIN)/surefoot reproduce gridworld $(SIZES) --workers $(WORKERS) --out $$out && { echo; echo "figures: $$out/figure1.png $$out/figure2.png"; \
	echo "report:  $$out/report.html (open it in a browser)"; }

test: check
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

quick: check
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(QUICK)

check: $(STAMP)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "reformat with: $(BIN)/ruff format ." >&2; exit 1; }
	@$(BIN)/mypy --strict src tests/consumer.py

docs: $(STAMP)
	@$(BIN)/python -m sphinx -q -b html -W --keep-going docs build/docs && echo "open build/docs/index.html"

# Linters stay at the tested versions: older ones know other rules. Compiled code is kept apart from that of other versions of numba.
lowest: $(LOWEST)/.installed
	@NUMBA_CACHE_DIR=$(CURDIR)/$(LOWEST)/numba $(LOWEST)/venv/bin/python -m pytest -q -n $(WORKERS) --dist worksteal -p no:cacheprovider $(QUICK)

$(LOWEST)/.installed: pyproject.toml constraints-lowest.txt
	@rm -rf $(LOWEST) && mkdir -p $(LOWEST)
	@$(PYTHON) -m venv $(LOWEST)/venv
	@echo "setting up $(LOWEST) with the lowest versions ..."
	@$(LOWEST)/venv/bin/python $(PIP) -c constraints-lowest.txt -e ".[figures,dev]"
	@touch $@

coverage: $(STAMP)
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --cov --cov-report=term:skip-covered --cov-report=html:build/coverage

bench: $(STAMP)
	@for f in benchmarks/bench_*.py; do echo "== $$f"; $(BIN)/python $$f || exit 1; done

# The tests run from a copy that has no src/ beside it, so that only the installed wheel can be imported.
wheel-test: $(STAMP)
	@rm -rf $(WHEEL) && mkdir -p $(WHEEL)/tree
	@$(BIN)/python -m build --wheel --outdir $(WHEEL) . > $(WHEEL)/build.log 2>&1 || { cat $(WHEEL)/build.log >&2; exit 1; }
	@$(PYTHON) -m venv $(WHEEL)/venv
	@wheel=$$(echo $(WHEEL)/surefoot-*.whl); echo "testing $$wheel without its source"; \
	$(WHEEL)/venv/bin/python $(PIP) -c constraints.txt "$$wheel[dev]"
	@for f in tests examples pyproject.toml constraints.txt constraints-lowest.txt README.md CHANGELOG.md CONTRIBUTING.md LICENSE docs; do [ ! -e $$f ] || cp -R $$f $(WHEEL)/tree/; done
	@cd $(WHEEL)/tree && ../venv/bin/python -m pytest -q -n $(WORKERS) --dist worksteal -p no:cacheprovider

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
