"""Tunnels between two namespaces beside what `wg` and OpenVPN say of them, and no key among what is kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rigs import cache
from tests.rigs.looking import look
from tests.rigs.networks import Side, joined, wait_for
from tests.rigs.openvpn import Certificates
from tests.rigs.wireguard import End

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def sides() -> Iterator[tuple[Side, Side]]:
    how = "as root: apt-get install wireguard-go wireguard-tools openvpn openssl"
    cache.need_programs("tunnels", "wireguard-go", "wg", "openvpn", "openssl", how=how)
    if not Path("/dev/net/tun").exists():
        cache.missing("/dev/net/tun", "as root: modprobe tun")
    with joined() as both:
        yield both


@pytest.fixture(scope="module")
def wireguard(sides: tuple[Side, Side]) -> tuple[list[str], list[str]]:
    """The interfaces of a WireGuard tunnel, and all of its secrets."""
    one, other = End(sides[0], 1), End(sides[1], 2)
    shared = sides[0].run("wg", "genpsk").strip()
    for here, there in ((one, other), (other, one)):
        here.start(there, shared, "10.9.0.0/24,fd00::/64")
    wait_for(one.shook_hands)
    return [one.name, other.name], [one.secret, other.secret, shared]


def tunnels(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Those of the namespace itself."""
    return [node for node in found["nodes"] if node["type"] == kind and node["namespace"] is None]


def shown(side: Side, interface: str, column: str) -> list[str]:
    [line] = side.run("wg", "show", interface, column).strip().split("\n")
    return line.split("\t")


def test_a_wireguard_peer_is_what_wg_shows_without_any_key(
    sides: tuple[Side, Side], wireguard: tuple[list[str], list[str]]
) -> None:
    here, name = sides[0], wireguard[0][0]

    found = look(here.enter, "vpn")

    assert found["unobserved"] == {}
    [tunnel] = tunnels(found, "wireguard")  # the other end's socket is seen, and is another namespace's
    assert tunnel["interface"] == name
    assert [tunnel["peer"], tunnel["peer_endpoint"]] == shown(here, name, "endpoints")
    assert [tunnel["peer"], " ".join(tunnel["allowed_ips"])] == shown(here, name, "allowed-ips")
    assert tunnel["status"] == "active"
    assert tunnel["last_handshake"] is not None
    assert 0 < tunnel["received_bytes"] <= int(shown(here, name, "transfer")[1])
    assert 0 < tunnel["sent_bytes"] <= int(shown(here, name, "transfer")[2])
    assert tunnels(found, "tun") == []
    path = f"VPNConnection//wireguard/{name}/"
    assert [end for start, kind, end in found["edges"] if start.startswith(path) and kind == "OVER"] == [
        f"NetworkInterface//{name}"
    ]
    # no key among what is kept
    kept = json.dumps(found)
    assert [secret for secret in wireguard[1] if secret[:-1] in kept] == []


def test_a_tunnel_of_another_namespace_is_told_as_that_ones(
    sides: tuple[Side, Side], wireguard: tuple[list[str], list[str]]
) -> None:
    here, there = sides
    there.run("ip", "tuntap", "add", "dev", "mystery", "mode", "tun")
    there.run("ip", "route", "add", "default", "dev", wireguard[0][1])
    try:
        found = look(here.enter, "vpn")
    finally:
        there.run("ip", "link", "delete", "mystery")
        there.run("ip", "route", "del", "default")

    [tunnel, device] = [node for node in found["nodes"] if node["namespace"] == there.name]
    assert (tunnel["type"], tunnel["interface"]) == ("wireguard", wireguard[0][1])
    assert [tunnel["peer"], tunnel["peer_endpoint"]] == shown(there, wireguard[0][1], "endpoints")
    # its default route leads there, but not all may go to the peer
    assert (tunnel["status"], tunnel["carries_default"]) == ("active", False)
    assert (device["type"], device["interface"], device["status"]) == ("tun", "mystery", "down")
    kept = json.dumps(found)
    assert [secret for secret in wireguard[1] if secret[:-1] in kept] == []


def test_an_interface_of_wireguard_is_told_where_nothing_can_ask_for_its_peers(
    sides: tuple[Side, Side], wireguard: tuple[list[str], list[str]]
) -> None:
    here, there = sides

    found = look(here.enter, "vpn", programs=["/nowhere"])

    places = {None: wireguard[0][0], there.name: wireguard[0][1]}
    told = {node["namespace"]: node for node in found["nodes"] if node["type"] == "wireguard"}
    assert {place: node["interface"] for place, node in told.items()} == places
    assert {(node["status"], node["peer"]) for node in told.values()} == {("unknown", None)}
    assert {"vpn:wireguard", f"vpn:netns/{there.name}/wireguard"} <= found["unobserved"].keys()


CARRIERS = "from watchman_mcp.machine.ways import carriers; print(*carriers())"


@pytest.mark.parametrize(
    ("ways", "carries"),
    [
        (["default dev {wg}"], True),
        (["0.0.0.0/1 dev {wg}", "128.0.0.0/1 dev {wg}"], True),
        (["0.0.0.0/1 dev {wg}"], False),
        (["default via 192.0.2.2 dev wire", "default dev {wg} metric 500"], False),
        (["default via 192.0.2.2 dev wire", "default dev {wg} table 51820"], True),
        (["default via 192.0.2.2 dev wire"], False),
        ([], False),
    ],
)
def test_the_tunnel_that_carries_the_internet_is_the_one_that_the_kernel_takes(
    sides: tuple[Side, Side], wireguard: tuple[list[str], list[str]], ways: list[str], carries: bool
) -> None:
    here, name = sides[0], wireguard[0][0]
    ruled = any("table" in way for way in ways)
    for way in ways:
        here.run("ip", "route", "add", *way.format(wg=name).split())
    if ruled:  # as wg-quick does it
        here.run("ip", "rule", "add", "not", "fwmark", "51820", "table", "51820")
    try:
        told = here.run(sys.executable, "-c", CARRIERS)
    finally:
        for way in ways:
            here.run("ip", "route", "del", *way.format(wg=name).split())
        if ruled:
            here.run("ip", "rule", "del", "table", "51820")

    assert (name in told.split()) is carries


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def test_the_ends_of_openvpn_are_told_of_status_files_of_every_version(
    sides: tuple[Side, Side], certificates: Certificates
) -> None:
    here, there = sides
    for version in (1, 2, 3):
        certificates.serve(
            here, f"server{version}", version, f"status server{version}.status 1\nstatus-version {version}\n"
        )
        certificates.connect(there, f"client{version}", here, version, f"status client{version}.status 1\n")
    for version in (1, 2, 3):
        place = here.folder / f"server{version}.status"
        wait_for(lambda place=place: place.exists() and "rig-client" in place.read_text(), 30, "a client")
        place = there.folder / f"client{version}.status"
        wait_for(lambda place=place: place.exists() and "END" in place.read_text(), 30, "a status")

    served, connected = look(here.enter, "vpn"), look(there.enter, "vpn")

    assert served["unobserved"] == connected["unobserved"] == {}
    assert {
        (t["interface"], t["peer"], t["status"], t["allowed_ips"][0]) for t in tunnels(served, "openvpn")
    } == {(f"ov{version}", "rig-client", "active", f"10.{version}.0.2") for version in (1, 2, 3)}
    assert all(t["peer_endpoint"].startswith(f"{there.address}:") for t in tunnels(served, "openvpn"))
    since = [t["connected_at"] for t in tunnels(served, "openvpn")]
    assert len(set(since)) <= 3
    assert all(since)
    held = {t["peer"]: t["interface"] for t in tunnels(connected, "openvpn")}
    assert held.keys() == {f"{here.address}:119{version}" for version in (1, 2, 3)}
    shown = there.run("ip", "-j", "link", "show", "type", "tun")
    assert set(held.values()) <= {link["ifname"] for link in json.loads(shown)}
    assert {t["status"] for t in tunnels(connected, "openvpn")} == {"active"}
    assert "PRIVATE" not in json.dumps([served, connected])


def test_a_tun_device_of_an_unknown_program_is_told_and_one_of_a_virtual_machine_is_not(
    sides: tuple[Side, Side],
) -> None:
    here = sides[0]
    here.run("ip", "tuntap", "add", "dev", "mystery", "mode", "tun")
    here.run("ip", "tuntap", "add", "dev", "guest", "mode", "tap")
    here.run("ip", "link", "add", "br0", "type", "bridge")
    here.run("ip", "link", "set", "guest", "master", "br0")
    try:
        found = tunnels(look(here.enter, "vpn"), "tun")
    finally:
        for name in ("mystery", "guest", "br0"):
            here.run("ip", "link", "delete", name)

    assert [(tunnel["interface"], tunnel["status"]) for tunnel in found] == [("mystery", "down")]


def test_policies_of_ipsec_without_associations_are_tunnels_that_are_down(sides: tuple[Side, Side]) -> None:
    here = sides[1]
    here.run(
        *("ip", "xfrm", "policy", "add", "src", "10.1.0.0/24", "dst", "10.2.0.0/24", "dir", "out"),
        *("tmpl", "src", "192.0.2.2", "dst", "192.0.2.1", "proto", "esp", "reqid", "1", "mode", "tunnel"),
    )
    try:
        found = tunnels(look(here.enter, "vpn"), "ipsec")
    finally:
        here.run("ip", "xfrm", "policy", "flush")

    assert [(one["peer"], one["status"], one["allowed_ips"]) for one in found] == [
        ("192.0.2.1", "down", ["10.2.0.0/24"])
    ]


def test_tunnels_are_not_looked_for_where_the_settings_say_so(sides: tuple[Side, Side]) -> None:
    found = look(sides[0].enter, "vpn", settings={"network": {"track_vpn": False}})

    assert found["raises"] == "Absent: [network] track_vpn is false"


def test_what_another_user_may_not_see_is_said_and_the_rest_is_told(
    sides: tuple[Side, Side], wireguard: tuple[list[str], list[str]]
) -> None:
    here = sides[0]
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
    here.run("ip", "tuntap", "add", "dev", "mystery", "mode", "tun")
    try:
        found = look([*here.enter, *nobody], "vpn")
    finally:
        here.run("ip", "link", "delete", "mystery")

    assert "may not be read" in found["unobserved"]["vpn:wireguard"]
    assert "may not be" in found["unobserved"]["vpn:ipsec"]
    [interface] = tunnels(found, "wireguard")
    assert (interface["interface"], interface["peer"], interface["status"]) == (
        wireguard[0][0],
        None,
        "unknown",
    )
    # WireGuard's own interface is not taken for another program's
    assert "mystery" in {tunnel["interface"] for tunnel in tunnels(found, "tun")}
    assert wireguard[0][0] not in {tunnel["interface"] for tunnel in tunnels(found, "tun")}
