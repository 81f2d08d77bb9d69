"""The simulated world: one lock, one clock, and what is due to happen next."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone

from .settings import Settings

log = logging.getLogger(__name__)


class World:
    """Everything in the lab changes under `lock`, moto included: moto is not thread-safe.

    Whatever takes time is an action put on the schedule. It is run by the first request after it
    fell due, before that request sees the world, so a state never lags behind the clock; the
    ticker does the same for effects that nobody asks about.
    """

    def __init__(self, settings: Settings) -> None:
        self.lock = threading.RLock()
        self.settings = settings
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._stopped = threading.Event()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        with self.lock:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), action))

    def advance(self) -> None:
        with self.lock:
            while self._due and self._due[0][0] <= time.monotonic():
                _, _, action = heapq.heappop(self._due)
                action()

    def forget_schedule(self) -> None:
        with self.lock:
            self._due.clear()

    def start(self) -> None:
        threading.Thread(target=self._tick, name="ticker", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _tick(self) -> None:
        while not self._stopped.wait(0.02):
            try:
                self.advance()
            except Exception:
                log.exception("a scheduled action failed")


def now() -> datetime:
    return datetime.now(timezone.utc)


def rfc3339(at: datetime) -> str:
    return at.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
