"""The network: interfaces, routes, firewall, name servers, tunnels, and who can reach what listens."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

from pydantic import Field

from .base import EdgeType, Label
from .firewall import FirewallRule
from .services import Service

NAMESPACE = Field(
    default=None,
    description="Network namespace, where it is not the daemon's own: a name, container/NAME, or its inode.",
)


class NetworkInterface(Label):
    """A network interface."""

    identity: ClassVar = ("namespace", "name")
    volatile: ClassVar = frozenset({"index", "speed_mbps"})
    word: ClassVar = "interface"

    name: str = Field(description="Name: eth0.")
    namespace: str | None = NAMESPACE
    state: str | None = Field(default=None, description="UP, DOWN, or what else the kernel says of its link.")
    kind: str | None = Field(
        default=None, description="loopback, ethernet, wifi, bridge, bond, vlan, veth, tun, wireguard, ..."
    )
    mac_address: str | None = Field(default=None, description="Hardware address.")
    ip_addresses: list[str] | None = Field(default=None, description="Its addresses.")
    networks: list[str] | None = Field(
        default=None, description="The same with the length of the network: 192.168.1.100/24."
    )
    mtu: int | None = Field(default=None, description="Longest packet in bytes.")
    master: str | None = Field(default=None, description="Bridge or bond that it belongs to.")
    parent: str | None = Field(default=None, description="Interface that it lies upon, such as a vlan's.")
    vlan: int | None = Field(default=None, description="Its vlan.")
    index: int | None = Field(default=None, description="The kernel's number of it.")
    speed_mbps: int | None = Field(default=None, description="Speed of the link in megabits per second.")

    @classmethod
    def event_type(cls, before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
        """An interface that goes up or down has events of these names; so has one that comes or goes."""
        if before is None or after is None or before["state"] == after["state"]:
            return Label.event_type.__func__(cls, before, after)  # type: ignore[attr-defined, no-any-return] # a classmethod of the base, asked for this class
        return "interface_up" if after["state"] == "UP" else "interface_down"


class Route(Label):
    """One way to a network, as the kernel has it; a route with several next hops is one each."""

    identity: ClassVar = ("namespace", "table", "destination", "gateway", "interface", "metric", "type")
    word: ClassVar = "route"

    destination: str = Field(description="Network that it leads to: default, 10.0.0.0/8.")
    namespace: str | None = NAMESPACE
    family: str = Field(description="ipv4 or ipv6.")
    table: str = Field(description="Routing table: main, local, or its number.")
    type: str = Field(default="unicast", description="unicast, blackhole, unreachable, ...")
    gateway: str | None = Field(default=None, description="Next hop.")
    interface: str | None = Field(default=None, description="Interface that it goes out of.")
    metric: int | None = Field(default=None, description="Lower is preferred.")
    source: str | None = Field(default=None, description="Address that it gives to what is sent.")
    protocol: str | None = Field(default=None, description="Who made it: kernel, boot, static, dhcp, ra.")
    reach: str | None = Field(default=None, description="Its scope: global, link or host.")

    @classmethod
    def event_values(cls, before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any]:
        """A route is called by where it leads."""
        values = after or before or {}
        return {"subject": str(values["destination"])}


class RoutingRule(Label):
    """A policy rule: which routing table counts for what."""

    identity: ClassVar = ("namespace", "family", "priority", "selector", "table")
    word: ClassVar = "route"

    priority: int = Field(description="Rules are tried from the lowest on.")
    namespace: str | None = NAMESPACE
    family: str = Field(description="ipv4 or ipv6.")
    selector: str = Field(default="", description="What it is for: from 10.0.0.0/8, fwmark 0x1; empty: all.")
    table: str = Field(default="", description="Table that it looks in.")
    action: str | None = Field(
        default=None, description="What else it does: blackhole, unreachable, goto 100."
    )

    @classmethod
    def event_values(cls, before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any]:
        """A policy rule is called by what it is for."""
        values = after or before or {}
        return {"subject": str(values["selector"] or "all")}


class DNSServer(Label):
    """A name server that this machine asks."""

    identity: ClassVar = ("source", "interface", "ip", "port")
    volatile: ClassVar = frozenset({"answers", "latency_ms", "checked_at"})
    word: ClassVar = "dns"

    ip: str = Field(description="Its address.")
    port: int = Field(default=53, description="Its port.")
    provider: str | None = Field(default=None, description="Who runs it, for well-known servers: Google.")
    source: str = Field(description="What names it: resolv.conf, systemd-resolved, NetworkManager, dnsmasq.")
    interface: str | None = Field(default=None, description="Interface that it is asked for.")
    position: int | None = Field(
        default=None,
        description="Its place in the order in which they are asked; none: not in turn, or never.",
    )
    domains: list[str] | None = Field(
        default=None, description="Names that it is asked for; ~ before: nothing else."
    )
    transport: str | None = Field(
        default=None, description="plain; tls: DNS over TLS; opportunistic: that if the server has it."
    )
    options: list[str] | None = Field(default=None, description="Options of resolv.conf.")
    answers: str | None = Field(default=None, description="Whether it answered a test: yes, or why not.")
    latency_ms: float | None = Field(default=None, description="How long its answer took, in milliseconds.")
    checked_at: datetime | None = Field(default=None, description="When it was asked.")

    @classmethod
    def event_values(cls, before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any]:
        """A server is called by its address; another port than that of DNS is told."""
        values = after or before or {}
        port = f"#{values['port']}" if values["port"] not in (53, 853) else ""
        return {"subject": f"{values['ip']}{port}"}


class VPNConnection(Label):
    """A tunnel to a peer."""

    identity: ClassVar = ("namespace", "type", "interface", "peer")
    volatile: ClassVar = frozenset({"peer_endpoint", "last_handshake", "received_bytes", "sent_bytes"})
    word: ClassVar = "vpn"

    type: str = Field(description="wireguard, openvpn, tailscale, ipsec or tun.")
    namespace: str | None = NAMESPACE
    interface: str | None = Field(default=None, description="Interface of the tunnel.")
    peer: str | None = Field(
        default=None, description="What tells the peer from others: its public key, its name."
    )
    peer_endpoint: str | None = Field(default=None, description="Where the peer is: vpn.example.com:51820.")
    status: str = Field(
        description="active, stale (no sign of the peer for minutes), down, or unknown (it may not be asked)."
    )
    connected_at: datetime | None = Field(
        default=None, description="Since when it is connected, where that is told."
    )
    last_handshake: datetime | None = Field(default=None, description="Newest sign of the peer.")
    allowed_ips: list[str] | None = Field(default=None, description="Networks that lie behind the peer.")
    carries_default: bool | None = Field(
        default=None, description="Whether traffic to the internet goes through it."
    )
    received_bytes: int | None = Field(default=None, description="Bytes received.")
    sent_bytes: int | None = Field(default=None, description="Bytes sent.")

    @classmethod
    def event_type(cls, before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
        """A tunnel connects when it becomes active, and disconnects when it is so no longer."""
        was, now = (side is not None and side["status"] == "active" for side in (before, after))
        if was != now:
            return "vpn_connected" if now else "vpn_disconnected"
        return Label.event_type.__func__(cls, before, after)  # type: ignore[attr-defined, no-any-return] # a classmethod of the base, asked for this class

    @classmethod
    def event_values(cls, before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any]:
        """A tunnel is called by its interface and its peer, as far as it has them."""
        values = after or before or {}
        return {"subject": " ".join(part for part in (values["interface"], values["peer"]) if part)}


class NetworkEndpoint(Label):
    """Something that listens: a port, or a path of this machine."""

    identity: ClassVar = ("namespace", "protocol", "address", "port", "path", "interface")
    volatile: ClassVar = frozenset({"pid", "connections"})
    word: ClassVar = "port"

    protocol: str = Field(description="tcp, udp or unix.")
    namespace: str | None = NAMESPACE
    address: str | None = Field(
        default=None, description="Address that it listens on; 0.0.0.0 and :: are all."
    )
    port: int | None = Field(default=None, description="Its port.")
    families: list[str] | None = Field(
        default=None, description="Versions of IP that it is for: ipv4, ipv6; one of :: may be for both."
    )
    path: str | None = Field(default=None, description="Path of a unix socket; @ before: abstract.")
    interface: str | None = Field(default=None, description="Interface that it is bound to.")
    process: str | None = Field(default=None, description="Name of the program that listens.")
    pid: int | None = Field(default=None, description="Its process.")
    user: str | None = Field(default=None, description="Who runs it.")
    unit: str | None = Field(default=None, description="systemd unit of the process.")
    container: str | None = Field(
        default=None,
        description="Name of the container that it is in, or is published from; its id where none is known.",
    )
    published_to: str | None = Field(
        default=None, description="Where connections to it are led: 172.17.0.2:80 of a container."
    )
    published_as: list[str] | None = Field(
        default=None, description="Ports of the machine that lead to it from there: 0.0.0.0:8099."
    )
    exposure: str | None = Field(
        default=None, description="Who can reach it: loopback, lan, internet, blocked or unknown."
    )
    decided_by: list[str] | None = Field(default=None, description="Rules and facts that this rests on.")
    connections: int | None = Field(default=None, description="Established connections to it.")

    @classmethod
    def event_type(cls, before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
        """A port opens, closes, or can be reached by others than before."""
        if before is None or after is None:
            return "port_opened" if after else "port_closed"
        return "port_exposure_changed" if before["exposure"] != after["exposure"] else "port_changed"

    @classmethod
    def event_values(cls, before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any]:
        """A port is called by its protocol and number."""
        values = after or before or {}
        return {"subject": f"{values['protocol']} {values['port'] or values['path']}"}


class ExternalAddress(Label):
    """The address by which the internet sees this machine."""

    identity: ClassVar = ("family",)
    volatile: ClassVar = frozenset({"checked_at", "source"})
    word: ClassVar = "network"

    family: str = Field(description="ipv4 or ipv6.")
    ip: str | None = Field(default=None, description="The address; none while it cannot be told.")
    source: str | None = Field(default=None, description="Who told it.")
    checked_at: datetime | None = Field(default=None, description="When it was asked for.")
    why: str | None = Field(default=None, description="Why it cannot be told: offline, no route, ...")

    @classmethod
    def event_values(cls, before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any]:
        """The address itself."""
        values = after or before or {}
        return {"subject": str(values["ip"] or values["family"])}


class ReachMetrics(Label):
    """How well another machine was reached at one moment."""

    identity: ClassVar = ("target", "timestamp")
    series: ClassVar = ("target",)

    target: str = Field(description="Name or address of the other machine; gateway: the default gateway.")
    timestamp: datetime = Field(description="When it was measured.")
    latency_ms: float | None = Field(default=None, description="Mean time of an answer, in milliseconds.")
    loss_percent: float | None = Field(default=None, description="Part of the probes without an answer.")


class ConnectionMetrics(Label):
    """How many established connections there were with one peer at one moment."""

    identity: ClassVar = ("protocol", "direction", "peer", "port", "process", "timestamp")
    series: ClassVar = ("protocol", "direction", "peer", "port", "process")
    keep: ClassVar = timedelta(days=7)

    protocol: str = Field(description="tcp or udp.")
    direction: str = Field(description="in: the peer connected to a port here; out: this machine did.")
    peer: str = Field(description="Address of the peer.")
    port: int = Field(description="Port that was connected to, here or there.")
    process: str | None = Field(default=None, description="Program at this end.")
    timestamp: datetime = Field(description="When they were counted.")
    count: int | None = Field(default=None, description="Connections.")


USED_BY = EdgeType(
    "USED_BY", (DNSServer,), (NetworkInterface,), "The name server is asked for this interface."
)
VIA = EdgeType("VIA", (Route,), (NetworkInterface,), "The route goes out of this interface.")
OVER = EdgeType("OVER", (VPNConnection,), (NetworkInterface,), "The tunnel has this interface.")
GOVERNS = EdgeType("GOVERNS", (FirewallRule,), (NetworkEndpoint,), "The rule decides who reaches this.")
LISTENS_ON = EdgeType("LISTENS_ON", (Service,), (NetworkEndpoint,), "The service listens there.")
