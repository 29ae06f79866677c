# One command per task, for people, pre-commit and CI alike. Needs make and Python 3.11+; everything else it fetches
# itself from the locked lists. Written for GNU make 3.81, which is what macOS ships.

PORT ?= 8094
STATE ?= .local
PYTEST ?= -n 2
ENV ?= dev
RUNTIME ?= python3.13
ARCHITECTURE ?= arm64
ADAPTER_VERSION ?= 1.0.0-rc1
export PORT STATE
export PYTHONPATH = $(CURDIR)/layers/common

# A version manager's shim may exist and still not run, so each candidate has to answer.
PYTHON ?= $(shell for candidate in python3.13 python3.12 python3.11 python3; do \
	if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$candidate; break; fi; done)
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run test test-host lint fmt bench bench-host load cost encodings build validate rehearse deploy destroy local lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv/.stamp .venv/ministack/.stamp encodings ## The whole gateway here: PORT=8094 STATE=.local; Ctrl-C ends it
	@exec $(BIN)/python -m infra.local.stack

test: .venv/.stamp .venv/ministack/.stamp encodings ## Every test; PYTEST="-k words" to choose
	@$(BIN)/python -m pytest $(PYTEST)

test-host: .venv/.stamp .venv/ministack/.stamp .venv/sam/.stamp encodings adapter ## The relay behind the real Lambda Web Adapter and AWS's Runtime Interface Emulator
	@$(BIN)/python -m pytest -m '' tests/host

lint: .venv/.stamp ## Style, format, types, import direction
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fmt: .venv/.stamp ## Format and fix what can be fixed
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

bench: .venv/.stamp .venv/ministack/.stamp .venv/bench/.stamp encodings ## Sluice beside LiteLLM and the bare upstream, one table
	@$(BIN)/python -m benchmarks.relay_bench

load: .venv/.stamp .venv/ministack/.stamp encodings ## 200 streams at once on `make run` for a minute, and what is left of them: LOAD="--streams 50"
	@$(BIN)/python -m benchmarks.load $(LOAD)

cost: .venv/.stamp .venv/ministack/.stamp encodings ## What a million requests cost, and where servers are cheaper: COST="--count" counts anew
	@$(BIN)/python -m benchmarks.cost $(COST)

bench-host: .venv/.stamp .venv/ministack/.stamp encodings adapter ## Cold start and cost of what can stand between Lambda and the relay, one table
	@$(BIN)/python -m benchmarks.cold_start $(HOST)

# From the public registry, with the lock it was published with. Without cargo the tests that need it skip, and say so.
ADAPTER := build/adapter/bin/lambda-adapter
.PHONY: adapter
adapter:
	@if [ ! -x $(ADAPTER) ] && command -v cargo >/dev/null 2>&1; then \
		echo 'building the Lambda Web Adapter $(ADAPTER_VERSION)'; \
		CARGO_TARGET_DIR=build/adapter/target cargo install --quiet --locked --root build/adapter \
			--version $(ADAPTER_VERSION) lambda_web_adapter && rm -rf build/adapter/target; \
	fi

encodings: .venv/.stamp ## The tokenizer's tables, checked by their hash
	@$(BIN)/python layers/common/fetch_encodings.py

build: .venv/sam/.stamp ## Functions and layer as they are deployed, without Docker: RUNTIME=python3.13 ARCHITECTURE=arm64
	@.venv/sam/bin/python layers/common/fetch_encodings.py
	@$(call sam_build,$(RUNTIME),$(ARCHITECTURE),.aws-sam/build)
	@.venv/sam/bin/python -m infra.deploy.built .aws-sam/build $(RUNTIME)

validate: .venv/sam/.stamp ## Every template, by SAM and by cfn-lint
	@for template in template.yaml infra/*.yaml; do \
		SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 .venv/sam/bin/sam validate --lint --template $$template || exit 1; done
	@.venv/sam/bin/cfn-lint --regions us-east-1 -- template.yaml infra/*.yaml

rehearse: .venv/.stamp .venv/ministack/.stamp .venv/sam/.stamp encodings ## The built stack on the local AWS through CloudFormation, and a session on it
	@[ "$$(uname -s)" = Linux ] || { echo "sluice: the layer's wheels are for Linux, and the local AWS runs them here: make rehearse needs Linux" >&2; exit 1; }
	@$(call sam_build,$(LOCAL_RUNTIME),$(LOCAL_ARCHITECTURE),.aws-sam/rehearsal)
	@.venv/sam/bin/python -m infra.deploy.built .aws-sam/rehearsal $(LOCAL_RUNTIME)
	@$(BIN)/python -m infra.deploy.rehearsal .aws-sam/rehearsal

deploy: known-env build ## To AWS: ENV=dev|prod, parameters in samconfig.toml; asks everything the first time
	@.venv/sam/bin/python -m infra.deploy.aws deploy $(ENV) Runtime=$(RUNTIME) Architecture=$(ARCHITECTURE)

.PHONY: known-env
known-env:
	@case '$(ENV)' in dev|prod) ;; *) echo "sluice: ENV is dev or prod, not '$(ENV)'" >&2; exit 1;; esac

destroy: known-env .venv/sam/.stamp ## ENV=dev: the stack, never its tables, keys and bucket; refuses prod
	@.venv/sam/bin/python -m infra.deploy.aws destroy $(ENV)

local: ## The built functions in Lambda's own containers (needs Docker): PORT=8094
	@docker info >/dev/null 2>&1 || { echo "sluice: make local needs a running Docker, and there is none; make run is the whole gateway without it" >&2; exit 1; }
	@$(MAKE) build
	@.venv/sam/bin/python -m infra.deploy.one_stack .aws-sam/build
	@SAM_CLI_TELEMETRY=0 .venv/sam/bin/sam local start-api --template .aws-sam/build/local.yaml --host 127.0.0.1 --port $(PORT) \
		--parameter-overrides Runtime=$(RUNTIME) Architecture=$(ARCHITECTURE)

# What runs the functions of the local AWS is its own interpreter. SAM's builder is told of it and the template is not: what it says
# is checked against what Lambda has.
LOCAL_RUNTIME = python$(shell .venv/ministack/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
LOCAL_ARCHITECTURE = $(shell uname -m | sed s/aarch64/arm64/)

# $(call sam_build,<runtime>,<architecture>,<folder>); an interpreter that only a venv has can write its bytecode too
sam_build = PATH="$$PATH:$(CURDIR)/.venv/ministack/bin" SAM_CLI_TELEMETRY=0 PYTHON='$(CURDIR)/.venv/sam/bin/python' RUNTIME=$(1) ARCHITECTURE=$(2) \
	.venv/sam/bin/sam build --build-dir $(3) --parameter-overrides Architecture=$(2)

# The index that answered does not belong in the lists: they are the same everywhere.
LOCK = uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

lock: ## Lock the requirements again (needs uv); LOCK_ARGS="--upgrade" for newer ones
	@$(LOCK) $(LOCK_ARGS) -o layers/common/requirements.txt layers/common/requirements.in
	@for name in dev ministack sam bench; do $(LOCK) $(LOCK_ARGS) -o requirements/$$name.txt requirements/$$name.in || exit 1; done

clean: ## Everything these targets made, except the state of `make run`
	rm -rf .venv .aws-sam build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call venv,<folder>,<locked list>): a virtual environment of exactly that list; with uv where there is one. The lists are
# complete, and pip with hashes stumbles over extras: hence --no-deps.
define venv
@set -e; python='$(PYTHON)'; \
if [ -z "$$python" ]; then \
	echo 'sluice: no Python 3.11 or newer found (tried python3.13, python3.12, python3.11, python3); install one, or name it: make PYTHON=/path/to/python3' >&2; exit 1; \
fi; \
echo "making $(1) from $(2)"; \
if command -v uv >/dev/null 2>&1; then \
	[ -x $(1)/bin/python ] || uv venv --quiet --allow-existing --python "$$python" $(1); \
	uv pip sync --quiet --python $(1)/bin/python --require-hashes $(2); \
else \
	$(1)/bin/python -m pip --version >/dev/null 2>&1 || "$$python" -m venv $(1); \
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(2); \
fi; \
touch $(1)/.stamp
endef

.venv/.stamp: requirements/dev.txt
	$(call venv,.venv,requirements/dev.txt)

.venv/ministack/.stamp: requirements/ministack.txt | .venv/.stamp
	$(call venv,.venv/ministack,requirements/ministack.txt)

.venv/bench/.stamp: requirements/bench.txt | .venv/.stamp
	$(call venv,.venv/bench,requirements/bench.txt)

.venv/sam/.stamp: requirements/sam.txt
	$(call venv,.venv/sam,requirements/sam.txt)
