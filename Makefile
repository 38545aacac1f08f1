# Everything a person or a CI runs here. `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run build test check generate bench compose-check e2e roll clean-dev

CACHE  := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/roadstead
TARGET := $(or $(CARGO_TARGET_DIR),target)
MUSL   := $(shell uname -m)-unknown-linux-musl
# rustup's folder is often not on root's PATH; the tools folders are where scripts/ensure-tools.sh puts what was missing.
TOOLS  := $(CACHE)/tools/postgresql/bin:$(CACHE)/tools/redis/bin:/var/cache/roadstead/tools/postgresql/bin:/var/cache/roadstead/tools/redis/bin
ifeq ($(ROADSTEAD_TOOLS),private)
export PATH := $(TOOLS):$(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
else
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(TOOLS)
endif
# ring's few C files: gcc is enough, musl-tools need not be installed.
export CC_$(subst -,_,$(MUSL)) := gcc

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

ifeq ($(LAUNCHER),kubernetes)
run:
	@scripts/ensure-tools.sh rust compiler
	cargo build --release --locked -p roadstead-cli
	@exec scripts/e2e/play.sh
else
run: ## Build, then run the whole stack with a sample until Ctrl-C (ARGS="--port 9000 …"; LAUNCHER=kubernetes: in a cluster)
	@scripts/ensure-tools.sh
	@$(MAKE) --no-print-directory build
	@exec $(TARGET)/release/roadstead dev $(ARGS)
endif

roll: ## Build, then replace the programs in the cluster of `make run LAUNCHER=kubernetes` (ARGS="worker")
	@scripts/e2e/roll.sh $(ARGS)

build: ## Build all four programs into target/release/
	@scripts/ensure-tools.sh rust compiler
	cargo build --release --locked -p roadstead-api -p roadstead-worker -p roadstead-cli
	cargo build --profile executor --target $(MUSL) --locked -p roadstead-executor
	@cmp -s $(TARGET)/$(MUSL)/executor/roadstead-executor $(TARGET)/release/roadstead-executor || \
	  install -m 755 $(TARGET)/$(MUSL)/executor/roadstead-executor $(TARGET)/release/roadstead-executor

test: ## Run every test (with CI=true, the checks of `make check` too)
	@scripts/ensure-tools.sh
	@scripts/test.sh $(ARGS)

check: ## Formatting, lints, dependencies, scripts
	@scripts/ensure-tools.sh rust compiler
	@scripts/check.sh

generate: ## Write the generated files anew: the state diagram, the OpenAPI document, the snapshots
	@scripts/ensure-tools.sh rust compiler
	UPDATE_GENERATED=1 INSTA_UPDATE=always cargo test --locked --lib -p roadstead-domain -p roadstead-api

bench: ## Measure, each figure beside its control: a table and JSON (ARGS="--help")
	@scripts/ensure-tools.sh
	@$(MAKE) --no-print-directory build
	cargo run --release --locked -p roadstead-benches -- $(ARGS)

compose-check: ## Prove docker-compose.yml on a real engine, with stand-ins for images that can't be pulled
	@scripts/ensure-tools.sh rust
	@scripts/compose-check.sh

e2e: ## Prove everything on a real Kubernetes: cluster, chart, example, upgrade, uninstallation (root)
	@scripts/ensure-tools.sh rust compiler
	@scripts/e2e.sh

clean-dev: ## Remove what `make run` keeps in .dev/, unless it is running
	@[ ! -e .dev/lock ] || flock --nonblock .dev/lock true || { echo 'roadstead dev is running here: stop it first' >&2; exit 1; }
	rm -rf .dev
	@# Where root keeps PostgreSQL's data when no other account can get into this folder.
	@rm -rf "/var/tmp/roadstead-$$(printf %s "$$(pwd -P)/.dev/postgres" | sha256sum | cut -c 1-16)"
