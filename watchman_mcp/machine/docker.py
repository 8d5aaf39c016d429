"""Asks the container engines of this machine, Docker and podman, which containers run and what they publish.

Both answer the same question over a unix socket of their own. Whoever asks a socket of systemd's starts the
engine, so this is asked only where there are containers.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, NamedTuple

from watchman_mcp.errors import Absent, Broken, Denied, WatchmanError
from watchman_mcp.machine import bounded_http

SOCKETS = ("/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock")
SECONDS = 5.0
CAP = 16 << 20
_ID = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_PROTOCOLS = ("tcp", "udp", "sctp")


class Published(NamedTuple):
    """A port of this machine that leads to one of a container."""

    protocol: str
    address: str
    """Address of this machine; 0.0.0.0 and :: are all."""
    port: int
    inner: int
    """Port of the container."""


class Container(NamedTuple):
    """A container that runs."""

    id: str
    name: str
    """Its name; the beginning of its id where it has none that an engine would give."""
    addresses: tuple[str, ...]
    published: tuple[Published, ...]


@dataclass
class Told:
    """What all engines told, and by their sockets why some did not."""

    containers: list[Container] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    unreadable: int = 0


def ask(sockets: tuple[str, ...] = SOCKETS) -> Told:
    """The containers of every engine that answers; one that is not here is none."""
    told = Told()
    met: set[tuple[int, int]] = set()
    for path in sockets:
        with suppress(Absent):
            try:
                place = _place(path)
                if place not in met:
                    met.add(place)
                    found, unreadable = read_containers(_answer(path))
                    told.containers += found
                    told.unreadable += unreadable
            except Absent:
                raise
            except WatchmanError as error:
                told.refused[path] = str(error)
    return told


def read_containers(text: bytes) -> tuple[list[Container], int]:
    """The containers of an answer to /containers/json, and how many parts of it cannot be understood.

    Raises: Broken (it is no list).
    """
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Broken(f"the engine's answer is no JSON: {error}") from error
    if not isinstance(listed, list):
        raise Broken("the engine's answer is no list of containers")
    found: list[Container] = []
    unreadable = 0
    for one in listed:
        number = one.get("Id") if isinstance(one, dict) else None
        if not (isinstance(number, str) and _ID.fullmatch(number)):
            unreadable += 1
            continue
        ports = list(_ports(one.get("Ports") or []))
        unreadable += ports.count(None)
        name = _name(one.get("Names"))
        unreadable += name is None
        published = dict.fromkeys(port for port in ports if isinstance(port, Published))
        addresses = tuple(_addresses(one.get("NetworkSettings")))
        found.append(Container(number, name or short(number), addresses, tuple(published)))
    return found, unreadable


def is_id(text: str) -> bool:
    """Whether this is an id that an engine gives; LXC's containers have names alone."""
    return _ID.fullmatch(text) is not None


def short(number: str) -> str:
    """A container's id as its engine shows it; a name stays."""
    return number[:12] if is_id(number) else number


def _name(names: Any) -> str | None:
    """Its own name; the others are what containers that link to it call it."""
    told = names if isinstance(names, list) else []
    own = [name.removeprefix("/") for name in told if isinstance(name, str)]
    return next((name for name in own if _NAME.fullmatch(name)), None)


def _ports(listed: Any) -> Iterator[Published | bool | None]:
    """Each port that is published, False for one that is not, None for one that cannot be understood."""
    if not isinstance(listed, list):
        yield None
        return
    for one in listed:
        if isinstance(one, dict) and not one.get("PublicPort"):
            yield False
            continue
        try:
            address = str(ip_address(one.get("IP") or "0.0.0.0"))  # noqa: S104 -- compared with, not bound to
            outer, inner, protocol = one["PublicPort"], one["PrivatePort"], one["Type"]
        except (AttributeError, KeyError, TypeError, ValueError):
            yield None
            continue
        right = protocol in _PROTOCOLS and all(_is_port(number) for number in (outer, inner))
        yield Published(protocol, address, outer, inner) if right else None


def _is_port(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 < number < 65_536


def _addresses(settings: Any) -> Iterator[str]:
    networks = settings.get("Networks") if isinstance(settings, dict) else None
    for one in networks.values() if isinstance(networks, dict) else ():
        for key in ("IPAddress", "GlobalIPv6Address"):
            with suppress(ValueError, AttributeError):
                if isinstance(text := one.get(key), str):
                    yield str(ip_address(text))


def _place(path: str) -> tuple[int, int]:
    """What tells a socket from others, for one may have two paths.

    Raises: Absent, Denied.
    """
    try:
        told = os.stat(path)
    except PermissionError as error:
        raise _denied(path) from error
    except OSError as error:
        raise Absent(f"no engine has the socket {path}") from error
    return told.st_dev, told.st_ino


def _denied(path: str) -> Denied:
    return Denied(f"{path} may not be asked by uid {os.geteuid()}; run Watchman as a user who may")


def _answer(path: str) -> bytes:
    """What the engine behind a socket says of its containers.

    Raises: Absent (nobody listens), Denied, Broken.
    """
    connection = _Connection(path)
    try:
        with connection.within(SECONDS):
            connection.request("GET", "/containers/json", headers={"Connection": "close"})
            answer = connection.getresponse()
            text = answer.read(CAP + 1)
    except PermissionError as error:
        raise _denied(path) from error
    except (ConnectionRefusedError, FileNotFoundError) as error:
        raise Absent(f"nobody listens on {path}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Broken(f"the engine does not answer within {SECONDS:g} s or not well: {error}") from error
    if answer.status != http.client.OK:
        raise Broken(f"the engine answers with {answer.status}; try `docker ps`")
    if len(text) > CAP:
        raise Broken(f"the engine's answer is longer than {CAP} bytes")
    return text


class _Connection(bounded_http.Connection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self._path)
        except OSError:
            sock.close()
            raise
        self.sock = self.opened = sock
