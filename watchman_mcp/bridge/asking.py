"""One question to the daemon, for the command line."""

from __future__ import annotations

import json

from watchman_mcp import __version__
from watchman_mcp.bridge.lines import line_of
from watchman_mcp.bridge.relay import LOST
from watchman_mcp.bridge.starting import DAEMON, connect
from watchman_mcp.errors import Broken, InvalidRequest, NotFound, WatchmanError

TYPE_CHECKING = False  # typing costs milliseconds that every start of a client would pay
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Message = dict[str, Any]


def ask(
    directory: str,
    config: str,
    method: str,
    params: Message,
    on_notification: Callable[[Message], None] | None = None,
    progress_token: int | str | None = None,
    timeout: float = 120.0,
    command: Sequence[str] = DAEMON,
) -> Message:
    """The result of one request to the daemon, without a handshake; started when there is none.

    Raises: InvalidRequest; NotFound; Broken when the daemon fails or is silent; what `connect` raises.
    """
    meta = {
        **params.get("_meta", {}),
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "watchman-mcp", "version": __version__},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    if progress_token is not None:
        meta["progressToken"] = progress_token
    with connect(directory, config, command) as daemon:
        daemon.settimeout(timeout)
        try:
            daemon.sendall(line_of(id=1, method=method, params={**params, "_meta": meta}))
            with daemon.makefile("rb") as lines:
                for line in lines:
                    message = json.loads(line)
                    if message.get("id") == 1 and "method" not in message:
                        return _result(message)
                    if on_notification and "method" in message:
                        on_notification(message)
        except (OSError, ValueError) as error:
            raise Broken(
                f"The daemon did not answer {method}: {error}. See {directory}/daemon.log."
            ) from error
    raise Broken(LOST)


def _result(message: Message) -> Message:
    if error := message.get("error"):
        kinds: dict[int, type[WatchmanError]] = {-32602: InvalidRequest, -32601: NotFound, -32002: NotFound}
        raise kinds.get(error.get("code"), Broken)(str(error.get("message")))
    result: Message = message["result"]
    return result
