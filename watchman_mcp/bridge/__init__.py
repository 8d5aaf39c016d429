"""What a client launches: its stdin and stdout, joined to the one daemon of a state directory.

Standard library only and without asyncio, because every client of the machine pays for this process.
"""

from __future__ import annotations

import os
import signal
import socket

from watchman_mcp.bridge.asking import ask
from watchman_mcp.bridge.lines import say
from watchman_mcp.bridge.owning import PATIENCE, PAUSE, failed, folder_of, opened, own, serving
from watchman_mcp.bridge.places import (
    VERSION,
    OtherConfiguration,
    Unwritable,
    config_path,
    network_file_system,
    state_directory,
)
from watchman_mcp.bridge.relay import LIMIT, LOST, Bridge
from watchman_mcp.bridge.starting import DAEMON, connect, environment
from watchman_mcp.errors import WatchmanError

__all__ = [
    "DAEMON",
    "LIMIT",
    "LOST",
    "PATIENCE",
    "PAUSE",
    "VERSION",
    "Bridge",
    "OtherConfiguration",
    "Unwritable",
    "ask",
    "config_path",
    "connect",
    "main",
    "network_file_system",
    "own",
    "serving",
    "state_directory",
]


def _reach() -> socket.socket:
    config = config_path()
    return connect(state_directory(config), config)


def main() -> int:
    """Serve one client on stdin and stdout until it leaves; without a writable home, in memory."""
    while (fd := os.open(os.devnull, os.O_RDWR)) < 3:  # a closed stdout would be the number of our next file
        pass
    os.close(fd)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        config = config_path()
        directory = state_directory(config)
        folder = folder_of(directory)
        try:
            os.close(opened(folder, "lock", os.O_RDWR))
        except OSError as error:
            raise failed(directory, error) from error
        finally:
            os.close(folder)
    except Unwritable as error:
        say(f"{error} Until then it works in memory, for this client.")
        command = [*DAEMON, "--stdio", "--memory", "--config", config]
        os.execve(command[0], command, environment())  # noqa: S606 - this process becomes the daemon
    except WatchmanError:
        pass  # said in the answer to each request, where the client shows it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a daemon started here leaves no zombie
    return Bridge(_reach).run()
