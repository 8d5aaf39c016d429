# Everything a developer runs, from nothing but python3 with venv, make and git.
PYTHON ?= python3
# What to install: the locked versions, or for instance SYNC="--resolution lowest-direct".
SYNC ?= --locked
BIN := .venv/bin
READY := .venv/.ready
# Several at a time, file by file.
BESIDE := -n 3 --dist loadfile --no-loadscope-reorder
# These share a Neo4j server, and some bound times: alone, after the others.
ONE_SERVER := tests/store tests/tools/test_cypher.py tests/tools/test_fleet.py tests/test_fleet_docs.py

unexport VIRTUAL_ENV
export UV_PROJECT_ENVIRONMENT := .venv
export UV_PYTHON_DOWNLOADS := never
export PIP_DISABLE_PIP_VERSION_CHECK := 1
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: help demo test check fix soak bench snapshots docs clean

help: ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /  make \1 \t/p' $(MAKEFILE_LIST) | expand -t 20

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python 3.11 or newer is needed: make PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo 'this Python has no venv: apt-get install python3-venv' >&2; exit 1; }
	@echo 'making .venv'
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet 'uv>=0.6'

# uv.lock is written anew by other resolutions, hence the stamp comes last
$(READY): pyproject.toml uv.lock | $(BIN)/uv
	@$(BIN)/uv sync --quiet --inexact $(SYNC)
	@touch $@

demo: $(READY) ## a first look at this machine, as a client sees it
	@$(BIN)/watchman-mcp demo

test: $(READY) ## all tests, long and random ones at small counts (within 10 minutes)
	@$(BIN)/pytest -q $(BESIDE) tests $(addprefix --ignore=,$(ONE_SERVER))
	@$(BIN)/pytest -q $(ONE_SERVER)

soak: $(READY) ## the long and random tests at full count
	@WATCHMAN_TEST_SOAK=full $(BIN)/pytest -q -m soak $(BESIDE) tests $(addprefix --ignore=,$(ONE_SERVER))
	@WATCHMAN_TEST_SOAK=full $(BIN)/pytest -q -m soak $(ONE_SERVER)

check: $(READY) ## style, types, imports, spelling, generated pages, version
	@$(BIN)/ruff check --quiet --output-format=concise .
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --check .; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --config .importlinter > .venv/imports.log 2>&1 || { cat .venv/imports.log; exit 1; }
	@git ls-files -z --cached --others --exclude-standard --deduplicate | xargs -0 $(BIN)/codespell
	@$(BIN)/python -m tests.reference --check
	@version=$$($(BIN)/uv version --short) && \
	  { grep -q "^## \[$$version\]" CHANGELOG.md || \
	    { echo "CHANGELOG.md has no heading for $$version of pyproject.toml" >&2; exit 1; }; } && \
	  { grep -q "__version__ = \"$$version\"" watchman_mcp/__init__.py || \
	    { echo "watchman_mcp/__init__.py does not say $$version, as pyproject.toml does" >&2; exit 1; }; }

fix: $(READY) ## what ruff can mend
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

snapshots: $(READY) ## the schemas of tools, written as they are now
	@WATCHMAN_TEST_SNAPSHOTS=write $(BIN)/pytest -q tests/tools

docs: $(READY) ## the generated pages of docs/reference
	@$(BIN)/python -m tests.reference

bench: $(READY) ## every budget, measured
	@$(BIN)/python -m benchmarks

clean: ## all that was made here, the environment too
	@rm -rf .venv build dist .coverage .coverage.* \
	  .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
