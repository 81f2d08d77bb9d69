"""`lab/up`: starts the lab, says where everything is, and serves until it is told to stop."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path

from .settings import Settings


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    settings = Settings()
    try:
        settings.change(dict(each.split("=", 1) for each in options.set))
    except ValueError as error:
        print(f"lab/up: {error}", file=sys.stderr)
        return 2

    directory = options.directory or Path(tempfile.mkdtemp(prefix="maip-dr-lab-"))
    directory.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=directory / "lab.log", level=logging.INFO, format="%(asctime)s %(name)s %(message)s")

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if not options.no_stdin:
        threading.Thread(target=_until_stdin_closes, args=(stop,), daemon=True).start()

    from .lab import Lab  # heavy: after the arguments are known to be good

    lab = Lab(directory, settings, options.bin_dir if options.kubernetes else None)
    try:
        try:
            lab.start()
        except Exception as error:
            logging.exception("the lab did not start")
            print(f"lab/up: did not start: {error!r}; see {directory}/lab.log", file=sys.stderr)
            options.keep = True
            return 1
        # The answer for programs goes out in one line; nothing else is ever written to stdout.
        print(json.dumps(lab.ready()), flush=True)
        stop.wait()
    finally:
        lab.stop()
        if not options.keep and options.directory is None:
            shutil.rmtree(directory, ignore_errors=True)
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lab/up", description=__doc__)
    parser.add_argument("--kubernetes", action="store_true", help="a real control plane a Region")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="see settings.py")
    parser.add_argument("--directory", type=Path, help="for logs and topology.yaml; else a temporary one")
    parser.add_argument("--keep", action="store_true", help="do not remove the temporary directory")
    parser.add_argument("--no-stdin", action="store_true", help="serve until SIGTERM, whatever stdin does")
    parser.add_argument("--bin-dir", type=Path, default=cache() / "bin", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    for each in options.set:
        if "=" not in each:
            parser.error(f"--set {each}: NAME=VALUE is wanted")
    return options


def cache() -> Path:
    """Where lab/install.sh puts what it builds."""
    named = os.environ.get("MAIP_DR_LAB_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "maip-dr-lab"


def _until_stdin_closes(stop: threading.Event) -> None:
    """Whoever started us holds our stdin: when it is gone, however it went, so are we."""
    while os.read(0, 4096):
        pass
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
