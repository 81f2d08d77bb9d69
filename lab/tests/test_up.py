"""`lab/up` as a process: its one line, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

LAB = Path(__file__).resolve().parents[1]


def start(*arguments: str) -> tuple[subprocess.Popen, dict]:
    process = subprocess.Popen(
        [sys.executable, "-m", "maip_lab.up", *arguments],
        cwd=LAB,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    return process, json.loads(process.stdout.readline())


def ends(process: subprocess.Popen, ready: dict) -> None:
    assert process.wait(20) == 0
    assert process.stdout and process.stdout.read() == "", "one line and no more"
    assert not os.path.exists(ready["directory"])


def test_it_serves_until_stdin_closes():
    process, ready = start("--set", "record=weighted", "--set", "promotion_s=12")
    try:
        topology = yaml.safe_load(Path(ready["topology"]).read_text())
        assert topology["traffic"]["api"]["method"] == "weighted"
        for region, place in ready["regions"].items():
            assert topology["regions"][region]["endpoint_url"] == place["endpoint"]
            assert topology["traffic"]["api"]["regions"][region]["connect"] == place["load_balancer"]
        assert topology["traffic"]["api"]["resolvers"] == [ready["dns"]]
        assert "notify" not in topology and "journal" not in topology
        with urllib.request.urlopen(ready["control"] + "/settings") as answer:
            assert json.load(answer)["promotion_s"] == 12
        assert process.stdin
        process.stdin.close()
        ends(process, ready)
    finally:
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal(number):
    process, ready = start()
    try:
        process.send_signal(number)
        ends(process, ready)
    finally:
        process.kill()


def test_a_mistake_is_told():
    done = subprocess.run(
        [sys.executable, "-m", "maip_lab.up", "--set", "promotion=1"],
        cwd=LAB, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert done.returncode == 2 and "promotion_s" in done.stderr and done.stdout == ""
