# Six words: run, test, check, dev, bench, simulate.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SIMULATIONS := $(addprefix benchmarks/,monte_carlo.py detectors.py projections.py)
# uv takes its certificates from the system, so that it works behind a company's proxy.
export UV_SYSTEM_CERTS := 1
export UV_NATIVE_TLS := 1
export GX_ANALYTICS_ENABLED := false
export DAGSTER_DISABLE_TELEMETRY := yes
export PYTHONWARNINGS := ignore

.PHONY: help run test check lint dev bench simulate clean

help:  ## Show what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/.uv:
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8'
	@touch $@

$(VENV)/.run: $(VENV)/.uv uv.lock pyproject.toml
	@$(BIN)/uv sync --frozen --quiet --no-dev --inexact
	@touch $@

$(VENV)/.dev: $(VENV)/.uv uv.lock pyproject.toml
	@$(BIN)/uv sync --frozen --quiet --all-extras
	@touch $@ $(VENV)/.run

run: $(VENV)/.run  ## A made-up week of traffic to a report; the last line is where it lies
	@$(BIN)/routing-pipeline demo

test: $(VENV)/.dev  ## The whole test suite
	@$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

check: lint test  ## ruff, mypy and the tests: what CI runs

dev: $(VENV)/.run  ## The Dagster UI on the demo's home
	@test -d demo/home || $(BIN)/routing-pipeline demo
	@mkdir -p demo/home/dagster && printf 'telemetry:\n  enabled: false\nnux:\n  enabled: false\n' > demo/home/dagster/dagster.yaml
	@DAGSTER_HOME=$(CURDIR)/demo/home/dagster ROUTING_PIPELINE_HOME=$(CURDIR)/demo/home ROUTING_PIPELINE_LOGS=$(CURDIR)/demo/logs \
	ROUTING_PIPELINE_FEEDBACK=$(CURDIR)/demo/feedback $(BIN)/dagster dev -w workspace.yaml

bench: $(VENV)/.dev  ## Speed and memory, as ratios measured in one run
	@for each in $(filter-out $(SIMULATIONS),$(wildcard benchmarks/*.py)); do echo "== $$each"; $(BIN)/python $$each || exit 1; done

simulate: $(VENV)/.dev  ## Worlds with known truth, many times over: coverage, broken floors, savings; alerts and projections; an hour
	@for each in $(SIMULATIONS); do echo "== $$each"; $(BIN)/python $$each || exit 1; done

clean:  ## Remove the demo and its home
	@rm -rf demo .pytest_cache .mypy_cache .ruff_cache
