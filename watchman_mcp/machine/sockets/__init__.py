"""Sockets that listen and connections that stand, as the kernel of the running machine tells them.

`diag` asks it by netlink; `tables` reads its text files, which tell less, where netlink is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop
from typing import NamedTuple

ESTABLISHED, UNCONNECTED, LISTENING = 1, 7, 10
"""States, as the kernel numbers them; a bound UDP socket that has no peer is unconnected."""


class Inet(NamedTuple):
    """A TCP or UDP socket."""

    protocol: str
    families: tuple[str, ...] | None
    """Versions of IP that it is for; None where that is not told."""
    address: str
    port: int
    peer: str
    peer_port: int
    state: int
    interface: int
    """Number of the interface that it is bound to; 0: none."""
    uid: int
    inode: int
    group: int = 0
    """Number of the control group that opened it, where that is told."""


class Unix(NamedTuple):
    """A unix socket that listens; `path` begins with @ where the name is abstract."""

    path: str
    uid: int | None
    inode: int


@dataclass
class Sockets:
    """The sockets of one network namespace."""

    listening: list[Inet] = field(default_factory=list)
    """TCP sockets that listen, and UDP sockets without a peer."""
    connected: list[Inet] = field(default_factory=list)
    unix: list[Unix] = field(default_factory=list)
    interfaces: dict[int, str] = field(default_factory=dict)
    """Names by number."""
    unreadable: int = 0
    """Lines that cannot be understood."""

    def add(self, found: Inet) -> None:
        """Put a socket where its state says."""
        (self.connected if found.state == ESTABLISHED else self.listening).append(found)


_MAPPED = bytes(10) + b"\xff\xff"


@lru_cache(maxsize=65_536)
def written(family: int, packed: bytes) -> tuple[str, bool]:
    """An address, and whether it is one of IPv4; one of IPv4 within IPv6 is written as what it is."""
    if family == AF_INET6 and not packed.startswith(_MAPPED):
        return inet_ntop(family, packed), False
    return inet_ntop(AF_INET, packed[-4:]), True


def families(v6: bool, v4_address: bool, address: str, v6_only: bool | None) -> tuple[str, ...] | None:
    """Versions of IP that a socket is for; only one of :: may be for both."""
    if not v6 or v4_address:
        return ("ipv4",)
    if address != "::" or v6_only:
        return ("ipv6",)
    return None if v6_only is None else ("ipv4", "ipv6")


def name_of(raw: bytes) -> str:
    """How the name of a unix socket is written, in words that a path and an abstract name do not share."""
    if raw.startswith(b"\0"):
        return raw.replace(b"\0", b"@").decode("utf-8", "surrogateescape")
    path = raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    return f"./{path}" if path.startswith("@") else path
