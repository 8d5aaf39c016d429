"""What network_status answers: each view, by port, interface and process, and the kinds of nothing."""

from pathlib import Path
from typing import Any

import pytest

from tests.story import Story
from watchman_mcp.errors import InvalidRequest
from watchman_mcp.schema import Label
from watchman_mcp.schema.firewall import FirewallChain, FirewallRule
from watchman_mcp.schema.network import (
    DNSServer,
    ExternalAddress,
    NetworkEndpoint,
    NetworkInterface,
    Route,
    RoutingRule,
    VPNConnection,
)
from watchman_mcp.store.batch import Batch, NodeRow
from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools.answers import compact
from watchman_mcp.tools.network import network_status
from watchman_mcp.tools.network.firewall import applies_to


@pytest.fixture
def story(store: Store) -> Story:
    told = Story(store)
    told.host(60)
    for name in ("network", "firewall", "ports", "dns", "vpn", "external"):
        told.ran(name, 5)
    return told


def put(story: Story, *nodes: Label) -> None:
    rows = [NodeRow(type(one).__name__, one.node_id, dict(one.__dict__), "network") for one in nodes]
    story.store.write(Batch(at=story.ago(5), nodes=rows))


def ask(store: Store, **arguments: Any) -> dict[str, Any]:
    return compact(network_status(store, **arguments))


def rule(num: int, text: str, **more: Any) -> FirewallRule:
    chain = {"backend": "nftables", "family": "inet", "table": "filter", "chain": "input", **more}
    return FirewallRule(key=f"k{num}", rule_num=num, text=text, **chain)


CHAIN = FirewallChain(
    name="input", backend="nftables", family="inet", table="filter", hook="input", priority=0, policy="drop",
    rules=["k1", "k2", "k3", "k4", "k5"],
)  # fmt: skip


def test_rules_of_a_port_come_first_then_those_for_any_port_and_the_policy(
    store: Store, story: Story
) -> None:
    put(
        story,
        CHAIN,
        rule(1, "ct state established accept", target="ACCEPT", states=["established"]),
        rule(2, "tcp dport 22 accept", target="ACCEPT", protocol="tcp", port=22),
        rule(3, "tcp dport { 80, 440-450 } accept", target="ACCEPT", protocol="tcp", ports="80,440-450"),
        rule(4, "tcp dport != { 443 } drop", target="DROP", protocol="tcp", ports="!443"),
        rule(5, "icmp type echo-request accept", target="ACCEPT", protocol="icmp"),
        NetworkEndpoint(
            protocol="tcp", address="0.0.0.0", port=443, process="nginx", exposure="internet",
            decided_by=["tcp dport { 80, 440-450 } accept"],
        ),
    )  # fmt: skip

    answer = ask(store, view="firewall", port=443)

    assert [(one["rule"], one["applies"]) for one in answer["firewall"]] == [
        ("tcp dport { 80, 440-450 } accept", "port 443"),
        ("ct state established accept", "any port"),
        ("policy drop (hook input)", "what no rule decides"),
    ]
    assert answer["totals"] == {"items": 3, "of_this_port": 1}
    assert [(one["process"], one["exposure"]) for one in answer["ports"]] == [("nginx", "internet")]
    assert answer["firewall_by"] == ["nftables"]
    everything = ask(store, view="firewall")
    assert [one.get("rule_num") for one in everything["firewall"]] == [1, 2, 3, 4, 5, None]


@pytest.mark.parametrize(
    ("values", "port", "applies"),
    [
        ({"protocol": "tcp", "port": 443}, 443, "port"),
        ({"protocol": "tcp", "port": 443}, 44, None),
        ({"ports": "1-1023"}, 443, "port"),
        ({"ports": "!1-1023"}, 443, None),
        ({"ports": "!22"}, 443, "any"),
        ({"protocol": "udp"}, 443, "any"),
        ({"protocol": "icmp"}, 443, None),
        ({"protocol": "!icmp"}, 443, "any"),
        ({"protocol": "tcp,udp", "ports": "443"}, 443, "port"),
        ({}, 443, "any"),
        ({"ports": "ssh"}, 443, None),
    ],
)
def test_a_rule_is_for_a_port_or_for_any_or_not_for_this_one(
    values: dict[str, Any], port: int, applies: str | None
) -> None:
    assert applies_to({"protocol": None, "port": None, "ports": None, **values}, port) == applies


def test_listeners_that_others_can_reach_come_first(store: Store, story: Story) -> None:
    put(
        story,
        NetworkEndpoint(
            protocol="tcp", address="127.0.0.1", port=5432, process="postgres", exposure="loopback"
        ),
        NetworkEndpoint(protocol="tcp", address="0.0.0.0", port=22, process="sshd", exposure="lan"),
        NetworkEndpoint(protocol="tcp", address="::", port=443, unit="nginx.service", exposure="internet"),
        NetworkEndpoint(protocol="unix", path="/run/x.sock", process="postgres"),
    )

    answer = ask(store, view="ports")

    assert [one["port"] for one in answer["ports"]] == [443, 22, 5432]
    assert answer["totals"] == {"items": 3, "internet": 1, "lan": 1, "loopback": 1}
    assert [one.get("port", one.get("path")) for one in ask(store, process="postgres")["ports"]] == [
        5432,
        "/run/x.sock",
    ]
    assert [one["port"] for one in ask(store, process="nginx")["ports"]] == [443]
    assert ask(store, port=9)["found"] == "none"


def test_a_tunnel_that_carries_nothing_is_told_from_one_that_carries_all(store: Store, story: Story) -> None:
    put(
        story,
        VPNConnection(type="wireguard", interface="wg0", peer="k", status="active", carries_default=True,
                      last_handshake=story.ago(1)),
        VPNConnection(type="openvpn", interface="tun0", status="down"),
    )  # fmt: skip

    answer = ask(store, view="vpn")

    assert answer["note"] == "1 of 2 active; traffic to the internet goes through wg0"
    assert answer["vpn"][0]["last_handshake"] == story.shown(1)
    assert ask(store, view="vpn", interface="tun0")["note"] == (
        "0 of 1 active; traffic to the internet goes past all of them"
    )


def test_usual_policy_rules_are_left_out_and_default_routes_come_first(store: Store, story: Story) -> None:
    put(
        story,
        RoutingRule(priority=0, family="ipv4", table="local"),
        RoutingRule(priority=100, family="ipv4", selector="from 10.0.0.0/8", table="100"),
        Route(destination="10.0.0.0/8", family="ipv4", table="main", interface="eth0"),
        Route(
            destination="default", family="ipv4", table="main", interface="eth0", gateway="10.0.0.1", metric=5
        ),
    )

    answer = ask(store, view="routes")

    assert [one.get("priority", one.get("destination")) for one in answer["routes"]] == [
        100,
        "default",
        "10.0.0.0/8",
    ]
    assert answer["default_route"] == ["ipv4: via 10.0.0.1 on eth0 metric 5"]


def test_name_servers_and_the_external_address(store: Store, story: Story) -> None:
    put(
        story,
        DNSServer(ip="8.8.8.8", provider="Google", source="resolv.conf", position=1),
        DNSServer(ip="1.1.1.1", provider="Cloudflare", source="resolv.conf", position=0),
        ExternalAddress(family="ipv4", ip="198.51.100.7", source="dns", checked_at=story.ago(3)),
    )

    assert [one["provider"] for one in ask(store, view="dns")["dns"]] == ["Cloudflare", "Google"]
    assert ask(store, view="external_ip")["external"] == [
        {"family": "ipv4", "ip": "198.51.100.7", "source": "dns", "checked_at": story.shown(3)}
    ]


def test_an_address_that_could_not_be_told_says_why(store: Store, story: Story) -> None:
    put(story, ExternalAddress(family="ipv4", why="offline: no default route"))

    answer = ask(store, view="external_ip")

    assert (answer["found"], answer["external"][0]["why"]) == ("cannot_tell", "offline: no default route")


def test_the_summary_holds_what_is_up_and_what_is_reached(store: Store, story: Story) -> None:
    put(
        story,
        NetworkInterface(name="lo", kind="loopback", state="UP"),
        NetworkInterface(name="eth0", kind="ethernet", state="UP", networks=["10.0.0.2/24"]),
        NetworkInterface(name="eth1", kind="ethernet", state="DOWN"),
        NetworkInterface(name="eth0", namespace="box", kind="veth", state="UP"),
        NetworkEndpoint(protocol="tcp", address="::", port=443, exposure="internet"),
        NetworkEndpoint(protocol="tcp", address="::1", port=6379, exposure="loopback"),
    )

    answer = ask(store)

    assert [one["name"] for one in answer["interfaces"]] == ["eth0"]
    assert [one["port"] for one in answer["ports"]] == [443]
    assert answer["totals"] == {"interfaces": 2, "ports": 2, "ports_internet": 1, "ports_loopback": 1}


def test_nothing_is_told_from_not_looked(store: Store, tmp_path: Path) -> None:
    assert ask(store, view="interfaces")["found"] == "cannot_tell"
    assert ask(store)["found"] == "cannot_tell"


def test_a_time_belongs_to_what_is_measured(store: Store, story: Story) -> None:
    with pytest.raises(InvalidRequest, match="what_changed has the past"):
        ask(store, view="routes", since="1d")
