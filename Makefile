# `make help` lists what there is. Everything runs in .venv, made from the hashed lists in requirements/.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-fast test-integration lint format lock clean bench bench-quick bench-embedder synth bootstrap deploy destroy env e2e browser layers audit-infra aws-check coldstart

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@/ {printf "\n\033[1m%s\033[0m\n", substr($$0, 5)} \
	  /^[a-zA-Z0-9_-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Use it
demo: $(VENV)/run ## Run real photos through the whole system on this machine
	$(BIN)/abeyance demo

serve: $(VENV)/run ## Serve S3, SQS, DynamoDB and EventBridge at one local URL
	$(BIN)/abeyance serve

##@ Work on it
PYTEST := $(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

test: $(VENV)/dev lint chromium go ## Run every check and every test, on all cores
	$(PYTEST)

test-fast: $(VENV)/dev ## Run the unit tests, the properties and the template tests
	$(PYTEST) tests/unit tests/infra -m "not slow"

test-integration: $(VENV)/dev ## Run the tests over moto and with real models
	$(PYTEST) tests/integration

e2e: $(VENV)/dev ## Deploy to an emulator on this machine and run photos through it
	$(BIN)/python -m pytest tests/e2e/test_deploy.py tests/e2e/test_vector_index.py tests/e2e/test_aws_check.py

browser: $(VENV)/dev chromium ## Drive the console in Chromium
	$(BIN)/python -m pytest tests/e2e/console

.PHONY: chromium
chromium: # Debian's, where this user may install it; without it the browser tests are skipped and say so
	@command -v chromium chromium-browser >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || \
	  echo "No Chromium here: the browser tests are skipped. Install your system's package chromium to run them."

.PHONY: go
go: # Debian's Go, its x/mod and AWS SDK, to which the ledger's formats and the API are shown; without them these tests are skipped and say so
	@[ -d /usr/share/gocode/src/golang.org/x/mod/sumdb ] && [ -d /usr/share/gocode/src/github.com/aws/aws-sdk-go-v2/service/rekognition ] && command -v go >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends golang-go golang-golang-x-mod-dev golang-github-aws-aws-sdk-go-v2-dev >/dev/null; } || \
	  echo "No Go here: the ledger is not shown to somebody else's code, nor the API to Go's SDK. Install golang-go, golang-golang-x-mod-dev and golang-github-aws-aws-sdk-go-v2-dev to do so."

lint: $(VENV)/dev ## Check style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev ## Put the code into the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

##@ Measure it
bench: $(VENV)/dev ## Measure everything beside its alternatives; writes docs/benchmarks.md
	$(BIN)/python -m benchmarks all --out docs --against docs/benchmarks.json $(BENCH_ARGS)

bench-quick: $(VENV)/dev ## The same in two minutes; flags ratios that have fallen
	$(BIN)/python -m benchmarks all --quick --against docs/benchmarks.json $(BENCH_ARGS)

bench-embedder: $(VENV)/dev ## Measure the embedding endpoint: throughput, latency, roofline
	$(BIN)/python -m benchmarks embedder $(BENCH_ARGS)

coldstart: $(VENV)/dev ## Measure every function's cold start, broken down by import
	$(BIN)/python -m infra.coldstart

##@ Deploy it
synth: $(VENV)/dev ## Write the CloudFormation templates, checked by cdk-nag
	$(BIN)/abeyance models fetch
	$(BIN)/python -m infra.cdk synth --all --quiet $(CONTEXT)

bootstrap: $(VENV)/dev ## Prepare the account and region of your credentials for the CDK, once
	$(BIN)/python -m infra.cdk bootstrap $(CONTEXT)

deploy: $(VENV)/dev ## Deploy to the AWS account of your credentials
	$(BIN)/abeyance models fetch
	$(BIN)/python -m infra.cdk deploy --all $(CONTEXT)

destroy: $(VENV)/dev ## Take the deployment away again, all but its state
	$(BIN)/python -m infra.cdk destroy --all $(CONTEXT)

env: $(VENV)/dev ## Print the deployment's settings for your shell: eval "$$(make -s env)"
	@$(BIN)/python -m infra.outputs

layers: $(VENV)/dev ## Build the Lambda layers, without Docker
	$(BIN)/python -m infra.layers

audit-infra: $(VENV)/dev ## Check the templates with cdk-nag, cfn-lint and checkov
	$(BIN)/python -m infra.audit

aws-check: $(VENV)/dev ## Check what is assumed of AWS in the account of your credentials
	$(BIN)/python -m infra.awscheck

##@ Keep it
lock: $(VENV)/dev ## Make the hashed lists in requirements/ again from pyproject.toml
	$(BIN)/uv pip compile $(COMPILE) --extra local -o requirements/run.txt
	$(BIN)/uv pip compile $(COMPILE) --extra dev -o requirements/dev.txt
	for list in emulator audit; do $(BIN)/uv pip compile requirements/$$list.in --universal --python-version 3.11 --generate-hashes --no-header --quiet --upgrade -o requirements/$$list.txt; done
	$(BIN)/uv pip compile requirements/bench.in --override requirements/bench-overrides.txt --universal --python-version 3.11 --generate-hashes --no-header --quiet --upgrade -o requirements/bench.txt
	$(BIN)/python -m infra.layers lock

clean: ## Remove everything that was made here
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache cdk.out build dist

COMPILE := pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --quiet --upgrade

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/run: requirements/run.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/run.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/run
