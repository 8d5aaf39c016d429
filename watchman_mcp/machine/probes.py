"""Measures how well other machines are reached: a few small probes to each, all at once, in a bounded time.

Probes are ICMP echoes where the kernel lets this user send them, else beginnings of TCP connections.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from watchman_mcp.machine.files import Files
from watchman_mcp.machine.lookup import addresses
from watchman_mcp.machine.ways import ways

COUNT = 3
SECONDS = 1.0
"""How long an answer is waited for."""
_APART = 0.1
_PORTS = (443, 80)
_ECHO = {socket.AF_INET: (8, 0, socket.IPPROTO_ICMP), socket.AF_INET6: (128, 129, socket.IPPROTO_ICMPV6)}
_HEAD = struct.Struct("!BBHHH")


class Reached(NamedTuple):
    """How one was reached; a latency only where something came back."""

    at: datetime
    latency_ms: float | None
    loss_percent: float


@dataclass
class _Target:
    name: str
    family: socket.AddressFamily
    ip: str
    token: bytes = field(default_factory=lambda: os.urandom(16))
    sent: dict[int, float] = field(default_factory=dict)
    took: dict[int, float] = field(default_factory=dict)
    sock: socket.socket | None = None
    """For echoes; None: connections."""


def address_of(files: Files, target: str) -> str | None:
    """The address of a target, IPv4 first; `gateway` is the default route's next hop. None where it has none.

    Raises: Denied, Broken (the kernel's routes).
    """
    for family in ("ipv4", "ipv6"):
        if target == "gateway":
            found = [
                f"{way.gateway}%{way.interface}" if way.gateway.startswith("fe80:") else way.gateway
                for way in ways(family)
                if way.gateway
            ]
        else:
            found = addresses(files, target, family)
        if found:
            return found[0]
    return None


def reach(targets: Mapping[str, str], count: int = COUNT, seconds: float = SECONDS) -> dict[str, Reached]:
    """How each of these addresses is reached, by the target's name."""
    at = datetime.now(UTC)
    todo = [
        _Target(name, socket.AF_INET6 if ":" in ip else socket.AF_INET, ip) for name, ip in targets.items()
    ]
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for target in todo:
            target.sock = _echoes(target)
            if target.sock is not None:
                stack.enter_context(target.sock)
                selector.register(target.sock, selectors.EVENT_READ, (target, None))
        begun = time.monotonic()
        for number in range(count):
            for target in todo:
                _send(target, number, stack, selector)
            last = number == count - 1
            _listen(selector, begun + number * _APART + (seconds if last else _APART), todo, count)
    return {target.name: _result(at, target, count) for target in todo}


def _result(at: datetime, target: _Target, count: int) -> Reached:
    mean = round(sum(target.took.values()) / len(target.took) * 1000, 2) if target.took else None
    return Reached(at, mean, round(100 * (1 - len(target.took) / count), 1))


def _echoes(target: _Target) -> socket.socket | None:
    """A socket for echoes: the kind for everybody, or else that for root; None: neither is allowed."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            sock = socket.socket(target.family, kind | socket.SOCK_NONBLOCK, _ECHO[target.family][2])
        except OSError:
            continue
        try:
            sock.connect(socket.getaddrinfo(target.ip, 0, target.family, flags=socket.AI_NUMERICHOST)[0][4])
        except OSError:
            sock.close()
            continue
        return sock
    return None


def _send(target: _Target, number: int, stack: ExitStack, selector: selectors.BaseSelector) -> None:
    target.sent[number] = time.monotonic()
    if target.sock is not None:
        with suppress(OSError):  # no way there: a probe that is lost
            target.sock.send(_packet(target, number))
        return
    sock = stack.enter_context(socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
    port = _PORTS[number % len(_PORTS)]
    try:
        place = socket.getaddrinfo(target.ip, port, target.family, flags=socket.AI_NUMERICHOST)[0][4]
        failed = sock.connect_ex(place)
    except OSError:
        return
    if failed in (0, errno.ECONNREFUSED):
        target.took[number] = time.monotonic() - target.sent[number]
    elif failed == errno.EINPROGRESS:
        selector.register(sock, selectors.EVENT_WRITE, (target, number))


def _listen(selector: selectors.BaseSelector, end: float, targets: list[_Target], count: int) -> None:
    """Take what comes until this moment, or until everything has come."""
    while selector.get_map() and (left := end - time.monotonic()) > 0:
        for one, _ in selector.select(left):
            target, number = one.data
            assert isinstance(one.fileobj, socket.socket)
            now = time.monotonic()
            if number is None:
                number = _heard(target, one.fileobj)
            else:
                selector.unregister(one.fileobj)
                # A refusal comes back as well as a welcome.
                if one.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) not in (0, errno.ECONNREFUSED):
                    continue
            if number in target.sent:
                target.took.setdefault(number, now - target.sent[number])
        if all(len(target.took) == count for target in targets):
            return


def _packet(target: _Target, number: int) -> bytes:
    kind = _ECHO[target.family][0]
    name = int.from_bytes(target.token[:2])
    packet = _HEAD.pack(kind, 0, 0, name, number) + target.token
    total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    # IPv6's checksum is over more than the packet, and is the kernel's work.
    return packet[:2] + struct.pack("!H", ~total & 0xFFFF) + packet[4:] if kind == 8 else packet


def _heard(target: _Target, sock: socket.socket) -> int | None:
    """The number of the probe that an answer is for; None for what is none of ours."""
    try:
        packet = sock.recv(1024)
    except OSError:
        return None
    if sock.type & ~socket.SOCK_NONBLOCK == socket.SOCK_RAW and target.family == socket.AF_INET and packet:
        packet = packet[4 * (packet[0] & 0xF) :]  # without the head of IP
    if len(packet) < _HEAD.size or packet[0] != _ECHO[target.family][1]:
        return None
    return int(_HEAD.unpack_from(packet)[4]) if packet[_HEAD.size :] == target.token else None
