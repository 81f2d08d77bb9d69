#!/usr/bin/env bash
# Licences, bans and sources of every dependency. The advisory database lives on a Git host that a closed network
# does not reach; with one at hand, run `cargo deny check advisories` besides.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.20
if ! cargo deny --version >/dev/null 2>&1; then
  echo "installing cargo-deny $version" >&2
  cargo install --quiet --locked cargo-deny --version "^$version"
fi
exec cargo deny --all-features check bans licenses sources
