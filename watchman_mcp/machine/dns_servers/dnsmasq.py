"""The servers that dnsmasq's configuration sends questions to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from . import PORT, NameServer, address

SOURCE = "dnsmasq"
_SERVER = re.compile(r"(?:/(?P<domains>.*)/)?(?P<ip>[^#@/]*)(?:#(?P<port>\d{1,5}))?(?:@(?P<via>.*))?")
_REVERSED = re.compile(r"(?P<net>[0-9a-fA-F:.]+(?:/\d{1,3})?),(?P<rest>.+)")


@dataclass
class Settings:
    """What some configuration says of servers; `unreadable` counts lines about them that say nothing."""

    servers: list[NameServer] = field(default_factory=list)
    resolv_files: list[str] = field(default_factory=list)
    no_resolv: bool = False
    folders: list[str] = field(default_factory=list)
    more: list[str] = field(default_factory=list)
    """Further files of configuration, and of servers."""
    unreadable: int = 0
    asked: int = 0
    """Servers that are asked for any name, so far."""


def read_dnsmasq(text: str, settings: Settings) -> None:
    """Add what one file of configuration says."""
    for raw in text.split("\n"):
        # A comment begins the line or stands after a blank; `#` within a word is a port.
        line = re.split(r"(?:^|\s)#", raw, maxsplit=1)[0].strip()
        key, _, value = (part.strip().strip('"') for part in line.partition("="))
        if key in ("server", "local", "rev-server"):
            settings.unreadable += not _take(key, value, settings)
        elif key == "resolv-file" and value:
            settings.resolv_files.append(value)
        elif key == "no-resolv":
            settings.no_resolv = True
        elif key == "conf-dir" and value:
            settings.folders.append(value.split(",")[0])
        elif key in ("conf-file", "servers-file") and value:
            settings.more.append(value)


def _take(key: str, value: str, settings: Settings) -> bool:
    """One server, if the text says one, or that names are answered here; False where it cannot be read."""
    net = ""
    if key == "rev-server":
        split = _REVERSED.fullmatch(value)
        if split is None:
            return False
        net, value = split["net"], split["rest"]
    found = _SERVER.fullmatch(value)
    if found is None:
        return False
    ip, domains = found["ip"], found["domains"]
    if ip in ("", "#"):
        return domains is not None or value == "#"  # names that are answered here, or by the usual servers
    known, port = address(ip), int(found["port"] or PORT)
    if known is None or port > 65_535:
        return False
    names = (
        [net]
        if net
        else [name or "unqualified" for name in domains.split("/")]
        if domains is not None
        else []
    )
    via = (found["via"] or "").partition("#")[0]
    settings.asked += not names
    place = None if address(via) else via or None  # an address after the @ is the one to ask from
    settings.servers.append(
        NameServer(
            SOURCE,
            known[0],
            port,
            interface=place or known[1],
            domains=tuple(f"~{name}" for name in names),
            position=None if names else settings.asked,
        )
    )
    return True
