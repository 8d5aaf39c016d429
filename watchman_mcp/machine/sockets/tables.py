"""Reads sockets from the tables of /proc/PID/net, where the kernel does not answer by netlink.

They do not tell the interface that a socket is bound to, nor whether one of :: is for IPv4 too; and a line
break in the name of a unix socket breaks its line.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import suppress

from . import ESTABLISHED, LISTENING, UNCONNECTED, Inet, Sockets, Unix, families, name_of, written

_TABLES = (("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp"))
_WANTED = {"tcp": (LISTENING, ESTABLISHED), "udp": (UNCONNECTED, ESTABLISHED)}
_STATES = frozenset(b"%02X" % state for state in range(1, 14))
_ACCEPTS = 1 << 16


def read(directory: str) -> Sockets:
    """The sockets that the tables in this directory, such as /proc/PID/net, show.

    Raises: OSError.
    """
    found = Sockets()
    for name, protocol in _TABLES:
        with suppress(FileNotFoundError):  # a kernel without IPv6
            for one in inet(protocol, _content(f"{directory}/{name}")):
                if one is None:
                    found.unreadable += 1
                elif one.port:
                    found.add(one)
    for local in unix(_content(f"{directory}/unix")):
        if local is None:
            found.unreadable += 1
        else:
            found.unix.append(local)
    return found


def _content(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


def inet(protocol: str, table: bytes) -> Iterator[Inet | None]:
    """The listening and the connected sockets of one table; None for a line that is not understood."""
    others = _STATES - {b"%02X" % state for state in _WANTED[protocol]}
    for line in table.split(b"\n")[1:]:
        fields = line.split(None, 10)
        if len(fields) > 3 and fields[3] in others:
            continue  # most lines of a busy machine: closing and waiting ones
        if fields:
            try:
                yield _inet(protocol, fields)
            except (ValueError, IndexError, OverflowError):
                yield None


def _inet(protocol: str, fields: list[bytes]) -> Inet:
    if any(not one.isdigit() or len(one) > 18 for one in (fields[7], fields[9])):
        raise ValueError(fields)
    family, address, v4, port = _end(fields[1])
    _, peer, _, peer_port = _end(fields[2])
    return Inet(
        protocol,
        families(family == socket.AF_INET6, v4, address, v6_only=None),
        address,
        port,
        peer,
        peer_port,
        int(fields[3], 16),
        0,
        int(fields[7]),
        int(fields[9]),
    )


def _end(text: bytes) -> tuple[int, str, bool, int]:
    """Family, address, whether it is one of IPv4, and port of one end: 0100007F:0016."""
    words, _, port = text.partition(b":")
    if len(words) not in (8, 32) or len(port) != 4 or not (words + port).isalnum():
        raise ValueError(text)
    # the kernel prints each four bytes as a number of its own byte order
    packed = b"".join(
        int(words[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(words), 8)
    )
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return family, *written(family, packed), int(port, 16)


def unix(table: bytes) -> Iterator[Unix | None]:
    """The listening unix sockets of the table that have a name; None for a line that is not understood."""
    for line in table.split(b"\n")[1:]:
        fields = line.split(b" ", 7)
        try:
            # Num RefCount Protocol Flags Type St Inode Path, the inode right-aligned
            flags, (inode, _, path) = int(fields[3], 16), b" ".join(fields[6:]).lstrip().partition(b" ")
            number = int(inode)
        except (ValueError, IndexError):
            if line:
                yield None
            continue
        if flags & _ACCEPTS and path:
            # the table writes @ for each zero byte: a path that begins with @ cannot be told from a name
            raw = b"\0" + path[1:].replace(b"@", b"\0") if path.startswith(b"@") else path
            yield Unix(name_of(raw), None, number)


def in_use(table: bytes, name: bytes) -> bool:
    """Whether a connection stands at, or waits for, the unix socket of this name."""
    for line in table.split(b"\n")[1:]:
        fields = line.split(b" ", 7)
        if line.endswith(b" " + name) and b" ".join(fields[6:]).lstrip().partition(b" ")[2] == name:
            with suppress(ValueError):
                if not int(fields[3], 16) & _ACCEPTS:
                    return True
    return False
