"""What an answer about the network holds."""

from __future__ import annotations

from pydantic import BaseModel

from watchman_mcp.tools.answers import Answer, Tail
from watchman_mcp.tools.resources.answer import Series, Traffic


class Interface(BaseModel):
    """One interface."""

    name: str
    namespace: str | None = None
    state: str | None = None
    kind: str | None = None
    networks: list[str] | None = None
    mac_address: str | None = None
    mtu: int | None = None
    master: str | None = None
    parent: str | None = None
    vlan: int | None = None
    speed_mbps: int | None = None
    rx_mb_s: float | None = None
    tx_mb_s: float | None = None


class Route(BaseModel):
    """One route, or one policy rule where it has a priority."""

    priority: int | None = None
    selector: str | None = None
    action: str | None = None
    destination: str | None = None
    gateway: str | None = None
    interface: str | None = None
    table: str | None = None
    family: str | None = None
    metric: int | None = None
    type: str | None = None
    source: str | None = None
    protocol: str | None = None
    namespace: str | None = None


class Rule(BaseModel):
    """One firewall rule, or a chain's policy where it has none."""

    chain: str
    rule_num: int | None = None
    rule: str
    target: str | None = None
    applies: str | None = None
    opaque: str | None = None
    comment: str | None = None
    packets: int | None = None
    made_by: str | None = None
    namespace: str | None = None


class NameServer(BaseModel):
    """One name server."""

    ip: str
    port: int | None = None
    provider: str | None = None
    source: str
    interface: str | None = None
    domains: list[str] | None = None
    transport: str | None = None
    options: list[str] | None = None
    answers: str | None = None
    latency_ms: float | None = None


class Tunnel(BaseModel):
    """One tunnel."""

    type: str
    status: str
    interface: str | None = None
    peer: str | None = None
    peer_endpoint: str | None = None
    carries_default: bool | None = None
    connected_at: str | None = None
    last_handshake: str | None = None
    allowed_ips: list[str] | None = None
    received_mb: float | None = None
    sent_mb: float | None = None
    namespace: str | None = None


class Port(BaseModel):
    """Something that listens."""

    protocol: str
    address: str | None = None
    port: int | None = None
    path: str | None = None
    interface: str | None = None
    process: str | None = None
    pid: int | None = None
    user: str | None = None
    unit: str | None = None
    container: str | None = None
    published_to: str | None = None
    published_as: list[str] | None = None
    exposure: str | None = None
    decided_by: list[str] | None = None
    connections: int | None = None
    namespace: str | None = None


class Peer(BaseModel):
    """Connections with one peer."""

    peer: str
    direction: str
    protocol: str
    port: int
    count: int
    process: str | None = None


class Address(BaseModel):
    """How the internet sees this machine, in one family."""

    family: str
    ip: str | None = None
    source: str | None = None
    checked_at: str | None = None
    why: str | None = None


class Reach(BaseModel):
    """How well another machine is reached."""

    target: str
    latency_ms: float | None = None
    loss_percent: float | None = None


class NetworkAnswer(Answer, Tail):
    """The network as it is, by what was asked for."""

    default_route: list[str] | None = None
    external: list[Address] | None = None
    interfaces: list[Interface] | None = None
    routes: list[Route] | None = None
    ports: list[Port] | None = None
    firewall: list[Rule] | None = None
    firewall_by: list[str] | None = None
    dns: list[NameServer] | None = None
    search_domains: list[str] | None = None
    vpn: list[Tunnel] | None = None
    connections: list[Peer] | None = None
    traffic: list[Traffic] | None = None
    quality: list[Reach] | None = None
    series: list[Series] | None = None
