"""In which order the kernel asks the chains of a hook."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from watchman_mcp.machine.firewall.model import Chain, Effect, Firewall
from watchman_mcp.machine.firewall.packet import Packet, named


def orders_of(firewall: Firewall, hook: str, packet: Packet) -> Iterator[list[list[Chain]]]:
    """The chains that a packet is shown to, by priority, in every order that has to be reckoned with.

    Of one priority the kernel asks first what was put there last, and does not tell which that is. So where
    one of them may change what another sees, they are taken as they are listed and the other way round.
    """
    found = [
        chain
        for chain in firewall.chains.values()
        if chain.hook == hook and not chain.dormant and _sees(chain, packet)
    ]
    for _, group in groupby(sorted(found, key=_priority), key=_priority):
        same = list(group)
        yield [same, same[::-1]] if len(same) > 1 and _matters(firewall, same) else [same]


def _priority(chain: Chain) -> int:
    return chain.priority or 0


def _sees(chain: Chain, packet: Packet) -> bool:
    if chain.devices:
        return any(named(packet.iif, device) for device in chain.devices)
    if chain.id.family == "bridge":
        return packet.bridged
    return chain.id.family in ("inet", "ip" if packet.version == 4 else "ip6")


def _matters(firewall: Firewall, chains: list[Chain]) -> bool:
    """Whether what one of these chains does to a packet may be seen by another."""
    if firewall.changing is None:
        firewall.changing = {
            chain.id[:3]
            for chain in firewall.chains.values()
            if chain.kind == "nat"
            or any(isinstance(part, Effect) for rule in chain.rules for part in rule.parts)
        }
    return any(chain.id[:3] in firewall.changing for chain in chains)
