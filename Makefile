# Everything that people, hooks and CI run. `make demo` and `make test` need Python >= 3.11 only.

# The first interpreter that is new enough; choose another with: make test PYTHON=/path/to/python
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; exit; }; \
	done; echo python3)
# More for pytest, such as: make test PYTEST_ARGS='-k theorem'
PYTEST_ARGS ?=
# Processes that share the tests, file by file; 0 runs them in pytest's own (for a debugger).
TEST_WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made-by-make

# More for the benchmark, such as: make bench BENCH_ARGS='--quick'
BENCH_ARGS ?=

.PHONY: help demo test lint types docs-results docs-performance bench bench-check bench-scoring setup clean distclean

help:
	@echo 'make demo          set up, fit the default on handwritten digits, compare it, write runs/demo'
	@echo 'make test          set up, then all checks and tests'
	@echo 'make lint, types   the quick checks'
	@echo 'make docs-results  generate docs/results.md from results/*.json'
	@echo 'make bench         time and memory of a training step, into benchmarks/results (hours)'
	@echo 'make bench-check   the ratios of the newest stored result, measured again'
	@echo 'make bench-scoring time of predictions for new rows, into benchmarks/results (two minutes)'
	@echo 'make docs-performance  generate a part of docs/performance.md from benchmarks/results'
	@echo 'make clean         remove caches, builds and the demo; distclean: the environment too'

demo: $(STAMP)
	$(BIN)/difformer demo --out runs/demo

test: lint types
	GOMP_SPINCOUNT=10000 $(BIN)/python -m pytest tests src/difformer --doctest-modules \
		-n $(TEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy

docs-results: $(STAMP)
	$(BIN)/python -m difformer.experiments.results_page

docs-performance: $(STAMP)
	$(BIN)/python -m difformer.experiments.bench.page

bench: $(STAMP)
	$(BIN)/difformer bench $(BENCH_ARGS)

bench-check: $(STAMP)
	$(BIN)/difformer bench --against benchmarks/results $(BENCH_ARGS)

bench-scoring: $(STAMP)
	GOMP_SPINCOUNT=10000 $(BIN)/python -m difformer.experiments.scoring

setup: $(STAMP)

# The stamp is written last, so that an interrupted set-up starts again.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo 'difformer needs Python 3.11 or newer; found: $(PYTHON) is' \
			"$$($(PYTHON) --version 2>/dev/null || echo missing)."; \
		echo 'Name another one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11'; exit 1; }
	@echo 'Setting up $(VENV) with the versions of constraints.txt ...'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[pyg,clusters,tune,onnx,molecules,dev]'
	@touch $(STAMP)

clean:
	rm -rf build dist runs/demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
