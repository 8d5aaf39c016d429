"""The lock and the socket of a state directory, and what its lock file says of the daemon that owns it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time

from watchman_mcp import __version__
from watchman_mcp.bridge.places import VERSION, Unwritable, network_file_system, numbered
from watchman_mcp.errors import Broken, Denied, WatchmanError

TYPE_CHECKING = False  # typing costs milliseconds that every start of a client would pay
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Message = dict[str, Any]

READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)
PATIENCE = 60.0  # seconds for a daemon to serve: opening a large store of an older version copies it first
TRIES, PAUSE = 3, 10.0  # daemons in a row that never served, then one more every so many seconds
TURN = 2.0  # seconds that an older version leaves to a newer one which ended its daemon


def failed(directory: str, error: OSError) -> WatchmanError:
    """The error that tells what is wrong with a state directory."""
    text = f"The state directory {directory} cannot be used: {error.strerror}. [store] path moves it."
    return Unwritable(text) if error.errno in READ_ONLY else Broken(text)


def folder_of(directory: str) -> int:
    """A descriptor of the state directory, which is made if missing and must be ours alone."""
    me = os.geteuid()
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        if os.stat(directory).st_uid != me or os.lstat(directory).st_uid not in (me, 0):
            raise Denied(
                f"{directory} belongs to another user (you are uid {me}). [store] path names another place."
            )
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            seen = os.fstat(folder)
            if seen.st_uid != me or seen.st_mode & 0o022:
                raise Denied(
                    f"Others may write to {directory}, so it is not used. Run: chmod 700 {directory}"
                )
            if seen.st_mode & 0o777 != 0o700:
                os.fchmod(folder, 0o700)
        except BaseException:
            os.close(folder)
            raise
    except OSError as error:
        raise failed(directory, error) from error
    return folder


def opened(folder: int, name: str, flags: int) -> int:
    """A file of the state directory, made when it is absent; never through a link."""
    return os.open(name, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=folder)


def record_of(lock: int) -> Message:
    """What the lock file says; empty while it says nothing readable."""
    try:
        found = json.loads(os.pread(lock, 65536, 0).partition(b"\n")[0])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def write_record(lock: int, record: Message) -> None:
    """Say it in the lock file, in one line."""
    line = json.dumps(record).encode() + b"\n"
    os.pwrite(lock, line, 0)
    os.ftruncate(lock, len(line))


def serving(lock: int) -> None:
    """Tell every bridge that waits for it that this process, which holds the lock, now serves the socket."""
    write_record(lock, {**record_of(lock), "pid": os.getpid(), "tries": 0})


def at_socket(folder: int, directory: str, call: Callable[[str], None]) -> None:
    """Call bind or connect with an address that fits: the kernel takes 107 bytes."""
    path = directory + "/sock"
    if len(os.fsencode(path)) <= 107:
        call(path)
    elif os.path.isdir("/proc/self/fd"):
        call(f"/proc/self/fd/{folder}/sock")
    else:
        here = os.open(".", os.O_RDONLY)
        try:
            os.fchdir(folder)
            call("sock")
        finally:
            os.fchdir(here)
            os.close(here)


def last_words(directory: str) -> str:
    """The end of what a daemon that never served wrote, if it wrote it just now."""
    for name in ("daemon.err", "daemon.log"):
        path = f"{directory}/{name}"
        if os.path.exists(path) and time.time() - os.stat(path).st_mtime < PATIENCE:
            with open(path, "rb") as file:
                file.seek(-min(2000, os.fstat(file.fileno()).st_size), os.SEEK_END)
                lines = file.read().decode("utf-8", "replace").strip().split("\n")
            if lines != [""]:
                return f"The end of {path}:\n" + "\n".join(lines[-12:])
    return f"It left no message in {directory}/daemon.err or daemon.log."


def _tries(directory: str, lock: int) -> Message:
    """The count and time of starts in a row whose daemon never served, with the one that begins now."""
    record, now = record_of(lock), time.monotonic()
    tries = 0 if record.get("pid") else record.get("tries", 0)
    if tries >= TRIES and 0 <= now - record.get("tried", 0.0) < PAUSE:
        raise Broken(f"The Watchman daemon ended at each of {tries} starts. {last_words(directory)}")
    return {"tries": tries + 1, "tried": now}


def _promised(lock: int) -> bool:
    """Whether a newer version just ended the last daemon to start its own: an older one waits for that."""
    record = record_of(lock)
    recent = 0 <= time.monotonic() - record.get("asked", 0.0) < TURN
    return recent and numbered(str(record.get("next"))) > VERSION


def own(directory: str, mode: str, config: str) -> tuple[int, socket.socket]:
    """Take the state directory for one daemon: its lock, held by the descriptor, and its listening socket.

    The mode is "on-demand" (for a daemon started next, which calls `serving`) or "staying" (this process).

    Raises: BlockingIOError when a daemon owns it; Unwritable; Denied; Broken.
    """
    folder = folder_of(directory)
    lock = -1
    try:
        if kind := network_file_system(directory):
            raise Denied(
                f"{directory} is on a network file system ({kind}). [store] path moves it to a local disk."
            )
        lock = opened(folder, "lock", os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _promised(lock):
            raise BlockingIOError
        record: Message = {"pid": os.getpid(), "version": __version__, "mode": mode, "config": config}
        if mode == "on-demand":
            record |= {"pid": 0, **_tries(directory, lock)}
        write_record(lock, record)
        if "sock" in os.listdir(folder):
            os.unlink("sock", dir_fd=folder)
        listener = socket.socket(socket.AF_UNIX)
        at_socket(folder, directory, listener.bind)
        os.chmod("sock", 0o600, dir_fd=folder)
        listener.listen(128)
    except BaseException as error:
        if lock >= 0:
            os.close(lock)
        if isinstance(error, OSError) and not isinstance(error, BlockingIOError):
            raise failed(directory, error) from error
        raise
    finally:
        os.close(folder)
    return lock, listener
