"""The servers that dnsmasq's configuration sends questions to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from watchman_mcp.machine.running import running

from . import PORT, NameServer, address

SOURCE = "dnsmasq"
_SERVER = re.compile(r"(?:/(?P<domains>.*)/)?(?P<ip>[^#@/]*)(?:#(?P<port>\d{1,5}))?(?:@(?P<via>.*))?")
_REVERSED = re.compile(r"(?P<net>[0-9a-fA-F:.]+(?:/\d{1,3})?)(?:,(?P<rest>.+))?")
_OTHER_FILE = re.compile(r"\0(?:-C\0?|--conf-file[=\0])([^\0]*)")
LEFT_OVER = (".dpkg-dist", ".dpkg-old", ".dpkg-new")
"""How the names end that Debian has it skip in its usual folder."""


@dataclass
class Settings:
    """What some configuration says of servers; `unreadable` counts lines about them that say nothing."""

    servers: list[NameServer] = field(default_factory=list)
    resolv_files: list[str] = field(default_factory=list)
    no_resolv: bool = False
    off: bool = False
    """Whether it answers no questions, and only gives addresses."""
    folders: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """Each with the endings of names that are skipped, or with `*` before them alone are read."""
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
        elif key == "port":
            settings.off = value == "0"
        elif key == "conf-dir" and value:
            folder, *endings = (part.strip() for part in value.split(","))
            settings.folders.append((folder, tuple(filter(None, endings))))
        elif key in ("conf-file", "servers-file") and value:
            settings.more.append(value)


def _take(key: str, value: str, settings: Settings) -> bool:
    """One server, if the text says one, or that names are answered here; False where it cannot be read."""
    net = ""
    if key == "rev-server":
        split = _REVERSED.fullmatch(value)
        if split is None:
            return False
        net, value = split["net"], split["rest"] or ""
    found = _SERVER.fullmatch(value)
    if found is None:
        return False
    ip, domains = found["ip"], found["domains"]
    if ip in ("", "#"):
        # Names that are answered here, or by the usual servers.
        return bool(domains is not None or value == "#" or net)
    known, port = address(ip), int(found["port"] or PORT)
    if known is None or port > 65_535:
        return False
    names = [net] if net else domains.split("/") if domains is not None else []
    if "#" in names:  # which is every one
        names = []
    via = [part.partition("#")[0] for part in (found["via"] or "").split("@")]
    settings.asked += not names
    # An address after an @ is the one to ask from.
    place = next((part for part in via if part and not address(part)), None)
    settings.servers.append(
        NameServer(
            SOURCE,
            known[0],
            port,
            interface=place or known[1],
            domains=tuple(f"~{name or 'unqualified'}" for name in names),
            position=None if names else settings.asked,
        )
    )
    return True


def counts(name: str, endings: Sequence[str]) -> bool:
    """Whether it reads a file of this name in a folder with such endings."""
    if name.endswith("~") or name.startswith(".") or (name.startswith("#") and name.endswith("#")):
        return False
    if name.endswith(tuple(one for one in endings if not one.startswith("*"))):
        return False
    wanted = tuple(one[1:] for one in endings if one.startswith("*") and one != "*")
    return not wanted or name.endswith(wanted)


def at_work(usual: str, proc: str = "/proc") -> bool:
    """Whether one runs that reads its usual configuration: those of libvirt and of others have their own."""
    for pid in running({b"dnsmasq"}, proc):
        with suppress(OSError), open(f"{proc}/{pid}/cmdline", "rb") as stream:
            others = _OTHER_FILE.findall(stream.read(1 << 20).decode("utf-8", "surrogateescape"))
            if not others or usual in others:
                return True
    return False
