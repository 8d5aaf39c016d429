"""Clients of the daemon: one session for each connection, all served by one server."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from contextlib import suppress
from typing import Any

import anyio
import mcp.types as types
from anyio import to_thread
from anyio.abc import ByteStream, SocketAttribute
from mcp.server.runner import serve_dual_era_loop
from mcp.shared.message import SessionMessage

from watchman_mcp.server import Server

log = logging.getLogger(__name__)
GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
LINE_LIMIT = 16 * 1024 * 1024
LAST_WORDS = 1.0
"""Seconds that an answer which is being written when a client hangs up has to be written to its end."""
PARSE_ERROR, INVALID_REQUEST = -32700, -32600


class Stdio(ByteStream):
    """Two descriptors as one stream: what was this process's stdin and what was its stdout."""

    def __init__(self, descriptors: tuple[int, int]) -> None:
        self._in, self._out = descriptors

    async def receive(self, max_bytes: int = 65536) -> bytes:
        data = await to_thread.run_sync(os.read, self._in, max_bytes, abandon_on_cancel=True)
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        def write() -> None:
            left = memoryview(item)
            while left:
                left = left[os.write(self._out, left) :]

        try:
            await to_thread.run_sync(write)
        except BrokenPipeError as error:
            raise anyio.BrokenResourceError from error

    async def send_eof(self) -> None:
        os.close(self._out)

    async def aclose(self) -> None:
        """Nothing: the process ends with its client."""


class Unanswered:
    """The requests of all sessions that were read and whose answers are not written yet."""

    def __init__(self) -> None:
        self._waiting: set[tuple[int, str | int]] = set()
        self._fewer = anyio.Event()

    def read(self, session: int, message: types.JSONRPCMessage) -> None:
        """A session has read this; what listens is never answered, and what is cancelled need not be."""
        if isinstance(message, types.JSONRPCRequest) and message.method != "subscriptions/listen":
            self._waiting.add((session, message.id))
        elif isinstance(message, types.JSONRPCNotification) and message.method == "notifications/cancelled":
            number = (message.params or {}).get("requestId")
            self._settle({(session, number)} if isinstance(number, str | int) else set())

    def written(self, session: int, message: types.JSONRPCMessage) -> None:
        """A session has written this to the end."""
        if isinstance(message, types.JSONRPCResponse | types.JSONRPCError) and message.id is not None:
            self._settle({(session, message.id)})

    def left(self, session: int) -> None:
        """A session is over, and nobody waits for its answers."""
        self._settle({one for one in self._waiting if one[0] == session})

    def _settle(self, some: set[tuple[int, str | int]]) -> None:
        self._waiting -= some
        self._fewer.set()

    async def none(self) -> None:
        """Wait until every answer is written."""
        while self._waiting:
            self._fewer = anyio.Event()
            await self._fewer.wait()


class _Wire:
    """A client's end of the stream, to which one line is written after the other."""

    def __init__(self, stream: ByteStream, unanswered: Unanswered) -> None:
        self._stream, self._lock = stream, anyio.Lock()
        self.receive, self.unanswered = stream.receive, unanswered

    async def send(self, line: bytes) -> None:
        async with self._lock:  # answers and refusals come from two tasks
            await self._stream.send(line + b"\n")

    async def refuse(self, number: str | int | None, code: int, text: str) -> None:
        error = {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": text}}
        await self.send(json.dumps(error).encode())


async def serve(server: Server, stream: ByteStream, unanswered: Unanswered | None = None) -> None:
    """Speak the protocol on one connection until the client leaves; whatever it does harms nobody else.

    Lines that are no JSON-RPC get an error answer, which the SDK's own transports leave out.
    """
    unanswered = unanswered or Unanswered()
    send_in, receive_in = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    send_out, receive_out = anyio.create_memory_object_stream[SessionMessage](0)
    low, wire, written = server.mcp._lowlevel_server, _Wire(stream, unanswered), anyio.Event()

    async def write() -> None:
        async with receive_out:
            with suppress(*GONE):
                async for message in receive_out:
                    await wire.send(
                        message.message.model_dump_json(by_alias=True, exclude_unset=True).encode()
                    )
                    unanswered.written(id(wire), message.message)
        written.set()

    try:
        async with stream, anyio.create_task_group() as tasks:
            tasks.start_soon(_read, wire, send_in)
            tasks.start_soon(write)
            try:
                await serve_dual_era_loop(
                    low,
                    receive_in,
                    send_out,
                    lifespan_state={},
                    init_options=low.create_initialization_options(),
                )
            except* GONE:
                pass
            with anyio.move_on_after(LAST_WORDS):
                await written.wait()
            tasks.cancel_scope.cancel()
    finally:
        unanswered.left(id(wire))


async def _read(wire: _Wire, send: Any) -> None:
    """Lines from the client, checked for being messages at all."""
    buffer = bytearray()
    async with send:
        try:
            while True:
                chunk = await wire.receive()
                *ends, rest = chunk.split(b"\n")
                for end in ends:
                    line = bytes(buffer) + end
                    buffer.clear()
                    if line.strip():
                        await _pass_on(wire, send, line)
                buffer += rest
                if len(buffer) > LINE_LIMIT:
                    text = "a line of more than 16 MiB; the connection is closed"
                    await wire.refuse(None, INVALID_REQUEST, text)
                    return
        except GONE:
            if buffer.strip():
                with suppress(*GONE):
                    await _pass_on(wire, send, bytes(buffer))


async def _pass_on(wire: _Wire, send: Any, line: bytes) -> None:
    try:
        message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        await _refuse(wire, line)
        return
    if isinstance(message, types.JSONRPCNotification) and b'"id"' in line and "id" in json.loads(line):
        await _refuse(
            wire, line
        )  # a request whose id is none is no notification: its client waits for an answer
        return
    wire.unanswered.read(id(wire), message)
    await send.send(SessionMessage(message))


async def _refuse(wire: _Wire, line: bytes) -> None:
    """Say what is wrong with a line, to the request that it was meant to be if that can be known."""
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        await wire.refuse(None, PARSE_ERROR, "not JSON; send one JSON-RPC 2.0 message on each line")
        return
    number = parsed.get("id") if isinstance(parsed, dict) else None
    number = number if isinstance(number, str | int) and not isinstance(number, bool) else None
    text = "not a JSON-RPC 2.0 message: it needs jsonrpc, method and, for a request, an id of text or number"
    await wire.refuse(number, INVALID_REQUEST, text)


def same_user(stream: Any) -> bool:
    """Whether the peer is our user or root; the socket's mode says so too, this says it again."""
    peer = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - not Django's
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    uid = int.from_bytes(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[4:8], sys.byteorder)
    return uid in (0, os.geteuid())
