# Thin on purpose: every target makes its environment, then calls `secryn` or a tool.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests mostly wait for servers, so there is one more of these than there are cores.
TEST_WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help env dev-env demo up down status test test-containers test-external test-all test-faults test-deps check bench kafka-lock lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

env: $(VENV)/.runtime ## Make .venv with all that `secryn` needs
dev-env: $(VENV)/.dev ## Add the tools of the tests to .venv

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv "$(VENV)"

$(VENV)/.runtime: requirements/runtime.txt requirements/build.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/build.txt -r requirements/runtime.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

demo: env ## The main job, end to end, on real parts; proves it and exits
	@$(BIN)/python -m cli.main demo

up: env ## Start the stack in .secryn/ and leave it running
	@$(BIN)/python -m cli.main up

down: env ## Stop it
	@$(BIN)/python -m cli.main down

status: env ## Show it
	@$(BIN)/python -m cli.main status

test: dev-env test-deps ## Run the tests
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder --durations=12

# Which tests: of docker-compose.yml (pytest -k), and of those that take their servers from containers.
COMPOSE_TESTS ?=
STACK_TESTS ?= tests/integration
test-containers: dev-env ## Run docker-compose.yml, and the tests in containers (needs Docker)
	$(BIN)/python -m pytest --containers tests/containers -k "$(COMPOSE_TESTS)" --durations=5
	$(BIN)/python -m pytest --stack=containers -n $(TEST_WORKERS) --dist loadfile --durations=5 $(STACK_TESTS)

EXTERNAL_TESTS ?= tests/integration
test-external: dev-env ## Run the tests on servers that run already, as an operator's own do
	$(BIN)/python -m tests.external --durations=5 $(EXTERNAL_TESTS)

test-all: dev-env test-deps ## Run those of minutes, and every crash point with every part killed, too (an hour and more)
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder --long --all-faults

# Which of them: make test-faults FAULTS="restore.cut_over" (pytest -k).
FAULTS ?=
test-faults: dev-env ## Kill every part, and all at once, at every crash point
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder --all-faults tests/faults -k "$(FAULTS)"

test-deps: tests/interop/node_modules/.installed ## Fetch another implementation of age to test against

tests/interop/node_modules/.installed: tests/interop/package.json tests/interop/package-lock.json
	@if command -v npm >/dev/null; then \
		npm ci --prefix tests/interop --loglevel=error --no-audit --no-fund --ignore-scripts --omit-lockfile-registry-resolved=true && touch $@; \
	else \
		echo "npm is missing: the tests against npm's age-encryption will be skipped (with CI set, they fail)"; \
	fi

check: dev-env ## Lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

bench: dev-env ## Measure; prints the figures that the docs quote
	$(BIN)/python -m bench

kafka-lock: env ## Make the lock of Kafka's jars anew (needs Maven)
	$(BIN)/python -m deploy.embedded.lock_jars

lock: ## Make the hashed requirements anew (needs uv)
	uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --universal --python-version 3.11 --extra embedded pyproject.toml -o requirements/runtime.txt
	uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --universal --python-version 3.11 -c requirements/runtime.txt pyproject.toml -o requirements/services.txt
	uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --universal --python-version 3.11 --extra dev -c requirements/runtime.txt pyproject.toml -o requirements/dev.txt
	uv pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --universal --python-version 3.11 requirements/build.in -o requirements/build.txt

clean: ## Remove the environment and the caches of the tools
	rm -rf "$(VENV)" .mypy_cache .ruff_cache .pytest_cache .hypothesis
