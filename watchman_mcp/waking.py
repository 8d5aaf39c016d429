"""Wakes collectors when what they watch changes: files and directories, and the network of the kernel."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

import anyio

from watchman_mcp.collectors import Collector
from watchman_mcp.errors import WatchmanError
from watchman_mcp.machine.signals import PREFIX, signals
from watchman_mcp.machine.watch import changes

log = logging.getLogger(__name__)
AGAIN = 600.0
"""Seconds until it is tried again to watch, where that failed."""


class Sleeper(Protocol):
    """A collector that waits for its next look."""

    wake: anyio.Event
    watched: frozenset[str]


class Waking:
    """Watches for all collectors at once, since the kernel's watches are few."""

    def __init__(
        self, root: Path, collectors: Mapping[str, Collector], sleepers: Mapping[str, Sleeper]
    ) -> None:
        self._root, self._collectors, self._sleepers = root, collectors, sleepers
        self._errors: dict[str, str] = {}

    @property
    def error(self) -> str:
        """Why changes are not noticed at once; empty while they are."""
        return "; ".join(self._errors.values())

    async def run(self) -> None:
        """Wake until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch_files)
            if self._root == Path("/"):
                tasks.start_soon(self._hear_signals)

    def _wanted(self) -> set[str]:
        found = {path for collector in self._collectors.values() for path in collector.watch}
        return found.union(*[sleeper.watched for sleeper in self._sleepers.values()])

    def _paths(self) -> frozenset[str]:
        """Every path whose change wakes a collector, as of now."""
        return frozenset(path for path in self._wanted() if not path.startswith(PREFIX))

    def _wake(self, changed: Collection[str]) -> None:
        for name, collector in self._collectors.items():
            if not {*collector.watch, *self._sleepers[name].watched}.isdisjoint(changed):
                self._sleepers[name].wake.set()

    async def _watch_files(self) -> None:
        while True:
            try:
                async for changed in changes(self._root, self._paths):
                    self._errors.pop("files", None)
                    self._wake(changed)
                return
            except WatchmanError as error:
                log.warning("changes are found at intervals only: %s", error)
                self._errors["files"] = str(error)
                await anyio.sleep(AGAIN)

    async def _hear_signals(self) -> None:
        wanted = {path for path in self._wanted() if path.startswith(PREFIX)}
        while True:
            try:
                async for changed in signals(wanted):
                    self._errors.pop("network", None)
                    self._wake(changed)
                return
            except WatchmanError as error:
                log.warning("changes of the network are found at intervals only: %s", error)
                self._errors["network"] = str(error)
                await anyio.sleep(AGAIN)
