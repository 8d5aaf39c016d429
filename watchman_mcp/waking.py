"""Wakes collectors when what they watch changes: files and directories, and the network of the kernel."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
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
ARMING = 2.0
"""Seconds at most that the first looks wait until changes are noticed."""


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
        self._armed = {name: anyio.Event() for name in ("files", "network")}

    @property
    def error(self) -> str:
        """Why changes are not noticed at once; empty while they are."""
        return "; ".join(self._errors.values())

    async def run(self) -> None:
        """Wake until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow, "files", lambda: changes(self._root, self._paths))
            if self._root == Path("/"):
                tasks.start_soon(self._follow, "network", lambda: signals(self._wanted() - self._paths()))
            else:
                self._armed["network"].set()

    async def armed(self) -> None:
        """Wait until no change is missed any more, or cannot be noticed, but not for long.

        A look before that could be out of date without anybody being told.
        """
        with anyio.move_on_after(ARMING):
            for armed in self._armed.values():
                await armed.wait()

    def _wanted(self) -> frozenset[str]:
        found = {path for collector in self._collectors.values() for path in collector.watch}
        return frozenset(found.union(*[sleeper.watched for sleeper in self._sleepers.values()]))

    def _paths(self) -> frozenset[str]:
        """Every path whose change wakes a collector, as of now."""
        return frozenset(path for path in self._wanted() if not path.startswith(PREFIX))

    def _wake(self, changed: Collection[str]) -> None:
        for name, collector in self._collectors.items():
            if not {*collector.watch, *self._sleepers[name].watched}.isdisjoint(changed):
                self._sleepers[name].wake.set()

    async def _follow(self, name: str, source: Callable[[], AsyncIterator[set[str]]]) -> None:
        while True:
            try:
                async for changed in source():
                    # nobody knows what changed while it was not watched
                    self._wake(self._wanted() if self._errors.pop(name, None) else changed)
                    self._armed[name].set()
                self._armed[name].set()
                return
            except WatchmanError as error:
                log.warning("changes of the %s are found at intervals only: %s", name, error)
                self._errors[name] = str(error)
                self._armed[name].set()
                await anyio.sleep(AGAIN)
