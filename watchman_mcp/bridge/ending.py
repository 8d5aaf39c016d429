"""The daemon that owns a state directory, seen from outside: whether one runs, and how it is ended."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

from watchman_mcp.bridge.owning import own, record_of
from watchman_mcp.errors import Broken, Denied

PATIENCE = 20.0
"""Seconds that a daemon has to end after SIGTERM: it drains for five."""


def owner(directory: str) -> dict[str, Any] | None:
    """What the running daemon says of itself: pid, version, mode, config; None when none runs."""
    try:
        lock = os.open(Path(directory) / "lock", os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return record_of(lock)
    else:
        return None
    finally:
        os.close(lock)


def stop(directory: str) -> bool:
    """End the daemon and wait until it has; False when none runs.

    Raises: Denied when it belongs to somebody else; Broken when it does not end.
    """
    end = time.monotonic() + PATIENCE
    told = 0
    while (record := owner(directory)) is not None:
        pid = int(record.get("pid") or 0)
        if pid and pid != told:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
            except PermissionError:
                raise Denied(
                    f"the daemon (pid {pid}) is another user's; run this as that user or as root"
                ) from None
            told = pid
        if time.monotonic() > end:
            raise Broken(
                f"the daemon (pid {pid}) did not end within {PATIENCE:.0f} s; see {directory}/daemon.log"
            )
        time.sleep(0.02)
    return bool(told)


def take_over(directory: str, config: str) -> tuple[int, socket.socket]:
    """The lock and the socket for a daemon that stays; one that a client started makes room.

    Raises: Denied when a daemon stays there already.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return own(directory, "staying", config)
        except BlockingIOError:
            record = owner(directory) or {}
            if record.get("mode") == "staying":
                raise Denied(
                    f"a daemon ({record.get('pid')}) stays in {directory}; `watchman-mcp stop` ends it"
                ) from None
            if time.monotonic() > end:
                raise Broken(
                    f"the daemon in {directory} does not make room; `watchman-mcp stop` ends it"
                ) from None
            stop(directory)
