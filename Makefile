# `make demo` and `make test` are all a newcomer needs; they bring what is missing, and say so.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help build demo test test-long sim soak cloud-up cloud-down cloud-test cloud-test-long bench-recovery bench-fence bench-detect bench-detect-real watchdog-test lint deny purity fix setup clean

# Where rustup puts cargo, for shells that have not read its profile.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

# Clusters that `make sim` and `make soak` simulate, the first seed, their hypervisors, and threads.
SEEDS ?= 2000
FIRST ?= 0
HOSTS ?= 5..64
THREADS ?= 2

# Servers on the host that dies in `make bench-recovery`, one round each.
SERVERS ?= 6,20

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: ## build the daemon rekindled and the command rekindle
	@scripts/setup.sh build
	cargo build --locked --bin rekindled --bin rekindle

demo: ## a host dies, is fenced, its servers run elsewhere: ARGS="--fault freeze --kill follower"
	@scripts/setup.sh demo
	cargo run --locked --bin demo -- $(ARGS)

test: ## everything CI runs, stage by stage
	@scripts/test.sh

test-long: ## the same, with thousands of simulated clusters
	@scripts/test.sh long

sim: ## simulate many clusters: SEEDS=2000 FIRST=0
	@scripts/setup.sh build
	REKINDLE_SIM_SEEDS=$(SEEDS) REKINDLE_SIM_FIRST=$(FIRST) cargo test --workspace --locked --test cluster -- --nocapture

soak: ## the same with a report, shrunk failures and release code: SEEDS=20000 FIRST=0 HOSTS=5..64 THREADS=2
	@scripts/setup.sh build
	cargo build --locked --release --bin rekindle
	REKINDLE_COMMIT=$$(git rev-parse --short HEAD 2>/dev/null || echo unknown) target/release/rekindle sim random \
	  --seeds $(SEEDS) --first-seed $(FIRST) --hosts $(HOSTS) --threads $(THREADS) --json target/soak.json

cloud-up: ## start the real cloud of the tests, for work by hand
	@scripts/setup.sh build
	tests/cloud/cloud.sh up

cloud-down: ## stop it
	tests/cloud/cloud.sh down

cloud-test: ## the tests against it: hosts die under a real Nova
	@scripts/setup.sh test
	cargo test --workspace --locked --test cloud

cloud-test-long: ## the same with all cases: every point at which a leader can die, outages, 200 servers over 10 hosts
	@scripts/setup.sh test
	cargo test --workspace --locked --test cloud -- --long

watchdog-test: ## a daemon and its hardware watchdog in QEMU guests: every case; a stage of make test-long
	@scripts/setup.sh test
	@scripts/setup.sh watchdog
	cargo build --workspace --locked --bins
	tests/watchdog/run.sh target/debug

bench-recovery: ## rekindle, Masakari and evacuating by hand on one real Nova: SERVERS=6,50,200 ARGS="--repeat 3"
	@scripts/setup.sh build
	cargo build --locked --release -p rekindle-agent --bins
	tests/bench/recovery.py --servers $(SERVERS) $(ARGS)

bench-fence: ## the driver ipmi, ipmitool and fence_ipmilan against OpenIPMI's BMC, one and 64: ARGS="--repeat 10"
	@scripts/setup.sh test
	cargo run --workspace --locked --bin bench-fence -- --json target/bench-fence.json $(ARGS)

bench-detect: ## how soon a death is known, what watching costs, false alarms; virtual time: ARGS="--short"
	@scripts/setup.sh build
	tests/bench/detection.py $(ARGS)

bench-detect-real: ## the same with real daemons in network namespaces, beside Corosync and serf: ARGS="--short"
	@scripts/setup.sh test
	cargo build --locked --release -p rekindle-agent --bins
	tests/bench/detect/real.py $(ARGS)

lint: ## format, clippy, licences, purity, units, links; writes nothing
	@scripts/setup.sh lint
	@scripts/check.sh format
	@scripts/check.sh units
	@scripts/check.sh suites
	@scripts/check.sh docs
	@scripts/check.sh lints
	@scripts/check.sh deny
	@scripts/check.sh purity
	cargo test --workspace --locked --quiet --test purity

deny: ## licences, bans, sources, known holes
	@scripts/setup.sh lint
	@scripts/check.sh deny

purity: ## the pure crates are pure
	@scripts/setup.sh lint
	@scripts/check.sh purity
	cargo test --workspace --locked --quiet --test purity

fix: ## format, and let clippy mend what it can
	@scripts/setup.sh build
	cargo fmt --all
	cargo clippy --workspace --all-targets --locked --fix --allow-dirty --allow-staged

setup: ## install what is missing here for all of this
	@scripts/setup.sh test

clean: ## remove what was built
	cargo clean
