# Eleven words: run, test, check, audit, sbom, coverage, dev, docs, bench, simulate, loop.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
GATEWAYS := $(CURDIR)/$(VENV)/gateways
FAST_TESTS := tests/stats tests/rules $(addprefix tests/test_,catalog.py estimates.py parameters.py text.py)
SIMULATIONS := $(addprefix benchmarks/,monte_carlo.py steering_worlds.py audit_worlds.py incident_worlds.py feasible_worlds.py detectors.py projections.py session_worlds.py exploration_worlds.py drawn_worlds.py)
# One more than there are cores: many tests wait for a server, a browser or a clock.
WORKERS ?= $(shell echo $$(($$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN) + 1)))
# uv takes its certificates from the system, so that it works behind a company's proxy.
export UV_SYSTEM_CERTS := 1
export UV_NATIVE_TLS := 1
# Byte code is made once, at installation: compiled anew in every process it takes a quarter to a third of a short run.
export UV_COMPILE_BYTECODE := 1
unexport PYTHONDONTWRITEBYTECODE
export GX_ANALYTICS_ENABLED := false
export DAGSTER_DISABLE_TELEMETRY := yes
# Users need not hear of deprecations; the tests must (`filterwarnings` in pyproject.toml).
run dev bench simulate: export PYTHONWARNINGS := ignore

.PHONY: help run test check audit sbom coverage lint dev docs bench simulate loop clean

help:  ## Show what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/.uv:
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8'
	@touch $@

$(VENV)/.run: $(VENV)/.uv uv.lock pyproject.toml Makefile
	@$(BIN)/uv sync --frozen --quiet --no-dev --extra serve --inexact
	@touch $@

$(VENV)/.dev: $(VENV)/.uv uv.lock pyproject.toml Makefile
	@$(BIN)/uv sync --frozen --quiet --all-extras
	@touch $@ $(VENV)/.run

run: $(VENV)/.run  ## A made-up week of traffic to a report; the last line is where it lies
	@$(BIN)/routing-pipeline demo

# Matrices are small: threads of the linear algebra would wait for each other, a tenth of the time.
test: export OMP_NUM_THREADS := 1
test: $(VENV)/.dev  ## The whole test suite
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

# mypy has one process and the vulnerabilities a question to ask: the tests need not wait for them.
check: $(VENV)/.dev  ## ruff, mypy, import-linter, known vulnerabilities and the tests: what CI runs
	@$(MAKE) --no-print-directory -j3 lint audit test

# uv says 1 for a vulnerability and 2 where it cannot ask; what cannot be asked is said and stops nobody.
audit: $(VENV)/.dev  ## Known vulnerabilities of what uv.lock names, asked of osv.dev; skipped with the reason where that cannot be reached
	@mkdir -p build; $(BIN)/uv audit --frozen --preview-features audit-command > build/audit.txt 2>&1; \
	case $$? in \
	0) echo "audit: no known vulnerability" ;; \
	1) cat build/audit.txt; exit 1 ;; \
	*) echo "audit: SKIPPED, no database of vulnerabilities can be asked: $$(tail -n 1 build/audit.txt)" ;; \
	esac

sbom: $(VENV)/.uv  ## What an installation consists of, as CycloneDX, in build/sbom.json
	@mkdir -p build; $(BIN)/uv export --frozen --no-dev --extra serve --quiet --preview-features sbom-export --format cyclonedx1.5 -o build/sbom.json > /dev/null
	@echo build/sbom.json

# By itself and not part of `check`: measured, it makes the same tests half as slow again.
coverage: $(VENV)/.dev  ## Lines of the ground floor that its fast tests reach, held to a floor
	@$(BIN)/coverage run -m pytest $(FAST_TESTS)
	@$(BIN)/coverage report

dev: $(VENV)/.run  ## The Dagster UI on the demo's home
	@test -d demo/home || $(BIN)/routing-pipeline demo
	@mkdir -p demo/home/dagster && printf 'telemetry:\n  enabled: false\nnux:\n  enabled: false\n' > demo/home/dagster/dagster.yaml
	@DAGSTER_HOME=$(CURDIR)/demo/home/dagster ROUTING_PIPELINE_HOME=$(CURDIR)/demo/home ROUTING_PIPELINE_LOGS=$(CURDIR)/demo/logs \
	ROUTING_PIPELINE_FEEDBACK=$(CURDIR)/demo/feedback $(BIN)/dagster dev -w workspace.yaml

# The site's tools are no part of the product or of its tests: uv keeps them apart.
docs: export NO_MKDOCS_2_WARNING := 1
docs: $(VENV)/.uv  ## The documents as a site, in build/site
	@$(BIN)/uv tool run --quiet --from mkdocs --with 'mkdocs-material>=9.5,<10' mkdocs build --quiet

# What it is held against has pins of its own, lies in an environment of its own and is in no lock file.
OTHERS := $(VENV)/others
$(OTHERS)/.done:
	@$(PYTHON) -m venv $(OTHERS)
	@$(OTHERS)/bin/pip install --quiet --disable-pip-version-check polars==2.1.0 chdb==4.4.0 pandas==3.1.1 toolkit-cost-optimizer==1.0.0
	@touch $@

bench: $(VENV)/.dev $(OTHERS)/.done  ## Speed and memory: one table of ratios measured in one run, into docs/benchmarks.md
	@$(BIN)/python benchmarks/ratios.py --others $(OTHERS)/bin/python --write docs/benchmarks.md

simulate: $(VENV)/.dev  ## Worlds with known truth, many times over: coverage, broken floors, savings; alerts and projections; an hour
	@for each in $(SIMULATIONS); do echo "== $$each"; $(BIN)/python $$each || exit 1; done

# Gateways are large and have pins of their own: each lies in an environment of its own, and the tests find it by name.
$(VENV)/.gateways:
	@$(PYTHON) -m venv $(GATEWAYS)/litellm && $(GATEWAYS)/litellm/bin/pip install --quiet 'litellm[proxy]'
	@$(PYTHON) -m venv $(GATEWAYS)/vllm-sr && $(GATEWAYS)/vllm-sr/bin/pip install --quiet --no-deps vllm-sr
	@$(GATEWAYS)/vllm-sr/bin/pip install --quiet click pyyaml jinja2 requests pydantic jsonschema
	@$(PYTHON) -m venv $(GATEWAYS)/cel && $(GATEWAYS)/cel/bin/pip install --quiet common-expression-language
	@! command -v npm >/dev/null || npm install --silent --prefix $(GATEWAYS)/portkey @portkey-ai/gateway
	@touch $@

loop: $(VENV)/.dev $(VENV)/.gateways  ## Exports in the gateways themselves (LiteLLM, Portkey, vLLM-SR; CEL for Bifrost; installed once), and a whole roll-out
	@ROUTING_PIPELINE_LITELLM_PYTHON=$(GATEWAYS)/litellm/bin/python ROUTING_PIPELINE_VLLM_SR=$(GATEWAYS)/vllm-sr/bin/vllm-sr \
	ROUTING_PIPELINE_CEL_PYTHON=$(GATEWAYS)/cel/bin/python \
	ROUTING_PIPELINE_PORTKEY=$(GATEWAYS)/portkey/node_modules/@portkey-ai/gateway/build/start-server.js \
	LOOP=1 $(BIN)/pytest -q tests/integration/test_litellm_router.py tests/integration/test_gateways_installed.py tests/integration/test_rollout_circle.py tests/integration/test_gateway_loop.py

clean:  ## Remove the demo and its home
	@rm -rf demo .coverage .pytest_cache .mypy_cache .ruff_cache
