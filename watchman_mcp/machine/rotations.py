"""The files that one log was split into by rotation: which they are, in which order, and what is in them."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO

from watchman_mcp.errors import Absent, Broken, Denied
from watchman_mcp.machine.archives import inflated
from watchman_mcp.machine.files import Directory, Entry
from watchman_mcp.machine.paths import failure

HEAD_SIZE = 512

_CHUNK = 256 << 10
_NUMBERED = r"\.(?P<number>\d{1,6})"
_DATED = r"[-._](?P<date>\d{8}(?:[-_T.]?\d{2,10})?|\d{4}-\d{2}-\d{2}(?:[-_T.]\d{2}(?:[-:.]?\d{2}){0,2})?)"
_ROTATED = re.compile(rf"(?:{_NUMBERED}|{_DATED})(?P<suffix>\.gz|\.xz|\.bz2|\.zst)?")


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a log; `suffix` says how it is packed, and only the live one is still written to."""

    entry: Entry
    suffix: str
    live: bool
    number: int = 0
    date: str = ""


class Content:
    """What one part holds, unpacked; nothing beyond its size at the time of opening is read."""

    def __init__(self, stream: FileIO, part: Part, path: str) -> None:
        status = os.fstat(stream.fileno())
        self.inode = status.st_ino
        self.device = status.st_dev
        self.size = status.st_size
        # The name may mean another file by now; a link's own inode never was the file's.
        self.moved = part.entry.kind != "link" and (self.inode, self.device) != (
            part.entry.inode,
            part.entry.device,
        )
        self._stream = stream
        self._part = part
        self._path = path
        self.head = self._head()

    def chunks(self, start: int) -> Iterator[bytes]:
        """The content from `start` on, in pieces of bounded size.

        Raises: Broken.
        """
        if not self._part.suffix:
            yield from self._plain(start)
            return
        self._seek(0)
        skip = start
        for piece in inflated(self._stream, self._part.suffix, self._path):
            if len(piece) > skip:
                yield piece[skip:]
            skip = max(skip - len(piece), 0)

    def _plain(self, start: int) -> Iterator[bytes]:
        self._seek(start)
        missing = self.size - start
        while missing > 0:
            try:
                piece = self._stream.read(min(missing, _CHUNK))
            except OSError as error:
                raise failure(error, self._path) from error
            if not piece:  # it was cut short meanwhile
                return
            missing -= len(piece)
            yield piece

    def _seek(self, offset: int) -> None:
        try:
            self._stream.seek(offset)
        except OSError as error:
            raise failure(error, self._path) from error

    def _head(self) -> bytes:
        head = b""
        try:
            for piece in self.chunks(0):
                head += piece[: HEAD_SIZE - len(head)]
                if len(head) == HEAD_SIZE:
                    break
        except Broken:
            # Damage is reported when the content is read; what came before it still identifies the file.
            pass
        return head


@contextmanager
def opened(directory: Directory, part: Part) -> Iterator[Content]:
    """One part of a log, open while the context lasts.

    Raises: Absent, Denied, Broken.
    """
    with directory.stream(part.entry.name) as stream:
        yield Content(stream, part, f"{directory.path.rstrip('/')}/{part.entry.name}")


def parts_of(directory: Directory, name: str) -> list[Part]:
    """The parts of the log `name` in this directory, oldest first, the live one last.

    Raises: Denied, Broken.
    """
    numbered: list[Part] = []
    dated: list[Part] = []
    live: list[Part] = []
    for entry in directory.entries():
        if entry.kind == "directory" or not entry.name.startswith(name):
            continue
        if entry.name == name:
            live.append(Part(entry, "", live=True))
            continue
        match = _ROTATED.fullmatch(entry.name, len(name))
        if match is None:
            continue
        suffix = match["suffix"] or ""
        if match["number"]:
            numbered.append(Part(entry, suffix, live=False, number=int(match["number"])))
        else:
            dated.append(Part(entry, suffix, live=False, date=re.sub(r"\D", "", match["date"])))
    numbered.sort(key=lambda part: (-part.number, part.entry.mtime))
    dated.sort(key=lambda part: (part.date, part.entry.mtime))
    # After a change of style one kind is older as a whole.
    rotated = [part for group in sorted((numbered, dated), key=_newest) for part in group]
    return [*_without_copies(directory, rotated), *live]


def _newest(group: list[Part]) -> float:
    return max((part.entry.mtime for part in group), default=0.0)


def _without_copies(directory: Directory, parts: list[Part]) -> list[Part]:
    """Leave out a packed file beside the plain one that it is being made from."""
    plain = {(part.number, part.date): part for part in parts if not part.suffix}
    return [
        part
        for part in parts
        if not part.suffix
        or (part.number, part.date) not in plain
        or not _starts_alike(directory, plain[part.number, part.date], part)
    ]


def _starts_alike(directory: Directory, plain: Part, packed: Part) -> bool:
    try:
        with opened(directory, plain) as whole, opened(directory, packed) as copy:
            return whole.head.startswith(copy.head)
    except (Absent, Denied, Broken):
        return False
