# `make test` is the whole proof; CI runs the same. Everything else is a part of it, or longer.

.PHONY: test prepare lint unit lab-test behaviour bench release-check

export CARGO_TERM_COLOR ?= never
LAB_CACHE := $(or $(MAIP_DR_LAB_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/maip-dr-lab)

test: prepare lint unit lab-test behaviour
	@echo "all tests passed"

# What this machine lacks: installed where that is allowed, else named.
prepare:
	scripts/prepare.sh

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features --quiet
	scripts/deny.sh

# Pure state, mocks, wire-level tests, the simulated world, the command in it.
unit:
	cargo build --workspace --all-features
	cargo test --workspace --all-features --exclude maip-dr-tests

# The lab's own tests: the doubles behave as the services do.
lab-test:
	cd lab && "$(LAB_CACHE)/venv/bin/python" -m pytest -q tests

# The built command and the real adapters against the lab. Always the whole workspace, so that the SDKs are built once.
behaviour:
	cargo build --workspace --all-features
	cargo test --workspace --all-features --test contract --test failover --test misuse -- --test-threads=1

# The promised figures, each beside its baseline.
bench:
	scripts/prepare.sh
	cargo build --release --workspace --all-features
	cargo run --release --all-features --bin bench

# What only a release build can show: size, start, memory.
release-check:
	cargo build --release -p maip-dr-cli
	scripts/release-check.sh
