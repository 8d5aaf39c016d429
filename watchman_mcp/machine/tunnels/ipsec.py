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
_TEMPLATE = re.compile(r"\s+tmpl src (\S+) dst (\S+)")
_OUT = re.compile(r"\s+dir out\b")
_SOME = re.compile(r"\s+(?:mark|if_id) ")
"""It is only for packets with a mark, or of an interface: which those are, routes tell."""
_BYTES = re.compile(r"\s+([0-9]{1,18})\(bytes\),")
_MOST = 2**63 - 1
"""The largest number that can be kept."""
_EVERYTHING = frozenset({"0.0.0.0/0", "::/0"})
_NONE = frozenset({"0.0.0.0", "::"})  # noqa: S104 # not bound to, only compared


@dataclass
class _Peer:
    networks: dict[str, None] = field(default_factory=dict)
    """In their order."""
    carries: bool | None = False
    """Whether all that leaves goes to it, while it is there; None where that is not told."""
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
        head = _HEAD.match(block[0])
        unreadable += head is None
        if head is None or not any(map(_OUT.match, block)):
            continue
        ends = _ends(block, head[1], head[2])
        if ends is None:
            continue
        peer = peers.setdefault(ends, _Peer())
        peer.networks[head[2]] = None
        # Neither a protocol, port nor interface alone; `ip -s` adds a user, who is none.
        whole = block[0][head.end() :].strip() in ("", "uid 0")
        if whole and head[2] in _EVERYTHING and not peer.carries:
            peer.carries = None if any(map(_SOME.match, block)) else True
    for block in _blocks(states):
        head = _HEAD.match(block[0])
        unreadable += head is None
        if head is None or any(" spi 0x00000000(" in line for line in block):
            continue
        count = _bytes(block)
        if (there := _known(peers, head[1], head[2])) is not None:
            there.sent = min((there.sent or 0) + count, _MOST)
        elif (there := _known(peers, head[2], head[1])) is not None:
            there.received = min((there.received or 0) + count, _MOST)
    return [_tunnel(far, peer) for (_, far), peer in peers.items()], unreadable


def _tunnel(far: str, peer: _Peer) -> Tunnel:
    active = peer.received is not None and peer.sent is not None
    return Tunnel(
        "ipsec",
        ACTIVE if active else DOWN,
        peer=far,
        endpoint=far,
        allowed=tuple(peer.networks),
        carries=active and peer.carries,
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


def _ends(block: list[str], near: str, far: str) -> tuple[str, str] | None:
    """The two ends of a policy's tunnel; in transport mode they are those that it is for, if two hosts."""
    found = next((match for line in block if (match := _TEMPLATE.match(line))), None)
    if found is None or found[2] not in _NONE:
        return (found[1], found[2]) if found else None
    hosts = [one.partition("/") for one in (near, far)]
    if any(length != ("128" if ":" in ip else "32") for ip, _, length in hosts):
        return None
    return hosts[0][0], hosts[1][0]


def _known(peers: dict[tuple[str, str], _Peer], near: str, far: str) -> _Peer | None:
    """The tunnel of these ends, of which the near one may be any of this machine's."""
    return peers.get((near, far)) or peers.get(("::" if ":" in far else "0.0.0.0", far))  # noqa: S104 -- compared


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
