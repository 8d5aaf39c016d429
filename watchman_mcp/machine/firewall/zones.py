"""Zones of firewalld as its files keep them: what it will be set to, or was when it began to run."""

from __future__ import annotations

from typing import Any, NoReturn
from xml.parsers import expat

from watchman_mcp.errors import Broken

_LISTS = {
    "service": ("services", ("name",)),
    "protocol": ("protocols", ("value",)),
    "icmp-block": ("icmp_blocks", ("name",)),
    "port": ("ports", ("port", "protocol")),
    "source-port": ("source_ports", ("port", "protocol")),
    "forward-port": ("forward_ports", ("port", "protocol", "to-port", "to-addr")),
}
_BOUND = {"interface": ("interfaces", ("name",)), "source": ("sources", ("address", "mac", "ipset"))}
_SWITCHES = ("masquerade", "forward")
_WORDS = ("short", "description", "icmp-block-inversion")
"""What decides nothing that is told here."""


class Zone:
    """What a file holds, in the words of firewalld's bus, and how many elements were not understood."""

    def __init__(self) -> None:
        self.bound: dict[str, list[str]] = {}
        self.told: dict[str, Any] = {}
        self.unread = 0
        self._inside: list[str] = []
        self._rule: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Take the beginning of an element."""
        self._inside.append(name)
        if len(self._inside) == 1:
            self.told["target"] = attributes.get("target")
        elif name == "rule" or "rule" in self._inside:
            invert = attributes.pop("invert", "no").lower() in ("yes", "true")
            # as firewall-cmd lists it: the priority is first
            given = sorted(attributes.items(), key=lambda pair: pair[0] != "priority")
            words = [f'{key}="{value}"' for key, value in given]
            self._rule += [name, *(["NOT"] if invert else []), *words]
        elif len(self._inside) == 2:
            self._take(name, attributes)

    def _take(self, name: str, attributes: dict[str, str]) -> None:
        if name in _BOUND:
            key, names = _BOUND[name]
            values = [attributes[one] for one in names if attributes.get(one)]
            values = [f"ipset:{one}" for one in values] if attributes.get("ipset") else values
            self.bound.setdefault(key, []).extend(values)
            self.unread += not values
        elif name in _LISTS:
            key, names = _LISTS[name]
            row = [attributes.get(one, "") for one in names]
            self.told.setdefault(key, []).append(row if len(row) > 1 else row[0])
            self.unread += not row[0]
        elif name in _SWITCHES:
            self.told[name] = attributes.get("enabled", "yes").lower() not in ("no", "false")
        else:
            self.unread += name not in _WORDS

    def end(self, name: str) -> None:
        """Take the end of an element."""
        self._inside.pop()
        if name == "rule" and len(self._inside) == 1:
            self.told.setdefault("rules_str", []).append(" ".join(self._rule))
            self._rule = []


def read_zone_file(text: str) -> Zone:
    """A zone; a file with a document type, which may hide anything, is refused.

    Raises: Broken.
    """
    zone = Zone()

    def refuse(*_: object) -> NoReturn:
        raise Broken("a zone of firewalld has a document type, which is no part of it; it was not read")

    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler, parser.EndElementHandler = zone.start, zone.end
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text.encode("utf-8", "surrogateescape"), True)
    except expat.ExpatError as error:
        raise Broken(f"a zone of firewalld is no XML ({error})") from error
    return zone
