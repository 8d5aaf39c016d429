"""Clients of a session that write and read the lines of the protocol themselves, and may stop reading."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup, UNIXSocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from watchman_mcp import sessions
from watchman_mcp.server import Server

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


class Line:
    """The client's end of one session; `modern` speaks 2026-07-28, which needs no handshake."""

    def __init__(self, stream: UNIXSocketStream, modern: bool) -> None:
        self.stream, self.modern, self.count = stream, modern, 0
        self.lines = BufferedByteReceiveStream(stream)

    async def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        with anyio.fail_after(10):
            await self.stream.send(data)

    async def send(self, **message: Any) -> None:
        """Send a message."""
        await self.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def read(self, seconds: float = 10) -> dict[str, Any]:
        """The next line, which must be JSON-RPC."""
        with anyio.fail_after(seconds):
            message = json.loads(await self.lines.receive_until(b"\n", 1 << 24))
        assert message["jsonrpc"] == "2.0"
        assert "method" in message or ("result" in message) != ("error" in message)
        return dict(message)

    async def request(self, method: str, **params: Any) -> int:
        """Send a request; its number."""
        self.count += 1
        given = {**params, "_meta": META} if self.modern else params
        await self.send(id=self.count, method=method, params=given)
        return self.count

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to a request; what comes before it is passed over."""
        number = await self.request(method, **params)
        while (message := await self.read()).get("id") != number:
            pass
        return message

    async def begin(self) -> None:
        """Shake hands, where the era wants it."""
        if not self.modern:
            assert "result" in await self.ask("initialize", **HELLO)
            await self.send(method="notifications/initialized")


@asynccontextmanager
async def connected(server: Server, tasks: TaskGroup, *, modern: bool = True) -> AsyncIterator[Line]:
    """A client of a session of its own, which ends with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    tasks.start_soon(sessions.serve, server, await UNIXSocketStream.from_socket(theirs))
    async with await UNIXSocketStream.from_socket(ours) as stream:
        line = Line(stream, modern)
        await line.begin()
        yield line


async def until(condition: Callable[[], Any], seconds: float = 10) -> None:
    """Wait for a condition, but not for long."""
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.005)
