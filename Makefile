# On a fresh machine with Python 3.11 to 3.13 and make: `make materialize`, `make test`.
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
# With STEDI_LAKE set the commands work on that lake, without it on the embedded one.
LOCAL := $(if $(STEDI_LAKE),,$(BIN)/stedi local --)
SOURCE := $(or $(FROM),.stedi/sample)
# Runs of `make materialize` are seen in `make dev`, and its sensor waits for them: one Dagster home.
WITH_HOME := if [ -z "$$DAGSTER_HOME" ]; then home="$${STEDI_HOME:-.stedi}/dagster"; mkdir -p "$$home"; \
  export DAGSTER_HOME="$$(cd "$$home" && pwd)"; cp dagster.local.yaml "$$home/dagster.yaml"; fi;

