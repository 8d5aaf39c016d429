"""Asks the kernel for sockets by netlink (sock_diag(7)): without reading the closing and waiting ones.

The messages are two fixed structures; a library for them would take half a second to import.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from struct import Struct
from typing import Literal

from . import ESTABLISHED, LISTENING, UNCONNECTED, Inet, Sockets, Unix, families, name_of, written

_SOCK_DIAG, _BY_FAMILY = 4, 20
_REQUEST_DUMP = 0x301
_ERROR, _DONE = 2, 3
_V6_ONLY, _GROUP = 11, 21
_NAME, _UID = 0, 7
_SHOW_NAME, _SHOW_UID = 0x01, 0x40
_SECONDS = 10.0
_BUFFER = 1 << 18

_ORDER: Literal["little", "big"] = "little" if sys.byteorder == "little" else "big"
_HEADER = Struct("=IHHII")
_ATTRIBUTE = Struct("=HH")
_ASK_INET = Struct("=BBBxI48x")
_INET = Struct("=BBxx2s2s16s16sI8x12xII")
_ASK_UNIX = Struct("=BBxxIII8x")
_UNIX = Struct("=BBBxI8x")
_TEXT = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}


def read() -> Sockets:
    """The sockets of the network namespace of this thread.

    Raises: OSError (the kernel does not answer such questions).
    """
    found = Sockets(interfaces=dict(socket.if_nameindex()))
    with closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG)) as link:
        link.settimeout(_SECONDS)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        for protocol, waiting in ((socket.IPPROTO_TCP, LISTENING), (socket.IPPROTO_UDP, UNCONNECTED)):
            for family in (socket.AF_INET, socket.AF_INET6):
                wanted = 1 << waiting | 1 << ESTABLISHED
                for message in _answers(link, _ASK_INET.pack(family, protocol, 0, wanted)):
                    if (one := _inet(_TEXT[protocol], message)) is not None:
                        found.add(one)
        show = _SHOW_NAME | _SHOW_UID
        for message in _answers(link, _ASK_UNIX.pack(socket.AF_UNIX, 0, 1 << LISTENING, 0, show)):
            if (local := _unix(message)) is not None:
                found.unix.append(local)
    return found


def _answers(link: socket.socket, question: bytes) -> Iterator[memoryview]:
    """The messages of one answer, without their headers."""
    link.send(_HEADER.pack(_HEADER.size + len(question), _BY_FAMILY, _REQUEST_DUMP, 0, 0) + question)
    while True:
        part = memoryview(link.recv(_BUFFER))
        while len(part) >= _HEADER.size:
            length, kind, *_ = _HEADER.unpack_from(part)
            if kind == _DONE:
                return
            if kind == _ERROR:
                number = -int.from_bytes(part[16:20], _ORDER, signed=True)
                raise OSError(number, os.strerror(number))
            yield part[_HEADER.size : length]
            part = part[-(-length // 4) * 4 :]


def _inet(protocol: str, message: memoryview) -> Inet | None:
    family, state, port, peer_port, local, remote, interface, uid, inode = _INET.unpack_from(message)
    if not any(port):
        return None
    size = 4 if family == socket.AF_INET else 16
    address, v4 = written(family, local[:size])
    peer, _ = written(family, remote[:size])
    told = {} if state == ESTABLISHED else dict(_attributes(message[_INET.size :]))
    v6_only = bool(told[_V6_ONLY][0]) if _V6_ONLY in told else None
    return Inet(
        protocol,
        families(family == socket.AF_INET6, v4, address, v6_only),
        address,
        int.from_bytes(port, "big"),
        peer,
        int.from_bytes(peer_port, "big"),
        state,
        interface,
        uid,
        inode,
        int.from_bytes(told.get(_GROUP, b""), _ORDER),
    )


def _unix(message: memoryview) -> Unix | None:
    inode = _UNIX.unpack_from(message)[3]
    told = dict(_attributes(message[_UNIX.size :]))
    uid = int.from_bytes(told[_UID], _ORDER) if _UID in told else None
    return Unix(name_of(bytes(told[_NAME])), uid, inode) if told.get(_NAME) else None


def _attributes(rest: memoryview) -> Iterator[tuple[int, memoryview]]:
    while len(rest) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(rest)
        if length < _ATTRIBUTE.size:
            return
        yield kind, rest[_ATTRIBUTE.size : length]
        rest = rest[-(-length // 4) * 4 :]
