"""Asks others by which address they see this machine."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from watchman_mcp.machine import bounded_http, sources
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.lookup import addresses, ask_dns
from watchman_mcp.machine.ways import ways

SECONDS = 2.0
"""How long one source is waited for; a page may take it twice, for its connection and for the rest."""
ALL_SECONDS = 6.0
"""After so long no other source is tried."""
_PAGE_CAP = 512
_DNS = re.compile(sources.DNS)
_KINDS = {"ipv4": "A", "ipv6": "AAAA"}


class Seen(NamedTuple):
    """What was told of one family; kept as JSON as it is."""

    at: float
    basis: list[str]
    """The ways to the internet at that time: with others, it is asked again."""
    ip: str | None
    source: str | None
    why: str | None

    @property
    def when(self) -> datetime:
        """The moment of the question."""
        return datetime.fromtimestamp(self.at, UTC)


def seen(files: Files, family: str, asked: Iterable[str], known: Seen | None, pause: float) -> Seen:
    """The address of a family, asked for where the ways changed or `pause` seconds are over.

    Raises: Denied, Broken (the kernel's routes).
    """
    taken = ways(family)
    basis = sorted({f"{way.interface} {way.gateway or ''} {way.source or ''}" for way in taken})
    now = time.time()
    # Who was offline may be so no longer.
    pause = pause if known is not None and known.ip else pause / 3
    if known is not None and known.basis == basis and now - pause < known.at <= now:
        return known
    if not taken:
        return Seen(now, basis, None, None, "no route")
    end = time.monotonic() + ALL_SECONDS
    for source in asked:
        if time.monotonic() > end:
            break
        ip = told(files, family, source)
        if ip is not None:
            return Seen(now, basis, ip, source, None)
    return Seen(now, basis, None, None, "offline")


def told(files: Files, family: str, source: str) -> str | None:
    """What one source tells; None where it does not answer, or with something else."""
    match = _DNS.fullmatch(source)
    if match is None:
        return _own(_page(files, family, source), family)
    servers = [(ip, 53) for ip in addresses(files, match["server"], family)]
    kind = match["kind"] or _KINDS[family]
    for text in ask_dns(servers, f"{match['name'].rstrip('.')}.", kind, match["category"] or "IN", SECONDS):
        if (ip := _own(text.strip('"'), family)) is not None:
            return ip
    return None


def _own(text: str, family: str) -> str | None:
    """An address of this family that may be one's own, in its usual writing."""
    try:
        found = ip_address(text.strip())
    except ValueError:
        return None
    odd = found.is_loopback or found.is_unspecified or found.is_multicast or found.is_link_local
    return None if odd or f"ipv{found.version}" != family or "%" in text else str(found)


def _page(files: Files, family: str, url: str) -> str:
    """The text of a small page; empty where there is none."""
    try:
        place = urlsplit(url)
        host, port = place.hostname or "", place.port or (443 if place.scheme == "https" else 80)
    except ValueError:
        return ""
    for ip in addresses(files, host, family)[:1]:
        connection = _Connection(host, port, ip, place.scheme == "https")
        path = place.path or "/"
        try:
            with connection.within(2 * SECONDS):
                connection.request("GET", f"{path}?{place.query}" if place.query else path, headers=_HEADERS)
                answer = connection.getresponse()
                if answer.status == http.client.OK:
                    return answer.read(_PAGE_CAP).decode("ascii", "replace")
        except (OSError, http.client.HTTPException, ValueError):
            continue
    return ""


_HEADERS = {"Accept": "text/plain", "User-Agent": "watchman-mcp", "Connection": "close"}


class _Connection(bounded_http.Connection):
    """A connection to an address that was looked up before, so that nothing is looked up without a bound."""

    def __init__(self, host: str, port: int, ip: str, secure: bool) -> None:
        super().__init__(host, port, timeout=SECONDS)
        self._ip, self._secure = ip, secure

    def connect(self) -> None:
        sock = socket.create_connection((self._ip, self.port), self.timeout)
        try:
            if self._secure:
                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=self.host)
        except OSError:
            sock.close()
            raise
        self.sock = self.opened = sock
