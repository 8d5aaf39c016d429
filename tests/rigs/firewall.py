"""Two network namespaces with a cable between them: one has the firewall, the other connects to it.

Nothing outside of them is touched: a thread of this process lives in each, and they end with their threads.
"""

import ctypes
import os
import select
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TypeVar

from tests.rigs import cache
from watchman_mcp.machine.firewall.packet import Packet

T = TypeVar("T")
HOW = "as root: apt-get install iproute2 ipset nftables iptables"
NEW_NET = 0x40000000
QUIET = 0.12
"""Seconds that a connection is waited for; over the cable between two namespaces it takes one millisecond."""

ADDRESSES = {
    "eth0": ("198.51.100.1/24", "10.7.0.1/24", "2001:db8:7::1/64"),
    "eth1": ("10.8.0.1/24",),
}
SOURCES = {
    "eth0": (
        "198.51.100.2",
        "203.0.113.5",
        "203.0.113.77",
        "8.8.8.8",
        "10.7.0.2",
        "192.168.9.9",
        "2001:db8:9::9",
    ),
    "eth1": ("10.8.0.2",),
}
"""Addresses of the other side, by the interface of this one that they come in by."""

LOCAL = {
    version: frozenset(
        int(address)
        for texts in ADDRESSES.values()
        for text in texts
        if (address := ip_address(text.partition("/")[0])).version == version
    )
    for version in (4, 6)
}
FIRST = {
    (interface, version): next(text for text in texts if (":" in text) == (version == 6)).partition("/")[0]
    for interface, texts in ADDRESSES.items()
    for version in (4, 6)
    if any((":" in text) == (version == 6) for text in texts)
}


class Namespace:
    """A network namespace in which one thread runs what it is given."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1)
        self.call(lambda: _unshare(NEW_NET))
        self.thread = self.call(threading.get_native_id)
        self.run("ip", "link", "set", "lo", "up")

    def call(self, do: Callable[[], T]) -> T:
        """What this gives in the namespace."""
        return self._worker.submit(do).result(120)

    def run(
        self, *argv: str, input: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the namespace."""
        done = self.call(
            lambda: subprocess.run(argv, input=input, text=True, capture_output=True, timeout=60)
        )
        assert not check or done.returncode == 0, (
            f"{argv} ended with {done.returncode}: {done.stderr[-2000:]}"
        )
        return done

    def end(self) -> None:
        """Let the namespace go."""
        self._worker.shutdown()


def _unshare(what: int) -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(what) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


@dataclass(frozen=True)
class Try:
    """One attempt to connect."""

    protocol: str
    interface: str
    source: str
    target: str
    port: int


def packet(one: Try) -> Packet:
    """The first packet of an attempt."""
    target = ip_address(one.target)
    return Packet(
        iif=one.interface,
        version=target.version,
        protocol=one.protocol,
        dport=one.port,
        daddr=int(target),
        local=LOCAL[target.version],
        primary=int(ip_address(FIRST[one.interface, target.version])),
    )


@dataclass
class Pair:
    """The machine with the firewall, what listens on it, and its neighbour."""

    here: Namespace
    there: Namespace
    listeners: dict[tuple[str, int, int], socket.socket] = field(default_factory=dict)

    def listen(self, ports: Iterable[int]) -> None:
        """Listen on all addresses, for tcp and udp, of both kinds of IP."""
        for port in ports:
            for family in (socket.AF_INET, socket.AF_INET6):
                for protocol, kind in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)):
                    self.listeners[protocol, family, port] = self.here.call(
                        lambda family=family, kind=kind, port=port: _listening(family, kind, port)
                    )

    def attempt(self, tries: Iterable[Try]) -> dict[Try, bool]:
        """Whether each attempt reached something that listens; all are made at once."""
        return self.there.call(lambda: self._attempt(list(tries)))

    def _attempt(self, tries: list[Try]) -> dict[Try, bool]:
        found = dict.fromkeys(tries, False)
        waiting: dict[socket.socket, Try] = {}
        sent: dict[bytes, Try] = {}
        opened = []
        for number, one in enumerate(tries):
            family = socket.AF_INET6 if ":" in one.source else socket.AF_INET
            kind = socket.SOCK_STREAM if one.protocol == "tcp" else socket.SOCK_DGRAM
            connection = socket.socket(family, kind)
            connection.setblocking(False)
            connection.bind((one.source, 0))
            opened.append(connection)
            with suppress(BlockingIOError, ConnectionRefusedError, PermissionError, OSError):
                if one.protocol == "udp":
                    word = f"try {number}".encode()
                    sent[word] = one
                    connection.sendto(word, (one.target, one.port))
                else:
                    waiting[connection] = one
                    connection.connect((one.target, one.port))
        self._wait(waiting, found)
        self._hear(sent, found)
        for connection in opened:
            connection.close()
        self._drain()
        return found

    def _wait(self, waiting: dict[socket.socket, Try], found: dict[Try, bool]) -> None:
        poller = select.poll()
        numbers = {connection.fileno(): connection for connection in waiting}
        for number in numbers:
            poller.register(number, select.POLLOUT)
        while numbers and (ready := poller.poll(QUIET * 1000)):
            for number, _ in ready:
                poller.unregister(number)
                connection = numbers.pop(number)
                # it has a peer once the other side answered, whatever becomes of later packets
                with suppress(OSError):
                    connection.getpeername()
                    found[waiting[connection]] = True

    def _hear(self, sent: dict[bytes, Try], found: dict[Try, bool]) -> None:
        hearing = [one for (protocol, _, _), one in self.listeners.items() if protocol == "udp"]
        while sent and (ready := select.select(hearing, [], [], QUIET / 4)[0]):
            for one in ready:
                with suppress(OSError):
                    word = one.recv(64)
                    if word in sent:
                        found[sent[word]] = True

    def _drain(self) -> None:
        for (protocol, _, _), listener in self.listeners.items():
            with suppress(BlockingIOError):
                while protocol == "tcp":
                    listener.accept()[0].close()


def _listening(family: int, kind: int, port: int) -> socket.socket:
    listener = socket.socket(family, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
    if kind == socket.SOCK_STREAM:
        listener.listen(512)
    listener.setblocking(False)
    return listener


@contextmanager
def pair() -> Iterator[Pair]:
    """The two machines, cabled by eth0, where the default route leads, and eth1."""
    if os.geteuid() != 0:
        cache.missing("network namespaces (root)", HOW)
    cache.need_programs("firewalls", "ip", "nft", "iptables-legacy-restore", how=HOW)
    both = Pair(Namespace(), Namespace())
    try:
        cable(both)
        yield both
    finally:
        for listener in both.listeners.values():
            listener.close()
        both.here.end()
        both.there.end()


def cable(both: Pair) -> None:
    """Lay two cables, and give both sides their addresses; only eth0 leads everywhere."""
    here, there = both.here, both.there
    for interface, addresses in ADDRESSES.items():
        here.run(
            *("ip", "link", "add", interface, "type", "veth", "peer", "name", interface),
            *("netns", str(there.thread)),
        )
        for side in (here, there):
            side.run("ip", "link", "set", interface, "up")
        for address in addresses:
            here.run("ip", "address", "add", address, "dev", interface, *_at_once(address))
        for address in SOURCES[interface]:
            there.run("ip", "address", "add", _whole(address), "dev", interface, *_at_once(address))
        for address in addresses:
            there.run("ip", "route", "add", _whole(address.partition("/")[0]), "dev", interface)
    for version in ("-4", "-6"):
        here.run("ip", version, "route", "add", "default", "dev", "eth0")


def _at_once(address: str) -> tuple[str, ...]:
    return ("nodad",) if ":" in address else ()


def _whole(address: str) -> str:
    return f"{address}/128" if ":" in address else f"{address}/32"
