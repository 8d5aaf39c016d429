"""Tunnels to other machines: WireGuard, OpenVPN, Tailscale, IPsec, and tun devices of other programs.

Of other network namespaces those of WireGuard are told, and all else that has a tun device by that alone: the
files of a program in a container are not those of this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from watchman_mcp.errors import Absent
from watchman_mcp.machine.containers import Containers, namespaces
from watchman_mcp.machine.network_namespaces import inside
from watchman_mcp.machine.tunnels import ACTIVE, DOWN, UNKNOWN, Link, Tunnel, links
from watchman_mcp.machine.tunnels.ipsec import ask_ipsec
from watchman_mcp.machine.tunnels.openvpn import processes, tunnels_of
from watchman_mcp.machine.tunnels.strongswan import SOCKETS as STRONGSWAN_SOCKETS
from watchman_mcp.machine.tunnels.strongswan import ask_strongswan, without
from watchman_mcp.machine.tunnels.tailscale import ask_tailscale
from watchman_mcp.machine.tunnels.wireguard import PROGRAMS, ask_wireguard
from watchman_mcp.machine.tunnels.wireguard import tunnels_of as tunnels_of_peers
from watchman_mcp.machine.ways import carriers
from watchman_mcp.schema import Edge, path_of
from watchman_mcp.schema.network import OVER, NetworkInterface, VPNConnection

from . import Collector, Look

WIREGUARD_SOCKETS = {kind: f"/run/{kind}" for kind in PROGRAMS}
TAILSCALE_SOCKETS = "/run/tailscale"
OPENVPN_FOLDERS = ("/run/openvpn", "/run/openvpn-client", "/run/openvpn-server")
_TUNS = ("tun", "tap")


Ask = Callable[[Look, list[Link], set[str]], list[Tunnel]]
"""Tunnels of one kind, of these interfaces; to the set it adds those that the kinds after it leave alone."""


def collect(look: Look) -> Iterator[VPNConnection | Edge]:
    """Every tunnel.

    Raises: Absent (the settings want none, or another machine's files are read).
    """
    if not look.settings.network.track_vpn:
        raise Absent("[network] track_vpn is false")
    if not look.machine.live:
        raise Absent("tunnels are asked of a running machine and this one is read as files")
    known = links()
    decided: frozenset[str] | None = None
    with look.beside("ways"):
        decided = carriers()
    named: set[str] = set()
    for kind, ask in KINDS.items():
        with look.part(f"{look.scope}:{kind}"):
            for tunnel in ask(look, known, named):
                yield from _rows(tunnel, decided)
    yield from _elsewhere(look)


def _elsewhere(look: Look) -> Iterator[VPNConnection | Edge]:
    """Tunnels of the other network namespaces that may be entered."""
    there = namespaces(Containers(look.marks))
    if there.left_out:
        look.cannot(f"{look.scope}:netns", there.left_out)
    for one in there.others:
        known, named = list[Link](), set[str]()
        with look.part(scope := f"{look.scope}:netns/{one.name}"):
            known = inside(one, links)
        for kind in ELSEWHERE if known else ():
            with look.part(f"{scope}/{kind}"):  # below it: where it may not be entered, all of it stays known
                found, decided = inside(one, partial(_within, partial(KINDS[kind], look, known, named)))
                for tunnel in found:
                    yield from _rows(tunnel, decided, one.name)


def _within(ask: Callable[[], list[Tunnel]]) -> tuple[list[Tunnel], frozenset[str]]:
    """The tunnels of this thread's network namespace, and the interfaces that carry what leaves for afar.

    Raises: Absent, Denied, Broken.
    """
    found = ask()
    return found, carriers() if found else frozenset()


def _rows(
    tunnel: Tunnel, decided: frozenset[str] | None, namespace: str | None = None
) -> Iterator[VPNConnection | Edge]:
    yield (node := _node(tunnel, decided, namespace))
    if tunnel.interface:
        yield Edge(OVER, node.node_id, path_of(NetworkInterface, namespace, tunnel.interface))


def _node(tunnel: Tunnel, decided: frozenset[str] | None, namespace: str | None) -> VPNConnection:
    carries = tunnel.carries
    if carries is None and decided is not None and tunnel.interface:
        carries = tunnel.interface in decided
    return VPNConnection(
        type=tunnel.type,
        namespace=namespace,
        interface=tunnel.interface,
        peer=tunnel.peer,
        peer_endpoint=tunnel.endpoint,
        status=tunnel.status,
        connected_at=tunnel.connected_at,
        last_handshake=tunnel.last_sign,
        allowed_ips=list(tunnel.allowed) or None,
        carries_default=carries,
        received_bytes=tunnel.received,
        sent_bytes=tunnel.sent,
    )


def _wireguards(kind: str, look: Look, known: list[Link]) -> set[str]:
    """Interfaces of the kernel's WireGuard or its fork, and of programs that leave a socket as these do."""
    found = {link.name for link in known if link.kind == kind}
    if look.machine.files.exists(WIREGUARD_SOCKETS[kind]):
        left = look.machine.files.entries(WIREGUARD_SOCKETS[kind])
        # A program's socket can be seen from other network namespaces too.
        found |= {entry.name.removesuffix(".sock") for entry in left} & {link.name for link in known}
    return found


def _wireguard(kind: str, look: Look, known: list[Link], named: set[str]) -> list[Tunnel]:
    """Peers of every interface."""
    found, program = _wireguards(kind, look, known), PROGRAMS[kind]
    if not found:
        raise Absent(f"no interface is of {kind}")
    named.update(found)
    interfaces, peers, unreadable = ask_wireguard(look.machine.commands, program)
    named.update(interfaces)
    if unreadable:
        look.cannot(
            f"{look.scope}:lines", f"{unreadable} lines of {program} cannot be read and were left out"
        )
    return tunnels_of_peers(peers, {link.name: link.up for link in known})


def _unasked(kind: str, look: Look, known: list[Link], _named: set[str]) -> list[Tunnel]:
    """Interfaces of WireGuard whose peers this user may not see, or nobody without `wg` or `awg`."""
    asked = look.scope.removesuffix("-interfaces")
    if asked in look.seen:
        raise Absent("their peers are told")
    names = _wireguards(kind, look, known)
    here = [link for link in known if link.name in names]
    if here and asked not in look.failed:
        look.cannot(asked, f"peers cannot be told without the command {PROGRAMS[kind]}, of {kind}-tools")
    return [Tunnel("wireguard", UNKNOWN if link.up else DOWN, link.name) for link in here]


def _openvpn(look: Look, known: list[Link], named: set[str]) -> list[Tunnel]:
    found: list[Tunnel] = []
    for process in processes():
        tunnels, lost = tunnels_of(look.machine.files, process, known)
        found += tunnels
        named.update(tunnel.interface for tunnel in tunnels if tunnel.interface)
        named.update({process.interface} if process.interface else ())
        for what in lost:
            look.cannot(f"{look.scope}:{process.pid}", f"cannot be told: {what}")
    return found


def _tailscale(look: Look, known: list[Link], named: set[str]) -> list[Tunnel]:
    here = any(link.name == "tailscale0" for link in known)
    if not here and not look.machine.files.exists(TAILSCALE_SOCKETS):
        raise Absent("Tailscale does not run")
    named.update({"tailscale0"} if here else ())
    return ask_tailscale(look.machine.commands)


def _ipsec(look: Look, _known: list[Link], _named: set[str]) -> list[Tunnel]:
    tunnels, unreadable = ask_ipsec(look.machine.commands)
    if unreadable:
        look.cannot(f"{look.scope}:lines", f"{unreadable} parts of `ip xfrm` cannot be read")
    named: list[Tunnel] = []
    for path in STRONGSWAN_SOCKETS:
        if look.machine.files.exists(path):
            told = ask_strongswan(path)
            named += told or ()
            if told is None:
                look.cannot(
                    f"{look.scope}:strongswan", "the names of connections may not be read by this user"
                )
    return named + without(tunnels, named)


def _others(_look: Look, known: list[Link], named: set[str]) -> list[Tunnel]:
    """Devices of programs that are not known here; one that belongs to a bridge is a virtual machine's."""
    return [
        Tunnel("tun", ACTIVE if link.up and link.running else DOWN, link.name)
        for link in known
        if link.kind in _TUNS and link.name not in named and not link.master
    ]


_WIREGUARDS: dict[str, Ask] = {
    **{kind: partial(_wireguard, kind) for kind in PROGRAMS},
    **{f"{kind}-interfaces": partial(_unasked, kind) for kind in PROGRAMS},
}
KINDS: dict[str, Ask] = {
    **_WIREGUARDS,
    "openvpn": _openvpn,
    "tailscale": _tailscale,
    "ipsec": _ipsec,
    "tun": _others,
}
ELSEWHERE = (*_WIREGUARDS, "tun")
"""Kinds that are asked for in other network namespaces too."""

collector = Collector(
    collect,
    emits=(VPNConnection, OVER),
    every=lambda settings: settings.network.scan_interval,
    watch=(
        *WIREGUARD_SOCKETS.values(),
        TAILSCALE_SOCKETS,
        *OPENVPN_FOLDERS,
        *STRONGSWAN_SOCKETS,
        "netlink:link",
        "netlink:route",
    ),
    feature="network_scanning",
)
