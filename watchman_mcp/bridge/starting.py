"""A connection to the daemon, which is started when there is none."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

from watchman_mcp import __version__
from watchman_mcp.bridge.owning import (
    PATIENCE,
    at_socket,
    folder_of,
    last_words,
    opened,
    own,
    record_of,
    write_record,
)
from watchman_mcp.bridge.places import VERSION, OtherConfiguration, home, numbered
from watchman_mcp.errors import Broken, Denied

TYPE_CHECKING = False  # typing costs milliseconds that every start of a client would pay
if TYPE_CHECKING:
    from collections.abc import Sequence

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SITE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODULE = ("-m", "watchman_mcp.daemon")
# -I leaves out the user's own site, where `pip install --user` puts this package and newer versions of what
# it needs: it is named then, and counts before the machine's as it does in the bridge.
IN_USER_SITE = (
    "-c",
    "import sys; first = [n for n, p in enumerate(sys.path) if p.endswith('-packages')] + [len(sys.path)];"
    "sys.path.insert(first[0], sys.argv.pop(1)); from watchman_mcp.daemon import main; sys.exit(main())",
    SITE,
)
DAEMON = (
    sys.executable,
    "-I",
    *(IN_USER_SITE if SITE.startswith(os.path.expanduser("~/.local/lib/")) else MODULE),
)


def environment() -> dict[str, str]:
    """The whole environment of a daemon, built from nothing: it is shared, so no client's counts."""
    user = os.environ.get("USER") or os.environ.get("LOGNAME") or str(os.getuid())
    return {"HOME": home() or "/", "USER": user, "LOGNAME": user, "PATH": PATH, "LC_ALL": "C.UTF-8"}


def _spawn(directory: str, arguments: list[str], lock: int, listener: int) -> None:
    """Start a daemon that inherits the lock and the socket, and nothing else of this process."""
    folder = folder_of(directory)
    errors, null = opened(folder, "daemon.err", os.O_WRONLY | os.O_APPEND), os.open(os.devnull, os.O_RDWR)
    try:
        if os.fstat(errors).st_size > 1_000_000:
            os.ftruncate(errors, 0)
        os.set_inheritable(lock, True)
        os.set_inheritable(listener, True)
        places = [(os.POSIX_SPAWN_DUP2, fd, place) for place, fd in enumerate((null, null, errors))]
        usual = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD)
        os.posix_spawn(
            arguments[0],
            arguments,
            environment(),
            file_actions=places,
            setsid=True,
            setsigmask=(),
            setsigdef=usual,
        )
    except OSError as error:
        raise Broken(
            f"{arguments[0]} cannot be started: {error.strerror}. Install Watchman again."
        ) from error
    finally:
        for fd in (folder, errors, null):
            os.close(fd)


def holds(pid: int, lock: int) -> bool:
    """Whether the process has the lock file open: else the file speaks of one that is gone."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except PermissionError:  # it has privileges that we lack, but it is there
        return True
    except OSError:
        return not os.path.isdir("/proc/self/fd")
    mine = os.fstat(lock)
    for name in names:
        try:
            if os.path.samestat(mine, os.stat(f"/proc/{pid}/fd/{name}")):
                return True
        except OSError:
            continue
    return False


def _owner(directory: str, lock: int, config: str) -> int:
    """The pid of the daemon to speak to; 0 while there is none; below 0 when that one is to end for ours."""
    record = record_of(lock)
    pid, theirs = int(record.get("pid", 0)), record.get("config", "")
    if not pid or not holds(pid, lock):
        return 0
    if theirs != config:
        raise OtherConfiguration(
            f"The daemon of {directory} (pid {pid}) uses {theirs or 'no configuration file'}; this client's "
            f"$WATCHMAN_CONFIG or home gives {config or 'none'}. Let both use one file, or give each a file "
            "with its own [store] path."
        )
    older = numbered(str(record.get("version", ""))) < VERSION
    return -pid if older and record.get("mode") == "on-demand" else pid


def _reached(folder: int, directory: str) -> socket.socket | None:
    """A connection to the daemon that listens here, found to be of our uid; None when it left just now."""
    daemon = socket.socket(socket.AF_UNIX)
    try:
        daemon.setblocking(False)  # a full backlog is a reason to look again, not to wait for good
        at_socket(folder, directory, daemon.connect)
    except OSError:
        daemon.close()
        return None
    daemon.setblocking(True)
    if hasattr(socket, "SO_PEERCRED"):
        uid = int.from_bytes(daemon.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[4:8], sys.byteorder)
        if uid != os.geteuid():
            daemon.close()
            raise Denied(
                f"The daemon of {directory} runs as uid {uid}, which is not yours. Nothing was said to it."
            )
    return daemon


def _join(directory: str, config: str, ended: set[int]) -> socket.socket | None:
    """A connection to the daemon that owns the directory; None while it starts, leaves or makes room."""
    folder = folder_of(directory)
    lock = -1
    try:
        lock = opened(folder, "lock", os.O_RDWR)
        pid = _owner(directory, lock, config)
        if pid > 0:
            return _reached(folder, directory)
        if pid < 0 and -pid not in ended:
            ended.add(-pid)
            write_record(lock, {**record_of(lock), "next": __version__, "asked": time.monotonic()})
            os.kill(-pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    finally:
        for fd in (folder, lock):
            if fd >= 0:
                os.close(fd)
    return None


def connect(directory: str, config: str, command: Sequence[str] = DAEMON) -> socket.socket:
    """A connection to the daemon of the state directory, which is started when there is none.

    Nothing is sent before the daemon serves, so a start that fails may be tried again.

    Raises: OtherConfiguration; Unwritable; Denied; Broken when the daemon cannot be started.
    """
    end, ended = time.monotonic() + PATIENCE, set[int]()
    while time.monotonic() < end:
        try:
            lock, listener = own(directory, "on-demand", config)
        except BlockingIOError:
            if daemon := _join(directory, config, ended):
                return daemon
            time.sleep(0.01)
        else:
            held = ["--lock", str(lock), "--listen", str(listener.fileno())]
            try:
                _spawn(
                    directory,
                    [*command, *held, "--directory", directory, "--config", config],
                    lock,
                    listener.fileno(),
                )
            finally:
                os.close(lock)
                listener.close()
    raise Broken(
        f"The daemon that holds {directory}/lock did not serve within {PATIENCE:.0f} seconds. "
        f"{last_words(directory)} Ask again, or end it."
    )
