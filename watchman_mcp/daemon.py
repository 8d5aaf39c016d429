"""The daemon: the only wiring file. Settings -> store -> runner -> sessions."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import SocketListener, TaskGroup

from watchman_mcp import __version__, bridge, retention
from watchman_mcp.alerts import Alerts
from watchman_mcp.bridge import ending
from watchman_mcp.cleaning import Cleaner
from watchman_mcp.collectors import load as load_collectors
from watchman_mcp.errors import Denied, WatchmanError
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.settings import Settings
from watchman_mcp.settings import load as load_settings
from watchman_mcp.state import key_of, log_to
from watchman_mcp.store.mirror import Mirror
from watchman_mcp.store.sqlite import Store
from watchman_mcp.times import steady_clock
from watchman_mcp.tools import About

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from watchman_mcp.server import Server
    from watchman_mcp.sessions import Stdio, Unanswered

log = logging.getLogger(__name__)
DRAIN = 5.0
"""Seconds that requests in flight have to end after SIGTERM."""


@dataclass
class Start:
    """How this daemon was started."""

    directory: Path | None
    config: str
    mode: str
    lock: int = -1
    listener: socket.socket | None = None
    environ: dict[str, str] | None = None
    wire: tuple[int, int] | None = None
    """Where the one client's lines are read and written, when it started this process itself."""


def main(arguments: list[str] | None = None) -> int:
    """Run as a bridge started it, or for one client on stdio."""
    parser = argparse.ArgumentParser(prog="watchman_mcp.daemon")
    parser.add_argument("--lock", type=int, default=-1)
    parser.add_argument("--listen", type=int, default=-1)
    parser.add_argument("--directory", default="")
    parser.add_argument("--config", default="")
    parser.add_argument("--stdio", action="store_true")
    parser.add_argument("--memory", action="store_true")
    given = parser.parse_args(arguments)
    if given.stdio:
        return stdio(given.config, memory=given.memory)
    os.set_inheritable(given.lock, False)
    os.set_inheritable(given.listen, False)
    start = Start(
        Path(given.directory), given.config, "on-demand", given.lock, socket.socket(fileno=given.listen)
    )
    return run(start)


def serve(config: str) -> int:
    """Stay until told to end: `watchman-mcp serve`. Takes the place of a daemon that a client started."""
    directory = bridge.state_directory(config)
    lock, listener = ending.take_over(directory, config)
    return run(Start(Path(directory), config, "staying", lock, listener, dict(os.environ)))


def stdio(config: str, *, memory: bool = False) -> int:
    """Serve one client on stdin and stdout, without bridge; refuses while a daemon owns the state directory.

    Raises: Denied when one does.
    """
    wire = _taken()
    if memory:
        return run(Start(None, config, "stdio", wire=wire))
    directory = bridge.state_directory(config)
    try:
        lock, listener = bridge.own(directory, "staying", config)
    except BlockingIOError:
        raise Denied(
            f"a daemon owns {directory}; run `watchman-mcp` without --stdio to use it, or `watchman-mcp stop`"
        ) from None
    return run(Start(Path(directory), config, "stdio", lock, listener, wire=wire))


def _taken() -> tuple[int, int]:
    """The client's stdin and stdout under other numbers: what a library prints from now on reaches stderr."""
    wire = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return wire


def run(start: Start) -> int:
    """Everything, until SIGTERM, EOF or nobody needs it. A stuck worker thread does not hold the exit."""
    os.chdir("/")
    os.umask(0o077)
    gc.disable()  # imports make many objects that stay: it goes on once they are done
    try:
        settings = load_settings(start.config, start.environ)
        key = key_of(start.directory)
        log_to(start.directory, Cleaner(key), start.mode == "staying")
        daemon = Daemon(start, settings, Cleaner(key))
    except WatchmanError as error:
        print(f"watchman-mcp: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        return 1
    anyio.run(daemon.run)
    if any(t.name.startswith(("AnyIO", "asyncio")) for t in threading.enumerate()):
        logging.shutdown()
        os._exit(0)  # a collector's thread may hang in the kernel for good
    return 0


class Daemon:
    """One process, one state directory, all sessions."""

    def __init__(self, start: Start, settings: Settings, cleaner: Cleaner) -> None:
        self.start, self.settings, self.cleaner = start, settings, cleaner
        self.store = Store(start.directory, settings.store.size_cap_mb)
        root = Path(settings.host.root)
        self.machine = Machine(Files(root), Commands(settings.daemon.command_path), root)
        self.mirror: Mirror | None = None
        self.clients = 0
        self.left_at = steady_clock()

    async def run(self) -> None:
        """Serve until the end, then leave in order."""
        log.info(
            "watchman %s, pid %d, %s, root %s", __version__, os.getpid(), self.start.mode, self.machine.root
        )
        try:
            async with self._server() as server:
                await self._serve(server)
        finally:
            await anyio.to_thread.run_sync(self.store.close)
            if self.start.directory and self.start.listener:
                with suppress(FileNotFoundError):
                    os.unlink(self.start.directory / "sock")
            log.info("ended")

    @asynccontextmanager
    async def _server(self) -> AsyncIterator[Server]:
        """The server and the collectors behind it, which look while the protocol's modules load."""
        changed: list[Callable[[frozenset[str]], Awaitable[None]]] = []

        async def publish(labels: frozenset[str]) -> None:
            for one in changed:
                await one(labels)

        alerts = Alerts(self.store, self.settings.alerts, publish)
        changed.append(alerts.heard)
        from watchman_mcp.intake import settle
        from watchman_mcp.runner import Runner

        runner = Runner(self.store, self.machine, self.settings, load_collectors(), self.cleaner, publish)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runner.run)
            tasks.start_soon(alerts.run)
            tasks.start_soon(retention.keep, self.store, self.settings)
            offered = await self._fleet(tasks) if self.settings.neo4j.uri else {}
            server_module, notifications_module = await anyio.to_thread.run_sync(_import_protocol)
            await runner.first_look(("Host",), 1.0)  # the instructions name the machine
            notifications = notifications_module.Notifications(tasks)
            server = server_module.Server(self.store, runner, self._about(runner), notifications, offered)
            changed.append(server.changed)
            settle()
            yield server
            tasks.cancel_scope.cancel()

    async def _fleet(self, tasks: TaskGroup) -> dict[str, Any]:
        """Begin to mirror to Neo4j; what tools are given to ask it."""
        neo4j = await anyio.to_thread.run_sync(import_module, "watchman_mcp.store.neo4j.offering")
        database = neo4j.Database(self.settings.neo4j)
        self.mirror = Mirror(self.store, database, self.cleaner.text)
        tasks.start_soon(self.mirror.run)
        return dict(neo4j.offered(self.settings.neo4j, database, self.cleaner.text))

    def _about(self, runner: Any) -> About:
        directory = str(self.start.directory or "")
        return About(
            version=__version__,
            directory=directory or "none: kept in memory",
            log=f"{directory}/daemon.log" if directory else "stderr",
            config=self.start.config,
            mode=self.start.mode,
            started_at=datetime.now(UTC),
            root=str(self.machine.root),
            uid=os.geteuid(),
            clients=lambda: self.clients,
            work=lambda: [f"{s.name}: looking" for s in runner.status.values() if s.busy],
            watching=lambda: runner.waking.error or "at once",
            mirror=lambda: self.mirror.state if self.mirror else None,
            areas={c.name: tuple(sorted(c.labels)) for c in runner.collectors.values()},
        )

    async def _serve(self, server: Server) -> None:
        from watchman_mcp import sessions

        accepting, unanswered = anyio.CancelScope(), sessions.Unanswered()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_on_signal, accepting, unanswered, tasks.cancel_scope)
            if self.start.wire is not None:
                client = sessions.Stdio(self.start.wire)
                tasks.start_soon(self._serve_stdio, server, client, unanswered, tasks.cancel_scope)
            if self.start.mode == "on-demand":
                tasks.start_soon(self._end_when_unneeded, tasks.cancel_scope)
            if self.start.listener is None:
                await anyio.sleep_forever()
                return
            bridge.serving(self.start.lock)
            async with await SocketListener.from_socket(self.start.listener) as listener:
                with accepting:
                    await listener.serve(lambda stream: self._session(server, stream, unanswered), tasks)

    async def _session(self, server: Server, stream: Any, unanswered: Unanswered) -> None:
        from watchman_mcp import sessions

        if not sessions.same_user(stream):
            await stream.aclose()
            return
        self.clients += 1
        try:
            await sessions.serve(server, stream, unanswered)
        except Exception:  # a fault in one session must not end the others
            log.exception("a session ended by a fault of Watchman's own")
        finally:
            self.clients -= 1
            self.left_at = steady_clock()

    async def _serve_stdio(
        self, server: Server, client: Stdio, unanswered: Unanswered, scope: anyio.CancelScope
    ) -> None:
        """The client that started this process; others may come by the socket, until this one leaves."""
        from watchman_mcp import sessions

        self.clients += 1
        await sessions.serve(server, client, unanswered)
        scope.cancel()

    async def _end_when_unneeded(self, scope: anyio.CancelScope) -> None:
        """Leave once nobody has been connected for `linger_seconds`."""
        linger = self.settings.daemon.linger_seconds
        while True:
            await anyio.sleep(min(5.0, max(linger / 4, 0.2)))
            if self.clients == 0 and steady_clock() - self.left_at >= linger:
                log.info("no client for %d s", linger)
                scope.cancel()

    async def _end_on_signal(
        self, accepting: anyio.CancelScope, unanswered: Unanswered, scope: anyio.CancelScope
    ) -> None:
        """SIGTERM lets nobody in any more, and requests in flight end, for a while."""
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                log.info("%s: draining", signal.Signals(number).name)
                accepting.cancel()
                with anyio.move_on_after(DRAIN):
                    await unanswered.none()
                scope.cancel()


def _import_protocol() -> tuple[Any, Any]:
    from watchman_mcp import notifications, server

    return server, notifications


if __name__ == "__main__":
    sys.exit(main())
