#!/usr/bin/env bash
# Installs what the tests need and this machine lacks, or names it and stops.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need cargo "Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) (https://rustup.rs)"
need go "Go 1.25 or newer (https://go.dev/dl), for the Kubernetes control planes of the lab"
need python3 "Python 3.11 or newer"
need cc "a C compiler (Debian: build-essential)"

debian=()
command -v kubectl >/dev/null 2>&1 || debian+=(kubernetes-client)
command -v cmake >/dev/null 2>&1 || debian+=(cmake)
if ((${#debian[@]})); then
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq && apt-get install -y -qq "${debian[@]}"
  else
    missing+=("the Debian packages ${debian[*]}")
  fi
fi
if ((${#missing[@]})); then
  printf 'maip-dr: this machine lacks:\n' >&2
  printf '  - %s\n' "${missing[@]}" >&2
  exit 1
fi
exec lab/install.sh
