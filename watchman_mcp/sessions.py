"""Clients of the daemon: one session for each connection, all served by one server."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import mcp.types as types
from anyio import to_thread
from anyio.abc import ByteStream
from mcp.server.runner import serve_dual_era_loop
from mcp.shared.message import SessionMessage

from watchman_mcp.server import Server

log = logging.getLogger(__name__)
GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
LINE_LIMIT = 16 * 1024 * 1024
PARSE_ERROR, INVALID_REQUEST = -32700, -32600


class Stdio(ByteStream):
    """This process's stdin and stdout as one stream; what else writes to descriptor 1 then reaches stderr."""

    def __init__(self) -> None:
        self._in, self._out = os.dup(0), os.dup(1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(2, 1)
        os.close(null)

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


async def serve(server: Server, stream: ByteStream, opened: Callable[[], None] = lambda: None) -> None:
    """Speak the protocol on one connection until the client leaves; whatever it does harms nobody else.

    Lines that are no JSON-RPC get an error answer, which the SDK's own transports leave out.
    """
    opened()
    send_in, receive_in = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    send_out, receive_out = anyio.create_memory_object_stream[SessionMessage](0)
    low = server.mcp._lowlevel_server

    async def write() -> None:
        async with receive_out:
            try:
                async for message in receive_out:
                    await stream.send(
                        message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
                    )
            except GONE:
                pass

    async with stream, anyio.create_task_group() as tasks:
        tasks.start_soon(_read, stream, send_in)
        tasks.start_soon(write)
        try:
            await serve_dual_era_loop(
                low, receive_in, send_out, lifespan_state={}, init_options=low.create_initialization_options()
            )
        except* GONE:
            pass
        tasks.cancel_scope.cancel()


async def _read(stream: ByteStream, send: Any) -> None:
    """Lines from the client, checked for being messages at all."""
    buffer = b""
    async with send:
        try:
            while True:
                buffer += await stream.receive()
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    if line.strip():
                        await _pass_on(stream, send, line)
                if len(buffer) > LINE_LIMIT:
                    await _refuse(
                        stream, None, INVALID_REQUEST, "a line of more than 16 MiB; the connection is closed"
                    )
                    return
        except GONE:
            if buffer.strip():
                with suppress(*GONE):
                    await _pass_on(stream, send, buffer)


async def _pass_on(stream: ByteStream, send: Any, line: bytes) -> None:
    try:
        message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        try:
            parsed = json.loads(line)
        except (ValueError, RecursionError):
            await _refuse(stream, None, PARSE_ERROR, "not JSON; send one JSON-RPC 2.0 message on each line")
            return
        number = parsed.get("id") if isinstance(parsed, dict) else None
        number = number if isinstance(number, str | int) and not isinstance(number, bool) else None
        await _refuse(
            stream,
            number,
            INVALID_REQUEST,
            "not a JSON-RPC 2.0 message: it needs jsonrpc, method and, for a request, an id",
        )
        return
    await send.send(SessionMessage(message))


async def _refuse(stream: ByteStream, number: str | int | None, code: int, text: str) -> None:
    error = {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": text}}
    await stream.send(json.dumps(error).encode() + b"\n")
