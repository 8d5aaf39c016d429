"""Looks names up by this machine's name servers, within a bounded time."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING

from watchman_mcp.errors import Absent, Broken, Denied
from watchman_mcp.machine.dns_servers.resolv import ASKED, read_resolv
from watchman_mcp.machine.files import Files

if TYPE_CHECKING:
    import dns.message

SECONDS = 1.5
_PORT = 53
_BUFFER = 4096
_MARK = {"ipv4": "A", "ipv6": "AAAA"}


def ask_dns(
    servers: Iterable[tuple[str, int]], name: str, kind: str, category: str = "IN", seconds: float = SECONDS
) -> list[str]:
    """The texts of the records that the first of these servers to answer has; empty where none does."""
    import dns.exception
    import dns.message

    try:
        query = dns.message.make_query(name, kind, category)
    except (dns.exception.DNSException, ValueError):
        return []  # no name that can be asked for
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for ip, port in servers:
            family = socket.AF_INET6 if ":" in ip else socket.AF_INET
            try:
                sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
                sock.connect((ip, port))
                sock.send(query.to_wire())
            except OSError:
                continue
            selector.register(sock, selectors.EVENT_READ)
        end = time.monotonic() + seconds
        while selector.get_map() and (left := end - time.monotonic()) > 0:
            for one, _ in selector.select(left):
                assert isinstance(one.fileobj, socket.socket)
                found = _heard(one.fileobj, query)
                if found:
                    return found
                if found is None:
                    selector.unregister(one.fileobj)
    return []


def _heard(sock: socket.socket, query: dns.message.Message) -> list[str] | None:
    """The records of an answer; empty for what is none, None for a refusal."""
    import dns.exception
    import dns.message
    import dns.rdatatype

    try:
        answer = dns.message.from_wire(sock.recv(_BUFFER), ignore_trailing=True)
    except BlockingIOError:
        return []
    except OSError:
        return None
    except (dns.exception.DNSException, ValueError, IndexError):
        return []
    if not query.is_response(answer):
        return []
    [question] = query.question
    found = [record.to_text() for part in answer.answer if part.rdtype == question.rdtype for record in part]
    return found or None


def addresses(files: Files, name: str, family: str) -> list[str]:
    """The addresses of a host, by /etc/hosts or this machine's name servers; empty where they tell none."""
    try:
        known = ip_address(name)
        return [name] if f"ipv{known.version}" == family else []
    except ValueError:
        pass
    return _of_hosts(files, name, family) or ask_dns(
        [(ip, _PORT) for ip, scope in _servers(files) if not scope], f"{name.rstrip('.')}.", _MARK[family]
    )


def _servers(files: Files) -> list[tuple[str, str | None]]:
    try:
        return read_resolv(files.text("/etc/resolv.conf")).servers[:ASKED]
    except (Absent, Denied, Broken):
        return []


def _of_hosts(files: Files, name: str, family: str) -> list[str]:
    try:
        text = files.text("/etc/hosts", 4 << 20)
    except (Absent, Denied, Broken):
        return []
    found = []
    for line in text.split("\n"):
        words = line.partition("#")[0].split()
        if name.lower() not in [word.lower() for word in words[1:]]:
            continue
        # what is no address would be looked up by whoever is given it
        with suppress(ValueError):
            if f"ipv{ip_address(words[0]).version}" == family:
                found.append(words[0])
    return found
