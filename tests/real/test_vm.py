"""Interfaces and tunnels of every kind on a kernel that has them, as `ip`, `wg` and strongSwan say it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.real.clients import FULL
from tests.rigs import ip_words, vm

pytestmark = [
    pytest.mark.real,
    pytest.mark.soak,
    pytest.mark.skipif(not FULL, reason="boots a machine under emulation, two minutes: make soak runs it"),
]
KINDS = {
    *("bond", "bridge", "dummy", "erspan", "geneve", "gre", "gretap", "ifb", "ip6tnl", "ipvlan", "loopback"),
    *("macsec", "macvlan", "macvtap", "nlmon", "sit", "tap", "team", "tun", "veth", "vlan", "vrf", "vti"),
    *("vxlan", "wireguard", "xfrm"),
}


@pytest.fixture(scope="module")
def told() -> Any:
    """What the scene tells of the machine, and what the machine's own programs do."""
    return vm.told_by("tests.rigs.vm_scene")


def nodes(told: Any, label: str, namespace: str) -> list[dict[str, Any]]:
    seen = told["network"]["seen"]["nodes"]
    return [one for one in seen if one["label"] == label and (one["namespace"] or "") == namespace]


def tunnels(seen: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    assert seen["unobserved"] == {}
    here = [node for node in seen["nodes"] if node["namespace"] is None]
    return {node["peer"]: node for node in here if node["type"] == kind}


@pytest.mark.parametrize("namespace", ["", "far"])
def test_interfaces_of_every_kind_are_those_of_ip(told: Any, namespace: str) -> None:
    wanted = ip_words.interfaces(told["network"]["told"][namespace]["addresses"])
    seen = nodes(told, "NetworkInterface", namespace)

    assert {one["name"]: ip_words.values(one, ip_words.INTERFACE) for one in seen} == wanted
    assert told["network"]["refused"] == []
    assert told["network"]["seen"]["unobserved"] == {}


def test_no_kind_was_left_out(told: Any) -> None:
    seen = {one["name"]: one for one in nodes(told, "NetworkInterface", "")}

    assert {one["kind"] for one in seen.values()} == KINDS
    assert (seen["service"]["vlan"], seen["service"]["parent"]) == (100, "trunk")
    assert (seen["customer"]["vlan"], seen["customer"]["parent"]) == (20, "service")
    assert {one["name"] for one in seen.values() if one["master"] == "bond0"} == {"b1", "b2"}


@pytest.mark.parametrize("namespace", ["", "far"])
def test_routes_are_those_of_ip_also_by_nexthop_objects(told: Any, namespace: str) -> None:
    wanted = set()
    for family, word in ip_words.FAMILIES.items():
        wanted |= ip_words.routes(family, told["network"]["told"][namespace][f"routes {word}"])
    found = {ip_words.values(one, ip_words.ROUTE) for one in nodes(told, "Route", namespace)}

    assert found == wanted
    assert namespace or {"10.95.0.0/16", "10.96.0.0/16", "10.97.0.0/16"} <= {one[2] for one in found}


def test_policy_rules_are_those_of_ip_with_that_of_vrfs(told: Any) -> None:
    rules = nodes(told, "RoutingRule", "")

    for family, word in ip_words.FAMILIES.items():
        wanted = [
            (one["priority"], one.get("table", "")) for one in told["network"]["told"][""][f"rules {word}"]
        ]
        assert [(one["priority"], one["table"]) for one in rules if one["family"] == family] == wanted
    assert {one["action"] for one in rules if one["priority"] == 1000} == {"lookup [l3mdev-table]"}


def test_peers_of_the_kernels_wireguard_are_what_wg_shows(told: Any) -> None:
    shown = {
        column: dict(line.split("\t", 1) for line in lines)
        for column, lines in told["wireguard"]["shown"].items()
    }
    seen = tunnels(told["wireguard"]["fresh"], "wireguard")

    assert {peer: one["peer_endpoint"] or "(none)" for peer, one in seen.items()} == shown["endpoints"]
    assert {peer: " ".join(one["allowed_ips"]) for peer, one in seen.items()} == shown["allowed-ips"]
    counts = {peer: f"{one['received_bytes']}\t{one['sent_bytes']}" for peer, one in seen.items()}
    assert counts == shown["transfer"]
    heard = {peer: one["last_handshake"] is not None for peer, one in seen.items()}
    assert heard == {peer: moment != "0" for peer, moment in shown["latest-handshakes"].items()}
    assert sorted(one["status"] for one in seen.values()) == ["active", "stale"]
    assert not [secret for secret in told["wireguard"]["secrets"] if secret in json.dumps(seen)]


def test_a_peer_of_the_kernels_wireguard_that_is_gone_is_stale(told: Any) -> None:
    fresh, stale = (tunnels(told["wireguard"][when], "wireguard") for when in ("fresh", "stale"))

    assert {one["status"] for one in stale.values()} == {"stale"}
    assert {peer: one["last_handshake"] for peer, one in stale.items()} == {
        peer: one["last_handshake"] for peer, one in fresh.items()
    }


def test_an_ipsec_tunnel_made_by_hand_is_told_with_what_went_through(told: Any) -> None:
    for when in ("alone", "seen", "ended"):
        tunnel = tunnels(told["ipsec"][when], "ipsec")["10.1.0.2"]
        assert (tunnel["status"], tunnel["allowed_ips"]) == ("active", ["10.51.0.0/24"])
        assert (tunnel["received_bytes"], tunnel["sent_bytes"]) == (168, 168)
    assert set(tunnels(told["ipsec"]["alone"], "ipsec")) == {"10.1.0.2"}
    assert told["ipsec"]["shown"]["state"].count("168(bytes)") == 4


def test_strongswans_connections_have_their_names_and_are_told_once(told: Any) -> None:
    seen = tunnels(told["ipsec"]["seen"], "ipsec")

    assert set(seen) == {"10.1.0.2", "home", "office", "asleep"}
    home = seen["home"]
    assert (home["status"], home["peer_endpoint"]) == ("active", "fd01::2")
    assert f"bytes-in={home['received_bytes']} " in told["ipsec"]["swan"]["sas"]
    assert f"remote-ts=[{' '.join(home['allowed_ips'])}]" in told["ipsec"]["swan"]["sas"]
    assert home["last_handshake"] is not None
    assert {name: seen[name]["status"] for name in ("office", "asleep")} == {
        "office": "down",
        "asleep": "down",
    }
    # the kernel has a policy of the one that waits, and knows nothing of the other
    assert "dst 10.1.0.99" in told["ipsec"]["shown"]["policy"]


def test_a_connection_of_strongswan_that_ended_is_down(told: Any) -> None:
    ended = tunnels(told["ipsec"]["ended"], "ipsec")

    assert (ended["home"]["status"], ended["home"]["allowed_ips"]) == ("down", ["10.61.0.0/24"])
