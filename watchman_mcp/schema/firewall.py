"""The firewall: chains, rules, and the programs that make them."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from .base import EdgeType, Label

NAMESPACE = Field(
    default=None,
    description="Network namespace, where it is not the daemon's own: a name, container/NAME, or its inode.",
)


class FirewallManager(Label):
    """A program that makes firewall rules from settings of its own."""

    identity: ClassVar = ("name",)
    word: ClassVar = "firewall"

    name: str = Field(description="ufw or firewalld.")
    active: bool | None = Field(
        default=None, description="Whether its rules are in force; none: that cannot be told."
    )
    enabled: bool | None = Field(default=None, description="Whether its settings turn it on; none: not told.")
    incoming: str | None = Field(
        default=None, description="What it does with connections that no setting is for: drop, zone public."
    )
    settings: list[str] | None = Field(default=None, description="Its rules, in its own words.")

    @classmethod
    def event_type(cls, before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
        """One that is turned on or off has events of these names."""
        was, now = (bool(side and side["active"]) for side in (before, after))
        if was != now:
            return "firewall_enabled" if now else "firewall_disabled"
        what = "appeared" if before is None else "vanished" if after is None else "changed"
        return f"firewall_manager_{what}"


class FirewallChain(Label):
    """A list of firewall rules in their order."""

    identity: ClassVar = ("namespace", "backend", "family", "table", "name")
    word: ClassVar = "firewall"

    name: str = Field(description="Name: INPUT.")
    namespace: str | None = NAMESPACE
    backend: str = Field(description="nftables, iptables or ip6tables (the legacy kind).")
    family: str = Field(description="ip, ip6, inet, bridge, arp or netdev.")
    table: str = Field(description="Table that it belongs to: filter.")
    hook: str | None = Field(
        default=None, description="Where packets enter it: input, forward, ...; none: by jumps only."
    )
    priority: int | None = Field(default=None, description="Chains of one hook run from the lowest on.")
    policy: str | None = Field(default=None, description="What becomes of packets that no rule decides.")
    rules: list[str] | None = Field(default=None, description="Keys of its rules in order.")
    made_by: str | None = Field(
        default=None, description="ufw, firewalld, docker, ..., where its name tells."
    )

    @classmethod
    def event_type(cls, before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
        """A chain that lost all of its rules was flushed."""
        if before and after and before["rules"] and not after["rules"]:
            return "firewall_flushed"
        what = "appeared" if before is None else "vanished" if after is None else "changed"
        return f"firewall_chain_{what}"


class FirewallRule(Label):
    """One firewall rule; its place among others is the chain's."""

    identity: ClassVar = ("namespace", "backend", "family", "table", "chain", "key")
    volatile: ClassVar = frozenset({"rule_num", "handle", "packets", "bytes"})
    word: ClassVar = "firewall"

    key: str = Field(description="Hash of what it says, and its number among equal ones of its chain.")
    namespace: str | None = NAMESPACE
    backend: str = Field(description="nftables, iptables or ip6tables (the legacy kind).")
    family: str = Field(description="ip, ip6, inet, bridge, arp or netdev.")
    table: str = Field(description="Table.")
    chain: str = Field(description="Chain: INPUT.")
    rule_num: int | None = Field(
        default=None, description="Its place in the chain when it was last looked at."
    )
    handle: int | None = Field(default=None, description="The kernel's number of it.")
    target: str | None = Field(
        default=None, description="ACCEPT, DROP, REJECT, RETURN, a chain, ...; none: it only counts or marks."
    )
    protocol: str | None = Field(default=None, description="tcp, udp, icmp, ...; none: any.")
    port: int | None = Field(default=None, description="The one port that it is for.")
    ports: str | None = Field(
        default=None, description="Its ports as ranges: 22,80,8000-8100; a ! before: all others."
    )
    source: str | None = Field(default=None, description="Networks that packets come from; none: any.")
    destination: str | None = Field(default=None, description="Networks that packets go to; none: any.")
    in_interface: str | None = Field(default=None, description="Interfaces that they come in by.")
    out_interface: str | None = Field(default=None, description="Interfaces that they leave by.")
    states: list[str] | None = Field(default=None, description="States of connections that it is for.")
    opaque: str | None = Field(
        default=None, description="A condition that cannot be understood here, as it is written."
    )
    text: str = Field(description="The rule as its tool would write it, without counters.")
    comment: str | None = Field(default=None, description="What its author wrote beside it.")
    packets: int | None = Field(default=None, description="Packets that it met.")
    bytes: int | None = Field(default=None, description="Bytes of these.")

    @classmethod
    def event_values(cls, before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any]:
        """A firewall rule is called by its chain and what it says."""
        values = after or before or {}
        return {"subject": f"{values['chain']}: {values['text']}"}


HOLDS = EdgeType("HOLDS", (FirewallChain,), (FirewallRule,), "The chain holds the rule.")
