"""From a path of the watched machine to a descriptor of what is there, without being led astray by links."""

import errno
import os
import stat as modes
from pathlib import Path, PurePath

from watchman_mcp.errors import Absent, Broken, Denied

LINK_HOPS = 40
DEPTH = 256

# O_PATH opens anything, a FIFO or a device too, without touching it: nothing blocks and nothing is triggered.
LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def printable(path: str | PurePath) -> str:
    """The path as a message may show it, with every byte that is not plain text escaped."""
    text = str(path).encode("utf-8", "backslashreplace").decode()
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def failure(error: OSError | ValueError, path: str | PurePath) -> Absent | Denied | Broken:
    """What an error of the operating system about this path means to a collector."""
    shown = printable(path)
    if not isinstance(error, OSError):
        return Broken(f"{shown} is no path that can be opened ({error}); nothing can be read there")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return Absent(f"{shown} is not on this machine")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Denied(f"{shown} may not be read by uid {os.geteuid()}; run Watchman as a user who may")
    reason = os.strerror(error.errno) if error.errno else str(error)
    return Broken(f"{shown} cannot be read: {reason}; repair it or take it away")


def locate(root: Path, path: str | PurePath, *, follow: bool = True) -> int:
    """A descriptor of what is at the end of `path` under `root`, to be asked, not read; the caller closes it.

    Each component is opened relative to its parent. A link is followed only if root made it, or if an
    unprivileged daemon's own user did, and never out of `root`; the last one only with `follow`.

    Raises: Absent, Denied, Broken.
    """
    walk = _Walk()
    try:
        return walk.run(root, str(path), follow)
    except (OSError, ValueError) as error:
        raise failure(error, path) from error
    finally:
        walk.close()


class _Walk:
    """The directories from the root to where the walk stands; `..` goes back along them."""

    def __init__(self) -> None:
        self._stack: list[int] = []
        self._names: list[str] = []
        self._hops = 0

    def run(self, root: Path, path: str, follow: bool) -> int:
        # The root itself was chosen by the owner: links in it are followed.
        self._stack.append(os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        pending = _components(path)
        while pending:
            name = pending.pop()
            if name == "..":
                self._up()
                continue
            descriptor = self._open(name)
            status = os.fstat(descriptor)
            if modes.S_ISDIR(status.st_mode) or not (pending or modes.S_ISLNK(status.st_mode) and follow):
                continue
            if not modes.S_ISLNK(status.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            target = self._target(descriptor, status)
            self._up()
            if target.startswith("/"):
                self._back_to_root()
            pending.extend(_components(target))
        return self._stack.pop()

    def close(self) -> None:
        while self._stack:
            os.close(self._stack.pop())

    def _open(self, name: str) -> int:
        if len(self._stack) > DEPTH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        descriptor = os.open(name, LOOK, dir_fd=self._stack[-1])
        self._stack.append(descriptor)
        self._names.append(name)
        return descriptor

    def _target(self, descriptor: int, status: os.stat_result) -> str:
        self._hops += 1
        if self._hops > LINK_HOPS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        user = os.geteuid()
        if status.st_uid != 0 and (user == 0 or status.st_uid != user):
            link = printable("/" + "/".join(self._names))
            raise Denied(
                f"{link} is a link made by uid {status.st_uid}, which uid {user} does not follow; "
                "let Watchman read what it points to under its own path"
            )
        # An empty path names the descriptor itself, so this is the very link whose owner was just checked.
        return os.readlink("", dir_fd=descriptor)

    def _up(self) -> None:
        if len(self._stack) > 1:
            os.close(self._stack.pop())
            self._names.pop()

    def _back_to_root(self) -> None:
        while len(self._stack) > 1:
            self._up()


def _components(path: str) -> list[str]:
    """The components of a path, last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]
