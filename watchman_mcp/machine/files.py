"""The one opener for all files of the watched machine, some of which were laid there to trick it."""

import errno
import os
import stat as modes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path, PurePath

from watchman_mcp.errors import Absent, Broken, InvalidRequest
from watchman_mcp.machine.entries import Entry, described, listed
from watchman_mcp.machine.paths import LOOK, failure, locate, printable

__all__ = ("Directory", "Entry", "Files")

READ_CAP = 64 << 20
ENTRY_LIMIT = 200_000

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CHUNK = 256 << 10
_KIND_WORDS = {
    modes.S_IFREG: "regular file",
    modes.S_IFDIR: "directory",
    modes.S_IFLNK: "link",
    modes.S_IFIFO: "FIFO",
    modes.S_IFSOCK: "socket",
    modes.S_IFCHR: "device",
    modes.S_IFBLK: "device",
}


class Directory:
    """An open directory whose children are opened relative to it, one system call each.

    Names are single path components; links follow the same rules as everywhere.
    """

    def __init__(self, files: "Files", path: str, descriptor: int) -> None:
        self.path = path
        self._files = files
        self._descriptor = descriptor

    def entries(self, limit: int = ENTRY_LIMIT) -> list[Entry]:
        """Everything in this directory, sorted by name.

        Raises: Denied, Broken (more than `limit` names).
        """
        found: list[Entry] = []
        try:
            descriptor = _reopened(self._descriptor, _LIST, self.path)
            try:
                with os.scandir(descriptor) as listing:
                    for item in listing:
                        if len(found) >= limit:
                            raise Broken(
                                f"{printable(self.path)} holds more than {limit} names; it is not read"
                            )
                        entry = listed(item)
                        if entry is not None:
                            found.append(entry)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise failure(error, self.path) from error
        return sorted(found, key=lambda entry: entry.name)

    def read(self, name: str, cap: int = READ_CAP) -> bytes:
        """All bytes of one file in this directory.

        Raises: Absent, Denied, Broken (not a regular file, or larger than `cap`).
        """
        with self.stream(name) as stream:
            return _all(stream, self._child(name), cap)

    def text(self, name: str, cap: int = READ_CAP) -> str:
        """The text of one file in this directory; bytes that are not UTF-8 become surrogate escapes.

        Raises: Absent, Denied, Broken.
        """
        return self.read(name, cap).decode("utf-8", "surrogateescape")

    @contextmanager
    def stream(self, name: str) -> Iterator[FileIO]:
        """One regular file in this directory, open for reading without a buffer.

        Raises: Absent, Denied, Broken.
        """
        path = self._child(name)
        try:
            descriptor = os.open(name, _READ, dir_fd=self._descriptor)
        except (OSError, ValueError) as error:
            if not isinstance(error, OSError) or error.errno != errno.ELOOP:
                raise failure(error, path) from error
            descriptor = -1
        if descriptor < 0:
            with self._files.stream(path) as stream:
                yield stream
        else:
            with _regular(descriptor, path) as stream:
                yield stream

    @contextmanager
    def directory(self, name: str) -> Iterator["Directory"]:
        """A directory inside this one, open while the context lasts.

        Raises: Absent, Denied, Broken.
        """
        path = self._child(name)
        try:
            descriptor = os.open(name, LOOK | os.O_DIRECTORY, dir_fd=self._descriptor)
        except (OSError, ValueError) as error:
            if not isinstance(error, OSError) or error.errno != errno.ENOTDIR:
                raise failure(error, path) from error
            descriptor = locate(self._files.root, path)
        with _held(descriptor):
            _require(descriptor, path, modes.S_ISDIR)
            yield Directory(self._files, path, descriptor)

    def _child(self, name: str) -> str:
        if name in ("", ".", "..") or "/" in name:
            raise InvalidRequest(f"{printable(name)!r} is not one name in {printable(self.path)}")
        return f"{self.path.rstrip('/')}/{name}"


class Files:
    """Reads the files of the machine whose root directory is `root`; paths are that machine's own.

    Each component of a path is opened relative to its parent. A link is followed only if root made it, or if
    an unprivileged daemon's own user did; it never leads out of `root`.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def read(self, path: str | PurePath, cap: int = READ_CAP) -> bytes:
        """All bytes of a regular file, never cut short.

        Raises: Absent, Denied, Broken (not a regular file, or larger than `cap`).
        """
        with self.stream(path) as stream:
            return _all(stream, path, cap)

    def text(self, path: str | PurePath, cap: int = READ_CAP) -> str:
        """The text of a file; bytes that are not UTF-8 become surrogate escapes, line ends stay.

        Raises: Absent, Denied, Broken.
        """
        return self.read(path, cap).decode("utf-8", "surrogateescape")

    def head(self, path: str | PurePath, size: int) -> bytes:
        """The first `size` bytes of a file, or fewer if it has fewer.

        Raises: Absent, Denied, Broken.
        """
        with self.stream(path) as stream:
            return _upto(stream, path, size)

    def stat(self, path: str | PurePath) -> Entry:
        """What is at the end of this path, after its links.

        Raises: Absent, Denied, Broken.
        """
        with _held(locate(self.root, path)) as descriptor:
            return described(PurePath(path).name, os.fstat(descriptor))

    def target(self, path: str | PurePath) -> str:
        """The text of the link at the end of this path, which is not followed, whoever made it.

        Raises: Absent, Denied, Broken (not a link).
        """
        with _held(locate(self.root, path, follow=False)) as descriptor:
            _require(descriptor, path, modes.S_ISLNK)
            return os.readlink("", dir_fd=descriptor)

    def real(self, path: str | PurePath) -> str:
        """The path of what is at the end of this one, without links.

        Raises: Absent, Denied, Broken.
        """
        with _held(locate(self.root, path)) as descriptor:
            name = os.readlink(f"/proc/self/fd/{descriptor}")
        root = os.path.realpath(self.root)
        return name if root == "/" else name.removeprefix(root) or "/"

    def exists(self, path: str | PurePath) -> bool:
        """Whether anything is there; a link that leads nowhere is nothing.

        Raises: Denied, Broken.
        """
        try:
            os.close(locate(self.root, path))
        except Absent:
            return False
        return True

    def entries(self, path: str | PurePath, limit: int = ENTRY_LIMIT) -> list[Entry]:
        """Everything in a directory, sorted by name; links are described, not followed.

        Raises: Absent, Denied, Broken (more than `limit` names).
        """
        with self.directory(path) as directory:
            return directory.entries(limit)

    @contextmanager
    def directory(self, path: str | PurePath) -> Iterator[Directory]:
        """A directory, open while the context lasts.

        Raises: Absent, Denied, Broken.
        """
        with _held(locate(self.root, path)) as descriptor:
            _require(descriptor, path, modes.S_ISDIR)
            yield Directory(self, str(path), descriptor)

    @contextmanager
    def stream(self, path: str | PurePath) -> Iterator[FileIO]:
        """A regular file, open for reading without a buffer.

        Raises: Absent, Denied, Broken.
        """
        with _held(locate(self.root, path)) as found:
            _require(found, path, modes.S_ISREG)
            with _regular(_reopened(found, _READ & ~os.O_NOFOLLOW, path), path) as stream:
                yield stream


@contextmanager
def _held(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _reopened(descriptor: int, flags: int, path: str | PurePath) -> int:
    """A readable descriptor of the very inode that was checked, whatever its name means by now."""
    try:
        return os.open(f"/proc/self/fd/{descriptor}", flags)
    except FileNotFoundError as error:
        raise Broken("/proc is not mounted, so nothing can be opened safely; mount it") from error
    except OSError as error:
        raise failure(error, path) from error


@contextmanager
def _regular(descriptor: int, path: str | PurePath) -> Iterator[FileIO]:
    with FileIO(descriptor, "rb") as stream:
        _require(descriptor, path, modes.S_ISREG)
        yield stream


def _require(descriptor: int, path: str | PurePath, test: Callable[[int], bool]) -> None:
    mode = os.fstat(descriptor).st_mode
    if test(mode):
        return
    if test is modes.S_ISDIR:
        raise Absent(f"{printable(path)} is not a directory on this machine")
    wanted = "link" if test is modes.S_ISLNK else "regular file"
    raise Broken(f"{printable(path)} is a {_words(mode)}, not a {wanted}; it is not read")


def _all(stream: FileIO, path: str | PurePath, cap: int) -> bytes:
    content = _upto(stream, path, cap + 1)
    if len(content) > cap:
        raise Broken(f"{printable(path)} is larger than the cap of {cap} bytes; it is not read")
    return content


def _upto(stream: FileIO, path: str | PurePath, size: int) -> bytes:
    parts: list[bytes] = []
    missing = size
    try:
        while missing > 0:
            part = stream.read(min(missing, _CHUNK))
            if part is None:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            if not part:
                break
            parts.append(part)
            missing -= len(part)
    except OSError as error:
        raise failure(error, path) from error
    return b"".join(parts)


def _words(mode: int) -> str:
    return _KIND_WORDS.get(modes.S_IFMT(mode), "thing of an unknown kind")
