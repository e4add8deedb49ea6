# On a fresh machine with Python 3.11 to 3.13 and make: `make materialize`, `make test`.
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
# With STEDI_LAKE set the commands work on that lake, without it on the embedded one.
LOCAL := $(if $(STEDI_LAKE),,$(BIN)/stedi local --)
SOURCE := $(or $(FROM),.stedi/sample)
# One at a time in one clone: a second one waits, or is refused.
EXCLUSIVE := $(PYTHON) stedi_assets/local/exclusive.py
LOCKS := $(or $(STEDI_HOME),.stedi)
# Runs of `make materialize` are seen in `make dev`, and its sensor waits for them: one Dagster home.
WITH_HOME := if [ -z "$$DAGSTER_HOME" ]; then home="$${STEDI_HOME:-.stedi}/dagster"; mkdir -p "$$home"; \
  export DAGSTER_HOME="$$(cd "$$home" && pwd)"; cp dagster.yaml.example "$$home/dagster.yaml"; fi;

.PHONY: materialize test test-slow test-spark lint bench bench-spark bench-history dev pictures clean lock

.venv/.made: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo 'make: $(PYTHON) is not Python 3.11, 3.12 or 3.13: say which, with make PYTHON=…' >&2; exit 1; }
	@echo 'Installing what requirements.lock holds into .venv (a minute or two, once) …'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.stedi/sample: | .venv/.made
	@$(EXCLUSIVE) wait .stedi/sample.lock 'make materialize' sh -ec \
	  'test -d $@ || { rm -rf $@.new; $(BIN)/stedi sample $@.new; mv $@.new $@; }'

# From a bare checkout to filled tables: [FROM=DIR] [INGEST_DATE=YYYY-MM-DD]
materialize: .venv/.made $(if $(FROM),,.stedi/sample)
	@$(WITH_HOME) $(EXCLUSIVE) wait "$(LOCKS)/materialize.lock" 'make materialize' $(LOCAL) sh -ec '\
	  $(BIN)/stedi land "$(SOURCE)" $(if $(INGEST_DATE),--ingest-date $(INGEST_DATE)); \
	  $(BIN)/stedi materialize; \
	  $(BIN)/stedi catch-up; \
	  $(BIN)/stedi tables'
	@echo 'Next: make dev (the Dagster UI), $(BIN)/stedi local -- stedi query "SELECT …"'

test: .venv/.made
	@$(BIN)/python -m pytest -n 2 -m 'not slow and not spark'

test-slow: .venv/.made
	@$(BIN)/python -m pytest -n 2 -m 'slow and not spark'

# Apache Spark itself, a standalone cluster and a Spark Connect server on it: needs Java 17. With
# STEDI_PUBLISHED_DATA=DIR on the published data too.
test-spark: .venv/.made
	@$(BIN)/python -m pytest -m spark -rs

lint: .venv/.made
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/shellcheck .ci/run
	@$(BIN)/hadolint Dockerfile

# Each fills its table in docs/benchmarks.md; for an idle machine with Java 17.
bench: .venv/.made
	@$(BIN)/python -m bench.run --update docs/benchmarks.md

bench-spark: .venv/.made
	@$(BIN)/python -m bench.run --spark --scales 1,50 --update docs/benchmarks.md

bench-history: .venv/.made
	@$(BIN)/python -m bench.history --update docs/benchmarks.md

# The pictures of the docs anew, over a synthetic sample; needs Chromium.
pictures: .venv/.made
	@home=$$(mktemp -d) && STEDI_LAKE= STEDI_HOME=$$home DAGSTER_HOME=$$home \
	  $(BIN)/stedi local -- $(BIN)/python docs/pictures/make.py; code=$$?; rm -rf $$home; exit $$code

# The Dagster UI with its daemon, over the embedded lake unless STEDI_LAKE is set.
dev: .venv/.made
	@$(WITH_HOME) PYTHONWARNINGS=ignore $(EXCLUSIVE) refuse "$(LOCKS)/dev.lock" 'make dev' \
	  $(LOCAL) $(BIN)/dagster dev

# Makes requirements.lock anew from pyproject.toml; needs uv.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes \
	  --no-header --no-emit-index-url --no-emit-find-links pyproject.toml -o requirements.lock

# Removes the virtual environment and the embedded lake with all its data.
clean:
	rm -rf .venv .stedi build ./*.egg-info
