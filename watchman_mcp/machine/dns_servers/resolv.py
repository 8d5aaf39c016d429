"""resolv.conf, as the C library reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from . import NameServer, address

_BLANKS = re.compile("[ \t]+")
ASKED = 3
"""The C library asks no more servers than these."""


@dataclass
class Resolv:
    """What a resolv.conf says."""

    servers: list[tuple[str, str | None]] = field(default_factory=list)
    """Addresses in order, each with the interface that it is for; one that is named twice is asked twice."""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    unreadable: int = 0

    def named(self, source: str) -> list[NameServer]:
        """Its servers; one that is never asked, since others come first, has no position."""
        return [
            NameServer(
                source,
                ip,
                interface=scope,
                position=place if place <= ASKED else None,
                domains=self.search,
                options=self.options,
            )
            for place, (ip, scope) in enumerate(self.servers, 1)
        ]


def read_resolv(text: str) -> Resolv:
    """What a resolv.conf says; the last `domain` or `search` counts. Unknown lines are counted."""
    found = Resolv()
    options: dict[str, None] = {}
    for line in text.split("\n"):
        # A keyword stands at the beginning of its line, and blanks come after it.
        keyword, blank, rest = _split(line)
        words = _BLANKS.split(rest.strip(" \t"))  # a carriage return is no blank here
        if not line.strip() or line[0] in "#;":
            continue
        if keyword == "nameserver" and (known := address(words[0])):
            found.servers.append(known)
        elif keyword in ("search", "domain") and words[0]:
            found.search = tuple(words if keyword == "search" else words[:1])
        elif keyword == "options" and blank:
            options.update(dict.fromkeys(filter(None, words)))
        elif keyword == "sortlist" and words[0]:
            options.update(dict.fromkeys(f"sortlist:{word}" for word in words))
        elif not (keyword in ("search", "domain", "sortlist") and blank):
            found.unreadable += 1
    found.options = tuple(options)
    return found


def _split(line: str) -> tuple[str, str, str]:
    for place, letter in enumerate(line):
        if letter in " \t":
            return line[:place], letter, line[place:]
    return line, "", ""
