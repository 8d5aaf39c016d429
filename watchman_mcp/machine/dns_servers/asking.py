"""Asks name servers whether they answer: one question each, all at once, within one bounded time."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import dns.message

SECONDS = 1.0
"""How long all answers together are waited for."""
AT_MOST = 8
_BUFFER = 4096


class Check(NamedTuple):
    """What became of one question; kept as JSON as it is."""

    at: float
    answers: str
    """yes, or why not."""
    latency_ms: float | None

    @property
    def when(self) -> datetime:
        """The moment of the question."""
        return datetime.fromtimestamp(self.at, UTC)


def key_of(ip: str, port: int) -> str:
    """The name of a server among checks."""
    return f"{ip}#{port}"


def checked(
    servers: Iterable[tuple[str, int, str | None]], known: Mapping[str, Check], pause: float
) -> dict[str, Check]:
    """A check of each of these (address, port, scope), not more often than every `pause` seconds."""
    now = time.time()
    kept: dict[str, Check] = {}
    due: dict[str, tuple[str, int, str | None]] = {}
    for ip, port, scope in servers:
        key = key_of(ip, port)
        old = known.get(key)
        if old is not None and now - pause < old.at <= now:
            kept[key] = old
        elif key not in due and len(due) < AT_MOST:
            due[key] = ip, port, scope
    return kept | (ask(due) if due else {})


def ask(servers: Mapping[str, tuple[str, int, str | None]], seconds: float = SECONDS) -> dict[str, Check]:
    """Ask each for the servers of the root, which tells nobody anything about this machine."""
    import dns.message

    found: dict[str, Check] = {}
    at, begun = time.time(), time.monotonic()
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for key, place in servers.items():
            query = dns.message.make_query(".", "NS")
            try:
                sock = stack.enter_context(_sent(place, query.to_wire()))
            except OSError as error:
                found[key] = Check(at, _why(error), None)
                continue
            selector.register(sock, selectors.EVENT_READ, (key, query, time.monotonic()))
        while selector.get_map() and (left := begun + seconds - time.monotonic()) > 0:
            for one, _ in selector.select(left):
                key, query, sent = one.data
                answer = _heard(one.fileobj, query)  # type: ignore[arg-type] # a socket was registered
                if answer is not None:
                    selector.unregister(one.fileobj)
                    latency = round((time.monotonic() - sent) * 1000, 1) if answer == "yes" else None
                    found[key] = Check(at, answer, latency)
        for one in selector.get_map().values():
            found[one.data[0]] = Check(at, "no answer", None)
    return found


def _sent(place: tuple[str, int, str | None], wire: bytes) -> socket.socket:
    ip, port, scope = place
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        number = socket.if_nametoindex(scope) if scope and ip.startswith("fe80:") else 0
        # Connected: only what this server sends from this port comes in, and refusals are told.
        sock.connect((ip, port) if family == socket.AF_INET else (ip, port, 0, number))
        sock.send(wire)
    except OSError:
        sock.close()
        raise
    return sock


def _heard(sock: socket.socket, query: dns.message.Message) -> str | None:
    """What a server says; None for what is no answer to the question, after which one may still come."""
    import dns.exception
    import dns.message
    import dns.rcode

    try:
        wire = sock.recv(_BUFFER)
    except BlockingIOError:
        return None
    except OSError as error:
        return _why(error)
    try:
        answer = dns.message.from_wire(wire, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError, IndexError):
        return None
    if not query.is_response(answer):
        return None
    rcode = answer.rcode()
    fine = rcode in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
    return "yes" if fine else dns.rcode.to_text(rcode).lower()


def _why(error: OSError) -> str:
    known = {
        ConnectionRefusedError: "nothing listens there",
        PermissionError: "may not be sent",
    }
    return known.get(type(error)) or (error.strerror or str(error)).lower()
