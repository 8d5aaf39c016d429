"""JSON-RPC messages as lines."""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False  # typing costs milliseconds that every start of a client would pay
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]

ANSWER = b'{"jsonrpc":"2.0","id":'


def answered(line: bytes) -> tuple[int | str, bool] | None:
    """The id of a response in the order that the daemon writes it, and whether it is an error; else None.

    Only the first bytes are read: what stands before the first `,"result":` is the whole id or no JSON.
    """
    if not line.startswith(ANSWER):
        return None
    head = line[len(ANSWER) : len(ANSWER) + 300]
    for mark in (b',"result":', b',"error":'):
        token, found, _ = head.partition(mark)
        if found:
            try:
                number = json.loads(token)
            except ValueError:
                continue
            return (number, mark == b',"error":') if type(number) in (int, str) else None
    return None


def parsed(line: bytes) -> list[Message]:
    """The messages of a line: one, those of a batch, or none when it is not JSON."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, dict)]


def quiet(message: Message) -> bool:
    """Whether it is a notification or a response, to which no answer comes."""
    return "id" not in message if "method" in message else "result" in message or "error" in message


def line_of(**message: Any) -> bytes:
    """A JSON-RPC message as a line."""
    return json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"


def say(text: str) -> None:
    """Say it on stderr, if anybody reads it."""
    try:
        os.write(2, f"watchman-mcp: {text}\n".encode("utf-8", "replace"))
    except OSError:  # nobody reads it
        return


def failure(number: int | str | None, text: str, code: int = -32000) -> bytes:
    """An error answer as a line."""
    return line_of(id=number, error={"code": code, "message": text})
