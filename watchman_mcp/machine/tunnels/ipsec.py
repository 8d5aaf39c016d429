"""IPsec tunnels of the kernel, whichever program keeps them, as `ip xfrm` tells them.

`ip` leaves the keys out (`nokeys`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from watchman_mcp.errors import Broken, Denied
from watchman_mcp.machine.commands import Commands

from . import ACTIVE, DOWN, Tunnel

_HEAD = re.compile(r"src (\S+) dst (\S+)")
_TEMPLATE = re.compile(r"\ttmpl src (\S+) dst (\S+)")
_BYTES = re.compile(r"\s+([0-9]{1,18})\(bytes\),")
_MOST = 2**63 - 1
"""The largest number that can be kept."""
_EVERYTHING = frozenset({"0.0.0.0/0", "::/0"})
_NONE = frozenset({"0.0.0.0", "::"})  # noqa: S104 # not bound to, only compared


@dataclass
class _Peer:
    networks: list[str] = field(default_factory=list)
    received: int | None = None
    sent: int | None = None


def ask_ipsec(commands: Commands) -> tuple[list[Tunnel], int]:
    """The tunnels, and how many lines cannot be read.

    Raises: Absent (no ip), Denied, Broken.
    """
    policies = _ask(commands, "ip", "xfrm", "policy", "list")
    if "tmpl" not in policies:
        return [], 0
    return read_tunnels(policies, _ask(commands, "ip", "-s", "xfrm", "state", "list", "nokeys"))


def read_tunnels(policies: str, states: str) -> tuple[list[Tunnel], int]:
    """The tunnels of these policies, active where there are associations both ways."""
    unreadable = 0
    peers: dict[tuple[str, str], _Peer] = {}
    for block in _blocks(policies):
        head, template = _HEAD.match(block[0]), _templates(block)
        unreadable += head is None
        if head is None or template is None or not any("\tdir out " in f"{line} " for line in block):
            continue
        peer = peers.setdefault(template, _Peer())
        if head[2] not in peer.networks:
            peer.networks.append(head[2])
    for block in _blocks(states):
        head = _HEAD.match(block[0])
        unreadable += head is None
        if head is None or any(" spi 0x00000000(" in line for line in block):
            continue
        ends, count = (head[1], head[2]), _bytes(block)
        if ends in peers:
            peers[ends].sent = min((peers[ends].sent or 0) + count, _MOST)
        elif ends[::-1] in peers:
            peers[ends[::-1]].received = min((peers[ends[::-1]].received or 0) + count, _MOST)
    return [_tunnel(far, peer) for (_, far), peer in peers.items()], unreadable


def _tunnel(far: str, peer: _Peer) -> Tunnel:
    active = peer.received is not None and peer.sent is not None
    return Tunnel(
        "ipsec",
        ACTIVE if active else DOWN,
        peer=far,
        endpoint=far,
        allowed=tuple(peer.networks),
        carries=active and not _EVERYTHING.isdisjoint(peer.networks),
        received=peer.received,
        sent=peer.sent,
    )


def _blocks(text: str) -> Iterator[list[str]]:
    """What stands between lines that are not indented."""
    block: list[str] = []
    for line in text.split("\n"):
        if line and line[0] not in "\t " and block:
            yield block
            block = []
        if line:
            block.append(line)
    if block:
        yield block


def _templates(block: list[str]) -> tuple[str, str] | None:
    """The two ends of a policy's tunnel; in transport mode they are not written, or are zero."""
    for line in block:
        found = _TEMPLATE.match(line)
        if found and found[2] not in _NONE:
            return found[1], found[2]
    return None


def _bytes(block: list[str]) -> int:
    """What an association carried so far."""
    start = next((n for n, line in enumerate(block) if line.strip() == "lifetime current:"), len(block))
    found = next((match for line in block[start:] if (match := _BYTES.match(line))), None)
    return int(found[1]) if found else 0


def _ask(commands: Commands, *words: str) -> str:
    told = commands.run(list(words))
    if told.code != 0:
        why = told.stderr.strip().split("\n")[-1][:200]
        if "not permitted" in told.stderr or "ermission denied" in told.stderr:
            raise Denied("IPsec's policies may not be read by this user")
        if "not supported" in told.stderr:  # a kernel without it has none
            return ""
        raise Broken(f"ip says: {why or 'nothing'}; run `ip xfrm policy` by hand")
    return told.stdout
