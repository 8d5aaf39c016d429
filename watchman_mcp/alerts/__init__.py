"""Alerts: opened and closed by rules, from what the store holds, after looks that changed something."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import anyio
from anyio import to_thread

from watchman_mcp.errors import StoreError
from watchman_mcp.rules import RULES
from watchman_mcp.settings import Alerts as Settings
from watchman_mcp.store.sqlite import Store

from .judging import judge

log = logging.getLogger(__name__)
SOON, BEAT = 15.0, 600.0
"""Seconds between two judgements while something must last, and otherwise, where nothing changes."""
Publish = Callable[[frozenset[str]], Awaitable[None]]


class Alerts:
    """Judges after looks, in a thread, and tells who listens when alerts opened or closed."""

    def __init__(self, store: Store, settings: Settings, publish: Publish) -> None:
        self._store, self._publish = store, publish
        self.rules = tuple(rule for rule in RULES if settings.enabled and rule.name not in settings.off)
        self._labels = frozenset().union(*[rule.labels for rule in self.rules])
        self._wake = anyio.Event()
        self._note = ""

    async def heard(self, labels: frozenset[str]) -> None:
        """Something of these labels changed."""
        if labels & self._labels:
            self._wake.set()

    async def run(self) -> None:
        """Judge whenever something changed or may have lasted long enough, until cancelled."""
        while True:
            self._wake = anyio.Event()
            waits = await self._judge()
            with anyio.move_on_after(SOON if waits else BEAT):
                await self._wake.wait()

    async def _judge(self) -> bool:
        """Judge once. Returns whether something has begun that must last."""
        try:
            told, waits = await to_thread.run_sync(judge, self._store, self.rules, datetime.now(UTC))
        except StoreError as error:
            self._say(f"Alerts are not judged: {error}")
            return False
        except Exception:  # a fault here must not end what the machine itself is asked
            if not self._note:
                log.exception("a fault of Watchman's own")
            self._say("Alerts are not judged, by a fault of Watchman's own; the log has the rest")
            return False
        self._say("")
        if told:
            await self._publish(frozenset({"Alert", "Event"}))
        return waits

    def _say(self, note: str) -> None:
        """Keep what is wrong among the notes of the store, which answers tell; the log has it once."""
        if note == self._note:
            return
        if self._note in self._store.notes:
            self._store.notes.remove(self._note)
        if note:
            self._store.notes.append(note)
            log.warning("%s", note)
        else:
            log.info("alerts are judged again")
        self._note = note
