"""The devices of chains at an ingress: the JSON of nft 1.0.6, that of Debian 12, leaves them out."""

from __future__ import annotations

import re

from watchman_mcp.machine.firewall.model import NFTABLES, ChainId

_HOOK = re.compile(
    r"\s*type \S+ hook ingress (?:device (?P<one>\S+)|devices = \{(?P<all>[^{}]*)\}) priority .*", re.ASCII
)


def read_devices(text: str) -> dict[ChainId, tuple[str, ...]]:
    """The devices of each chain that has any, from `nft list chains`."""
    found: dict[ChainId, tuple[str, ...]] = {}
    family = table = name = ""
    for line in text.split("\n"):
        match line.split():
            case ["table", family, table, "{"]:
                name = ""
            case ["chain", name, "{"]:
                pass
            case _ if name and (hook := _HOOK.fullmatch(line)):
                names = [hook["one"]] if hook["one"] else hook["all"].split(",")
                devices = [one.strip().strip('"') for one in names]
                found[ChainId(NFTABLES, family, table, name)] = tuple(one for one in devices if one)
    return found
