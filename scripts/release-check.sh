#!/usr/bin/env bash
# What only a release build can show: how large the command is, how fast it starts, how much memory a failover takes.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json,sys; print(json.load(sys.stdin)["target_directory"])')/release/maip-dr
exec python3 - "$binary" <<'PYTHON'
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

binary = sys.argv[1]
missed = 0


def figure(name, value, limit, unit):
    global missed
    missed += value > limit
    print(f"{name:<32} {value:>8.1f} {unit}  at most {limit} {unit}  {'reached' if value <= limit else 'MISSED'}")


figure("size", os.path.getsize(binary) / 2**20, 45, "MiB")
starts = []
for _ in range(21):
    begin = time.perf_counter()
    subprocess.run([binary, "--help"], stdout=subprocess.DEVNULL, check=True)
    starts.append((time.perf_counter() - begin) * 1000)
figure("--help (median of 21)", statistics.median(starts), 10, "ms")
with tempfile.TemporaryDirectory() as state:
    words = ["--sandbox", "failover", "--to", "us-west-2", "--yes", "--accept-unfenced"]
    environment = dict(os.environ, MAIP_DR_STATE_DIR=state)
    subprocess.run([binary, *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
figure("memory of a sandbox failover", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 40, "MiB")
sys.exit(1 if missed else 0)
PYTHON
