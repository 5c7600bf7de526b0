# `make up` runs the whole stack, `make test` runs all checks. Each target installs what it needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3 python,\
	$(shell $(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)))
VENV := .venv
DOCS_PORT ?= 8000
RUNNING := $(VENV)/.running
DEVELOPING := $(VENV)/.developing
PIP := $(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt
WORKERS ?= 4
PYTEST := $(VENV)/bin/pytest --numprocesses $(WORKERS) --dist loadgroup
# Tools of Node.js for some tests. Without npm these tests are skipped.
NODE_TOOLS := $(if $(shell command -v npm),$(patsubst %/package-lock.json,%/node_modules/.package-lock.json,$(wildcard tests/*/package-lock.json)))
RESTATE := benchmarks/peers/restate/node_modules/.package-lock.json
N8N := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/hogsend/peers/n8n
IS_NEW_ENOUGH := -c "import sys; sys.exit(sys.version_info < (3, 11))"

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ \
		line = sprintf("  make %-14s", $$1); \
		for (i = 1; i <= split($$2, words, " "); i++) { \
			if (length(line words[i]) >= 80) { print line; line = sprintf("%21s", "") } \
			line = line " " words[i] \
		} \
		print line }'

install: $(RUNNING) ## Install the pinned dependencies into .venv

install-dev: $(DEVELOPING) ## Install the dependencies of tests, checks and documentation too

up: $(RUNNING) ## Run the whole stack on this machine; Ctrl-C stops it
	@exec $(VENV)/bin/hogsend up

sandbox: $(RUNNING) ## Run the whole stack with the sandbox, a stand-in for PostHog
	@exec $(VENV)/bin/hogsend up --sandbox

demo: $(RUNNING) ## Run a stack and the sandbox, and follow an event through both
	@exec $(VENV)/bin/hogsend demo

check: $(DEVELOPING) ## Run lint, types and the tests without servers, in parallel
	@$(MAKE) --no-print-directory --jobs 3 --output-sync=target lint types unit

test: $(DEVELOPING) ## Run lint, types and all tests, in WORKERS processes
	@$(MAKE) --no-print-directory --jobs 4 --output-sync=target lint types node-tools bytecode
	@$(PYTEST)

# One worker for each core: every worker collects all tests, and these tests wait for nothing.
unit: $(DEVELOPING)
	@$(PYTEST) --numprocesses auto tests/unit

lint: $(DEVELOPING)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/python -m docs.generate --check

types: $(DEVELOPING)
	@$(VENV)/bin/mypy

# Compiles once instead of in every worker. Modules that fail to import are reported by the run.
bytecode: $(DEVELOPING)
	@env -u PYTHONDONTWRITEBYTECODE $(VENV)/bin/pytest --numprocesses 0 --collect-only --quiet >/dev/null 2>&1 || true

node-tools: $(NODE_TOOLS)

tests/%/node_modules/.package-lock.json: tests/%/package-lock.json
	@cd $(<D) && npm ci --silent --ignore-scripts
	@touch $@

$(RESTATE): benchmarks/peers/restate/package-lock.json
	@cd benchmarks/peers/restate && npm ci --silent --ignore-scripts
	@touch $@

fuzz: $(DEVELOPING) ## Run the property tests with fifty times as many examples
	@$(PYTEST) -m hypothesis --hypothesis-profile thorough --timeout 1800 tests/unit

matrix: ## Run lint and the unit tests with every installed Python from 3.11 to 3.13
	@exec .ci/matrix

chaos: $(DEVELOPING) ## Kill, freeze and disconnect everything under load for 20 minutes, then count events
	@exec $(VENV)/bin/python -m tests.chaos --outages $(if $(SEED),--seed $(SEED))

chaos-cluster: $(DEVELOPING) ## The same with three NATS servers and two of each service
	@exec $(VENV)/bin/python -m tests.chaos --cluster $(if $(SEED),--seed $(SEED))

chaos-order: $(DEVELOPING) ## Kill and freeze eight replicas of ingest for five minutes, then check the order
	@exec $(VENV)/bin/python -m tests.chaos --order 8 --seconds 300 --rate 100 $(if $(SEED),--seed $(SEED))

secrets: ## Generate the passwords and keys of a deployment, in deploy/secrets
	@$(or $(PYTHON),python3) deploy/generate_secrets.py

bench: $(DEVELOPING) ## Run all benchmarks and write docs/benchmarks.md (README=1: the README too); needs wrk
	@exec $(VENV)/bin/python -m benchmarks --report $(if $(README),--readme)

bench-peers: $(DEVELOPING) $(if $(shell command -v npm),$(RESTATE)) ## Benchmark other products and this one, and write docs/peers.md; needs wrk and, for Restate, npm
	@exec $(VENV)/bin/python -m benchmarks.peers

n8n: ## Install n8n for bench-peers, 3 GB outside this directory; needs npm
	@mkdir -p $(N8N) && cp benchmarks/peers/n8n/package.json $(N8N)
	@cd $(N8N) && npm install --silent --ignore-scripts --no-package-lock --no-audit --no-fund

bench-against: $(DEVELOPING) ## Compare this commit with another one (COMMIT=main~1 PARTS="ingest cost"); needs wrk
	@exec $(VENV)/bin/python -m benchmarks.against $(COMMIT) $(PARTS)

bench-growth: $(DEVELOPING) ## Benchmark storing and reading with up to 10 million events (EVENTS="0 100000": other sizes)
	@exec $(VENV)/bin/python -m benchmarks.growth $(EVENTS)

generate: $(DEVELOPING) ## Write the documents that are generated from the code
	@$(VENV)/bin/python -m docs.generate

docs: $(DEVELOPING) ## Build the documentation, and serve it at DOCS_PORT (8000)
	@echo "building the documentation, which takes up to a minute"
	@$(VENV)/bin/sphinx-build -q -W --keep-going docs dist/docs
	@echo "the documentation is at http://127.0.0.1:$(DOCS_PORT); Ctrl-C stops it"
	@exec $(VENV)/bin/python -m http.server --bind 127.0.0.1 --directory dist/docs $(DOCS_PORT) 2>/dev/null

clean: ## Remove the virtual environment, built documentation and caches; keeps .hogsend
	@rm -rf $(VENV) dist/docs .matrix tests/*/node_modules benchmarks/peers/restate/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(RUNNING): pyproject.toml shared/pyproject.toml constraints.txt
	@$(or $(PYTHON),false) $(IS_NEW_ENOUGH) 2>/dev/null || { \
		echo "error: Hogsend needs Python 3.11 or newer$(if $(PYTHON),; $(PYTHON) is not)" >&2; \
		echo "  fix: make $(or $(MAKECMDGOALS),install) PYTHON=/path/to/a/newer/python" >&2; exit 1; }
	@echo "installing into $(VENV) with $(PYTHON), which takes about a minute"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --editable './shared[service]' --editable '.[embedded]'
	@touch $@

$(DEVELOPING): $(RUNNING)
	@echo "installing the dependencies of tests and checks, which takes a minute or two"
	@$(PIP) --no-compile --editable './shared[service]' --editable '.[embedded,dev,docs]'
	@touch $@

.PHONY: help install install-dev up sandbox demo check test unit lint types bytecode node-tools fuzz matrix chaos chaos-cluster chaos-order secrets bench bench-peers n8n bench-against bench-growth generate docs clean
