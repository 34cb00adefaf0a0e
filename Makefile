# Every target says in `make help` what it does. Anything heavy is cached outside the checkout, by version.
# The first Python that is new enough; python3 where there is none, for the message below.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; python=python3; done; echo $$python)
VENV := .venv
BIN := $(VENV)/bin
FEED ?= manifests/examples/binance-spot.yaml
QUIET := $(shell test -t 2 || echo -q)  # pip shows its progress to a person, and is silent in a log

# Spark is in the lock of its image alone: it is several times the size of all the rest.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
  pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help setup demo test analytics-test operator-test chart-test e2e images cluster cluster-down kind kind-down \
  control-plane control-plane-down check bench generate clean

help: ## Say what there is
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## Make .venv with every dependency, locked by hash, and .venv/bin/marketfeed

# venv's own pip is missing on some distributions: the pip that is there then installs one.
$(VENV)/.ready: requirements.lock pyproject.toml
	@echo "marketfeed: making $(VENV) with the locked dependencies (about 120 MB the first time, half a minute)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "marketfeed needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Set PYTHON=..."; exit 2; }
	@$(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 || \
	  { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install -q pip; }
	@$(BIN)/python -m pip install $(QUIET) --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## Run a live feed on this machine (DEMO_FOR=45s ends by itself with the proof)
	@$(BIN)/marketfeed up $(FEED) $(if $(DEMO_FOR),--for $(DEMO_FOR))

test: setup ## Run the tests, on real Kafka and PostgreSQL (started by the tests, on loopback)
	@$(BIN)/pytest --ignore tests/analytics --ignore tests/operator --ignore tests/charts --ignore tests/cluster

analytics-test: setup ## Run the streaming job's tests, on a real Spark (fetched the first time), Kafka and PostgreSQL
	@$(BIN)/pytest tests/analytics

operator-test: setup ## Run the operator's tests on a real Kubernetes API server (built from Go modules the first time)
	@$(BIN)/pytest tests/operator

chart-test: setup ## Run the charts' tests: rendered by helm, every object tried on a real API server
	@$(BIN)/pytest tests/charts

e2e: setup ## Run the end-to-end tests on a real node: the one of `make cluster`, else one of their own (Linux, root)
	@$(BIN)/pytest tests/cluster

images: setup ## Build the images with docker or buildah; print their sizes
	@PYTHONPATH=tests $(BIN)/python -m images build

cluster: setup ## Leave a real Kubernetes node running here, without Docker: images, charts, a feed (Linux, root)
	@PYTHONPATH=tests $(BIN)/python -m stand up

cluster-down: setup ## End that node and remove what it held
	@PYTHONPATH=tests $(BIN)/python -m stand down

kind: ## Leave a kind cluster running (Docker): Strimzi, Spark, monitoring, images, charts, a feed
	@manifests/kind/up.sh

kind-down: ## Remove that kind cluster
	@manifests/kind/down.sh

control-plane: setup ## Leave a real Kubernetes control plane running on this machine, with the operator; say how to use it
	@PYTHONPATH=tests $(BIN)/python -m controlplane up

control-plane-down: setup ## End that control plane and remove what it held
	@PYTHONPATH=tests $(BIN)/python -m controlplane down

check: setup ## Lint, format, types, architecture
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/shellcheck --external-sources $$(git grep -lE '^#!.*sh$$' -- ':!*.py')

bench: setup ## Measure: each line is JSON with a ratio within this run and its target (BENCH="store --rounds 3")
	@PYTHONPATH=tests $(BIN)/python -m benchmarks $(BENCH)

generate: setup ## Make again what is generated: crds, the chart's copies, dashboards, requirements.lock and the locks of fetched components
	@$(LOCK) --extra operator --extra services --extra dev -o requirements.lock
	@$(LOCK) --extra operator -c requirements.lock -o operator/requirements.lock
	@$(LOCK) --extra services -c requirements.lock -o services/requirements.lock
	@$(LOCK) --extra analytics -c requirements.lock -o services/requirements-analytics.lock
	@$(LOCK) --extra build -c requirements.lock -o services/requirements-build.lock
	@$(BIN)/python -m marketfeed.local.relock
	@$(BIN)/python -m marketfeed_operator.crd
	@$(BIN)/python -m marketfeed_operator.rbac --rules > charts/marketfeed-operator/files/rbac.yaml
	@$(BIN)/python -m marketfeed_operator.chart_settings
	@$(BIN)/python -m marketfeed_operator.dashboards
	@PYTHONPATH=tests $(BIN)/python -m controlplane.relock

clean: ## Remove what setup and the tools left in the checkout
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
