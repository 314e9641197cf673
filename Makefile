# What people do here, each in one command. `make` alone lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests wait more than they work: four processes suit two cores. PYTEST_ARGS, as in: make test PYTEST_ARGS="-k retention -x"
JOBS ?= 4
PYTEST_ARGS ?=
# As in: make soak SOAK_ARGS="kills --scale 0.1"; `make soak SOAK_ARGS=--help` says what there is
SOAK_ARGS ?=
# As in: make matrix MATRIX_ARGS="--python 3.14 --redis valkey-9 --tests tests/unit"
MATRIX_ARGS ?=
# As in: make bench BENCH_ARGS="throughput --rounds 1"
BENCH_ARGS ?=

# As in: make containers CONTAINERS_ARGS="-k health"
CONTAINERS_ARGS ?=

# Hundreds of processes are started: each would compile the project anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo up contract rules provider test soak bench matrix alerts containers check trials newest sbom wheel audit tools programs lint types imports lock clean another-python

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/installed ## make .venv from the locked requirements

$(VENV)/installed: requirements/dev.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and "Python 3.11 or later is needed; this is %d.%d. Say which, as in: make PYTHON=python3.14 …" % v)'
	@$(PYTHON) -m sandbox.install $(VENV) requirements/dev.txt --editable
	@touch $@

# What there is already is made anew where PYTHON names another one, or its own Python is gone.
identity = $(shell $(1) -c 'import sys; print("%d.%d.%d:" % sys.version_info[:3] + sys.base_prefix)' 2>/dev/null)
wanted := $(if $(filter file,$(origin PYTHON)),%,$(call identity,$(PYTHON)))
$(foreach each,$(wildcard $(VENV) $(VENV)-*),$(if $(filter $(wanted),$(call identity,$(each)/bin/python)),,$(eval $(each)/installed: another-python)))
another-python:

demo: $(VENV)/installed ## see the main job end to end: Redis, providers, worker, records (ends by itself)
	@$(BIN)/python -m sandbox.demo

up: $(VENV)/installed ## the demo that stays: Redis, providers, a worker for each lane and Flower, until Ctrl-C
	@$(BIN)/python -m sandbox.up

contract: $(VENV)/installed ## write docs/schemas: the contract as JSON Schemas and AsyncAPI, from the models
	@$(BIN)/python -m tools.contract

rules: $(VENV)/installed ## write the alerts of deploy/prometheus into deploy/kubernetes
	@$(BIN)/python -m tools.prometheus_rules

provider: $(VENV)/installed ## a running start for a new provider, as in: make provider NAME=acme
	@$(BIN)/python -m tools.provider $(NAME)

test: $(VENV)/installed ## the test suite, against a real Redis, real HTTP and a real worker
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not tools and not containers and not alerts" $(PYTEST_ARGS)

soak: $(VENV)/installed ## long runs: hundreds of kills, restarts, stops, tens of thousands of odd entries (50 minutes)
	@$(BIN)/python -m soak $(SOAK_ARGS)

bench: $(VENV)-bench/installed $(VENV)-peers/installed $(VENV)-peers-arq/installed ## measure side by side with other task queues, and write docs/benchmarks.md (9 minutes)
	@$(VENV)-bench/bin/python -m bench $(BENCH_ARGS)

$(VENV)-%/installed: requirements/%.txt
	@$(PYTHON) -m sandbox.install $(VENV)-$* $<
	@touch $@

alerts: $(VENV)/installed programs ## fire each alert by a real fault, and end it by its runbook's command (on a quiet machine; 4 minutes)
	$(BIN)/python -m pytest -m alerts $(PYTEST_ARGS) tests/telemetry/test_alerts.py

containers: $(VENV)/installed $(VENV)-kubernetes/installed ## build the images, try docker-compose.yml and Kubernetes' pods with real engines, without a registry (as root, on Debian; 5 minutes)
	@$(BIN)/python -m tools.containers $(CONTAINERS_ARGS)

check: lint types imports trials ## lint, types, import rules, and the tests that need more than Python

trials: $(VENV)/installed $(VENV)-audit/installed $(VENV)-kubernetes/installed tools programs
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m tools $(PYTEST_ARGS)

# program:package of Debian
TOOLS := redis-server:redis-server chromium:chromium promtool:prometheus node:nodejs npm:npm ip:iproute2 systemd-analyze:systemd

tools: examples/node/node_modules tests/node/node_modules ## install what those tests need, of Debian's packages (as root, or with sudo) and npm's

programs:
	@missing=""; for each in $(TOOLS); do command -v $${each%%:*} >/dev/null || missing="$$missing $${each##*:}"; done; \
	test -z "$$missing" || { sudo=$$(test "$$(id -u)" = 0 || echo sudo); \
		$$sudo apt-get update -q && RUNLEVEL=1 $$sudo apt-get install -q -y --no-install-recommends $$missing; }

%/node_modules: %/package-lock.json | programs
	cd $* && npm ci --no-fund --no-audit --loglevel=error
	@touch $@

newest: $(VENV)/installed ## the seam and the unit tests with the newest releases, upper bounds lifted (weekly, not in CI)
	$(PYTHON) -m venv --clear $(VENV)-newest
	$(BIN)/python -m tools.newest > $(VENV)-newest/requirements.txt
	$(VENV)-newest/bin/python -m pip install -q --disable-pip-version-check -r $(VENV)-newest/requirements.txt
	$(VENV)-newest/bin/python -m pip install -q --disable-pip-version-check --no-deps --editable .
	$(VENV)-newest/bin/python -m pytest tests/unit/test_seam.py
	$(VENV)-newest/bin/python -m pytest -n $(JOBS) tests/unit $(PYTEST_ARGS)

matrix: $(VENV)/installed ## the tests on Python 3.11 to 3.15, and on Redis 6.2 to 8 and Valkey 8 and 9 (an hour)
	@$(BIN)/python -m tools.matrix --jobs $(JOBS) $(MATRIX_ARGS)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

types: $(VENV)/installed
	$(BIN)/mypy

imports: $(VENV)/installed
	$(BIN)/lint-imports

# What is deployed, and what builds it, has the versions that the tests had.
lock: ## renew requirements/*.txt from pyproject.toml (needs uv), and what is made of them
	for extra in dev worker simulator bench audit; do \
		uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
			--no-emit-package cardtoken --extra $$extra $$(test $$extra = dev || echo --constraints requirements/dev.txt) \
			--upgrade -q pyproject.toml -o requirements/$$extra.txt || exit; \
	done
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--group image --constraints requirements/dev.txt --upgrade -q -o requirements/image.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--group kubernetes --upgrade -q -o requirements/kubernetes.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--group compose --upgrade -q -o requirements/compose.txt
	$(MAKE) sbom

sbom: $(VENV)/installed ## write deploy/sbom and docs/licences.md from the locks
	@$(BIN)/python -m tools.sbom
	@$(BIN)/python -m tools.licence_page

wheel: $(VENV)/installed ## build dist/ with the locked tools: wheel and sdist, the same bytes from each checkout
	rm -rf dist
	$(BIN)/python -m build --quiet --no-isolation --outdir dist .
	sha256sum dist/*

audit: $(VENV)-audit/installed ## ask for known vulnerabilities of what is locked (needs a network, not in CI)
	@$(VENV)-audit/bin/python -m tools.audit

clean: ## remove what the above made
	rm -rf $(VENV) $(VENV)-* examples/node/node_modules tests/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
