"""The headers of programs, ELF, Mach-O and PE: where the data begin, and what lies at an address."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from io import FileIO
from typing import Literal, NamedTuple

TABLE_CAP = 1 << 20
"""So many bytes of a table of headers are read at most."""
COUNT_CAP = 4_096
"""So many headers are looked at."""
_WRITABLE_DATA = 0x40 | 0x40000000 | 0x80000000
_ALIGNMENT = 0x600000


class Segment(NamedTuple):
    """A part of a program: its address in memory, and where it is in the file."""

    address: int
    offset: int
    size: int


@dataclass(frozen=True)
class Image:
    """A program, read by the addresses that it has in memory."""

    stream: FileIO
    segments: tuple[Segment, ...]
    begin: int
    """Address of the section, or of the data, in which a build block is."""
    size: int

    def read(self, address: int, size: int) -> bytes:
        """Up to `size` bytes from an address on, to the end of their segment; none where there is none.

        Raises: OSError.
        """
        for segment in self.segments:
            into = address - segment.address
            if 0 <= into < segment.size:
                return _bytes(self.stream, segment.offset + into, min(size, segment.size - into))
        return b""


def image_of(stream: FileIO) -> Image | None:
    """The program in this file; None if it is none of a known kind, or a damaged one.

    Raises: OSError.
    """
    head = _bytes(stream, 0, 64)
    if len(head) < 64:
        return None
    try:
        if head.startswith(b"\x7fELF"):
            return _elf(stream, head)
        if head.startswith(b"MZ"):
            return _pe(stream, head)
        if head[:4] in (b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf"):  # programs for several processors
            wide = head[3] == 0xBF
            offset = int.from_bytes(head[16:24] if wide else head[16:20], "big")
            return _mach(stream, _bytes(stream, offset, 64), offset)
        return _mach(stream, head, 0)
    except struct.error:
        return None


def _bytes(stream: FileIO, offset: int, size: int) -> bytes:
    """Up to `size` bytes from a place in the file."""
    parts: list[bytes] = []
    while size > 0 and 0 <= offset < 1 << 62:
        part = os.pread(stream.fileno(), min(size, TABLE_CAP), offset)
        if not part:
            break
        parts.append(part)
        size, offset = size - len(part), offset + len(part)
    return b"".join(parts)


def _table(stream: FileIO, offset: int, size: int, count: int) -> list[bytes]:
    """The whole entries of a table."""
    if not size or size > 4_096:
        return []
    content = _bytes(stream, offset, min(size * min(count, COUNT_CAP), TABLE_CAP))
    return [content[at : at + size] for at in range(0, len(content) - size + 1, size)]


def _elf(stream: FileIO, head: bytes) -> Image | None:
    wide, order = head[4] == 2, ">" if head[5] == 2 else "<"
    program_at, section_at = struct.unpack_from(
        f"{order}QQ" if wide else f"{order}II", head, 32 if wide else 28
    )
    program_size, programs, section_size, sections, names_at = struct.unpack_from(
        f"{order}5H", head, 54 if wide else 42
    )
    loaded: list[tuple[Segment, int, int]] = []
    for entry in _table(stream, program_at, program_size, programs):
        if wide:
            kind, flags, offset, address, _, size, memory = struct.unpack_from(f"{order}IIQQQQQ", entry)
        else:
            kind, offset, address, _, size, memory, flags = struct.unpack_from(f"{order}7I", entry)
        if kind == 1:
            loaded.append((Segment(address, offset, size), flags, memory))
    segments = tuple(segment for segment, _, _ in loaded)
    form = f"{order}IIQQQQ" if wide else f"{order}6I"
    named = [struct.unpack_from(form, entry) for entry in _table(stream, section_at, section_size, sections)]
    if names_at < len(named):
        names = _bytes(stream, named[names_at][4], min(named[names_at][5], TABLE_CAP))
        for name, _, _, address, _, size in named:
            if names[name : name + 14] == b".go.buildinfo\0":
                return Image(stream, segments, address, size)
    for segment, flags, memory in loaded:
        if flags & 3 == 2:  # writable and not executable
            return Image(stream, segments, segment.address, memory)
    return None


def _mach(stream: FileIO, head: bytes, base: int) -> Image | None:
    orders: dict[bytes, tuple[Literal["<", ">"], bool]] = {
        b"\xce\xfa\xed\xfe": ("<", False),
        b"\xcf\xfa\xed\xfe": ("<", True),
        b"\xfe\xed\xfa\xce": (">", False),
        b"\xfe\xed\xfa\xcf": (">", True),
    }
    if head[:4] not in orders:
        return None
    order, wide = orders[head[:4]]
    count, length = struct.unpack_from(f"{order}II", head, 16)
    commands = _bytes(stream, base + (32 if wide else 28), min(length, TABLE_CAP))
    segments: list[Segment] = []
    named: Segment | None = None
    data: Segment | None = None
    at = 0
    for _ in range(min(count, COUNT_CAP)):
        kind, size = struct.unpack_from(f"{order}II", commands, at)
        if kind == (0x19 if wide else 1):
            name, address, memory, offset, content, most, least, sections = struct.unpack_from(
                f"{order}16s4Q3I" if wide else f"{order}16s4I3I", commands, at + 8
            )
            if name.rstrip(b"\0") != b"__PAGEZERO":
                segments.append(Segment(address, base + offset, content))
            if most == least == 3 and address and content and data is None:
                data = Segment(address, 0, memory)
            named = named or _build_section(commands, at + (72 if wide else 56), sections, order, wide=wide)
        at += max(size, 8)
    begin = named or data
    return Image(stream, tuple(segments), begin.address, begin.size) if begin else None


def _build_section(commands: bytes, at: int, count: int, order: str, *, wide: bool) -> Segment | None:
    """The section in which the linker of Go puts the block."""
    size = 80 if wide else 68
    for place in range(at, at + size * min(count, COUNT_CAP), size):
        name, _, address, length = struct.unpack_from(
            f"{order}16s16s{'QQ' if wide else 'II'}", commands, place
        )
        if name.rstrip(b"\0") == b"__go_buildinfo":
            return Segment(address, 0, length)
    return None


def _pe(stream: FileIO, head: bytes) -> Image | None:
    (at,) = struct.unpack_from("<I", head, 60)
    header = _bytes(stream, at, 24 + 32)
    if header[:4] != b"PE\0\0":
        return None
    count, optional = struct.unpack_from("<H", header, 6)[0], struct.unpack_from("<H", header, 20)[0]
    (kind,) = struct.unpack_from("<H", header, 24)
    (base,) = struct.unpack_from("<Q", header, 48) if kind == 0x20B else struct.unpack_from("<I", header, 52)
    segments: list[Segment] = []
    data: Segment | None = None
    for entry in _table(stream, at + 24 + optional, 40, count):
        memory, address, size, offset = struct.unpack_from("<4I", entry, 8)
        (flags,) = struct.unpack_from("<I", entry, 36)
        segments.append(Segment(base + address, offset, size))
        if address and size and flags & ~_ALIGNMENT == _WRITABLE_DATA and data is None:
            data = Segment(base + address, 0, memory)
    return Image(stream, tuple(segments), data.address, data.size) if data else None
