"""Reads what a packed tar archive holds, name by name, in bounded memory and in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from watchman_mcp.errors import Broken
from watchman_mcp.machine.archives import inflated
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.paths import printable

_BLOCK = 512
_LONGEST_NAME = 64 << 10
_DIGITS = 6
_PACKED = ((b"\x1f\x8b", ".gz"), (b"\xfd7zXZ\0", ".xz"), (b"BZh", ".bz2"), (b"\x28\xb5\x2f\xfd", ".zst"))
_EXTENDED, _LONG_NAME, _GLOBAL = b"x", b"L", b"g"


class Member(NamedTuple):
    """One name of an archive; its content is to be taken before the next name is."""

    name: str
    content: Iterator[bytes]


@contextmanager
def opened(files: Files, path: str) -> Iterator[Iterator[Member]]:
    """The members of the archive at this path, whatever it is packed with; its own first bytes tell.

    Raises: Absent, Denied, Broken (damaged, cut off, or packed in a way that cannot be read here).
    """
    first = files.head(path, 6)
    suffix = next((suffix for magic, suffix in _PACKED if first.startswith(magic)), "")
    with files.stream(path) as stream:
        pieces = inflated(stream, suffix, path) if suffix else iter(lambda: stream.read(64 << 10) or b"", b"")
        yield members(pieces, path)


def members(pieces: Iterable[bytes], path: str) -> Iterator[Member]:
    """The members of an archive that comes in pieces.

    Raises: Broken.
    """
    tape = _Tape(pieces, path)
    name = ""
    while (header := tape.read(_BLOCK)).strip(b"\0"):
        size, kind = _size(header, path), header[156:157]
        if kind in (_EXTENDED, _LONG_NAME, _GLOBAL):
            if size > _LONGEST_NAME:
                raise Broken(f"{printable(path)} has a header of {size} bytes; it is not read further")
            told = tape.read(size)
            name = (
                _extended(told) if kind == _EXTENDED else _text(told) if kind == _LONG_NAME else ""
            ) or name
            tape.skip(-size % _BLOCK)
            continue
        start = tape.at
        yield Member(name or _name(header), tape.pieces(size))
        tape.skip(size - (tape.at - start) + -size % _BLOCK)
        name = ""


class _Tape:
    """What comes in pieces, read in others."""

    def __init__(self, pieces: Iterable[bytes], path: str) -> None:
        self.at = 0
        self._pieces = iter(pieces)
        self._path = path
        self._rest = memoryview(b"")

    def pieces(self, size: int) -> Iterator[bytes]:
        """So many bytes, in pieces as they come."""
        end = self.at + size
        while self.at < end:
            if not self._rest:
                piece = next(self._pieces, b"")
                if not piece:
                    raise Broken(f"{printable(self._path)} ends in the middle; fetch it again")
                self._rest = memoryview(piece)
            taken, self._rest = self._rest[: end - self.at], self._rest[end - self.at :]
            self.at += len(taken)
            yield bytes(taken)

    def read(self, size: int) -> bytes:
        """So many bytes."""
        if size > len(self._rest):
            return b"".join(self.pieces(size))
        taken, self._rest = bytes(self._rest[:size]), self._rest[size:]
        self.at += size
        return taken

    def skip(self, size: int) -> None:
        """Pass over so many bytes."""
        if size <= len(self._rest):
            self._rest = self._rest[size:]
            self.at += size
            return
        for _ in self.pieces(size):
            pass


def _size(header: bytes, path: str) -> int:
    text = header[124:136].strip(b"\0 ")
    sum_told = header[148:156].strip(b"\0 ")
    # The sum is counted as if its own eight bytes were spaces.
    counted = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    try:
        if int(sum_told or b"0", 8) == counted and (size := int(text or b"0", 8)) >= 0:
            return size
    except ValueError:
        pass
    raise Broken(f"{printable(path)} is no archive, or a damaged one; fetch it again")


def _name(header: bytes) -> str:
    name, prefix = _text(header[:100]), _text(header[345:500])
    return f"{prefix}/{name}" if prefix and header[257:263] == b"ustar\0" else name


def _extended(records: bytes) -> str:
    """The path in an extended header, whose records are `LENGTH KEY=VALUE` with a line end."""
    at = 0
    while at < len(records):
        length = records[at : at + _DIGITS].partition(b" ")[0]
        if not length.isdigit() or not len(length) < int(length) <= len(records) - at:
            return ""
        key, _, value = records[at + len(length) + 1 : at + int(length) - 1].partition(b"=")
        if key == b"path":
            return _text(value)
        at += int(length)
    return ""


def _text(name: bytes) -> str:
    return name.partition(b"\0")[0].decode("utf-8", "surrogateescape")
