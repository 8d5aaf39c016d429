"""What events about name servers and tunnels are called."""

from typing import Any

import pytest

from watchman_mcp.schema.network import DNSServer, VPNConnection


def tunnel(status: str, **more: Any) -> dict[str, Any]:
    given = {"interface": "wg0", "peer": "key=", **more}
    return dict(VPNConnection(type="wireguard", status=status, **given).__dict__)


@pytest.mark.parametrize(
    ("before", "after", "event"),
    [
        (None, "active", "vpn_connected"),
        (None, "stale", "vpn_appeared"),
        ("stale", "active", "vpn_connected"),
        ("active", "stale", "vpn_disconnected"),
        ("active", "down", "vpn_disconnected"),
        ("active", None, "vpn_disconnected"),
        ("down", None, "vpn_vanished"),
        ("stale", "down", "vpn_changed"),
    ],
)
def test_a_tunnel_connects_when_it_becomes_active(before: str | None, after: str | None, event: str) -> None:
    sides = [None if status is None else tunnel(status) for status in (before, after)]

    assert VPNConnection.event_type(*sides) == event


def test_a_tunnel_is_called_by_its_interface_and_its_peer() -> None:
    assert VPNConnection.event_values(None, tunnel("active")) == {"subject": "wg0 key="}
    assert VPNConnection.event_values(tunnel("down", peer=None), None) == {"subject": "wg0"}
    assert VPNConnection.event_values(None, tunnel("active", interface=None)) == {"subject": "key="}


def test_a_name_server_is_called_by_its_address() -> None:
    server = DNSServer(ip="192.0.2.1", source="resolv.conf").__dict__

    assert DNSServer.event_values(None, server) == {"subject": "192.0.2.1"}
    assert DNSServer.event_values(server | {"port": 5353}, None) == {"subject": "192.0.2.1#5353"}
