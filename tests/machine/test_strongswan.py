"""What strongSwan says of its connections, and what of the kernel's tunnels is left beside it."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from watchman_mcp.errors import Broken
from watchman_mcp.machine.tunnels import Tunnel, strongswan, vici

SAMPLES = Path(__file__).parent / "samples"
SAMPLE: dict[str, list[dict[str, Any]]] = json.loads((SAMPLES / "strongswan.json").read_text())
"""What a strongSwan 5.9.8 told of a connection that is up, one that waits, and one that is only known."""
CONNECTIONS, ASSOCIATIONS = SAMPLE["list-conns"], SAMPLE["list-sas"]


def packed(values: dict[str, Any]) -> bytes:
    """A message of these sections, lists and values."""
    found = b""
    for name, value in values.items():
        head = bytes([len(name.encode())]) + name.encode()
        if isinstance(value, dict):
            found += b"\x01" + head + packed(value) + b"\x02"
        elif isinstance(value, list):
            found += b"\x04" + head + b"".join(b"\x05" + _long(one) for one in value) + b"\x06"
        else:
            found += b"\x03" + head + _long(value)
    return found


def _long(text: str) -> bytes:
    return len(text.encode()).to_bytes(2, "big") + text.encode()


def test_a_message_is_read_as_it_was_written() -> None:
    odd = {"a": {"b": ["x=y {z}", ""], "c": {}, "": "\n"}, "ä" * 100: "}"}

    assert vici.read_message(packed(odd)) == odd
    for told in CONNECTIONS + ASSOCIATIONS:
        assert vici.read_message(packed(told)) == told


@pytest.mark.parametrize(
    "content",
    [
        b"\x01\x01a",
        b"\x02",
        b"\x03\x01a\x00\x05b",
        b"\x05\x00\x01a",
        b"\x04\x01a\x01\x01b\x02\x06",
        b"\x04\x01a",
        b"\x09",
        b"\x01\x00" * 1000 + b"\x02" * 1000,
    ],
)
def test_another_shape_is_broken(content: bytes) -> None:
    with pytest.raises(Broken):
        vici.read_message(content)


def test_a_connection_is_told_by_its_name_whether_it_is_up_or_not() -> None:
    home, office, asleep = strongswan.tunnels_of(CONNECTIONS, ASSOCIATIONS)

    assert home[1:5] == ("active", None, "home", "fd01::2")
    assert (home.allowed, home.carries, home.received, home.sent) == (("10.61.0.0/24",), False, 168, 168)
    assert home.last_sign is not None
    assert (office.status, office.peer, office.endpoint) == ("down", "office", "10.1.0.99")
    assert (asleep.status, asleep.endpoint, asleep.allowed) == ("down", "vpn.example", ("10.71.0.0/24",))


@pytest.mark.parametrize("anyone", ["%any", "10.0.0.0/8", "10.0.0.1-10.0.0.9", "fd01::1-fd01::9"])
def test_peers_of_one_connection_are_told_apart_by_who_they_are(anyone: str) -> None:
    server = {"road": {"remote_addrs": [anyone], "children": {"net": {"remote-ts": ["dynamic"]}}}}
    child = {"state": "INSTALLED", "remote-ts": ["10.3.0.1/32"], "bytes-in": "1", "bytes-out": "2"}
    peers = [
        {"road": {"remote-host": "192.0.2.1", "remote-id": who, "child-sas": {"net-1": child}}}
        for who in ("anna", "otto", "anna")
    ]

    found = strongswan.tunnels_of([server], peers)

    assert [(one.peer, one.received, one.sent) for one in found] == [("road anna", 2, 4), ("road otto", 1, 2)]
    assert strongswan.tunnels_of([server], []) == []


def test_an_association_without_a_child_that_works_is_down() -> None:
    for children in ({}, {"net-1": {"state": "CREATED"}}, {"net-1": {"state": "INSTALLING"}}):
        told = [{"home": {"state": "ESTABLISHED", "remote-host": "fd01::2", "child-sas": children}}]
        [home] = strongswan.tunnels_of(CONNECTIONS[:1], told)
        assert (home.status, home.peer, home.received) == ("down", "home", None)


@pytest.mark.parametrize(
    ("told", "carries"), [({}, True), ({"mark-out": "64"}, None), ({"if-id-out": "2a"}, None)]
)
def test_a_child_for_an_interface_of_its_own_carries_what_routes_send_there(
    told: dict[str, str], carries: bool | None
) -> None:
    associations = json.loads(json.dumps(ASSOCIATIONS))
    child = associations[0]["home"]["child-sas"]["net-2"]
    child |= {"remote-ts": ["0.0.0.0/0"], **told}

    (tunnel,) = strongswan.tunnels_of([], associations)
    (both,) = strongswan.tunnels_of([], [*ASSOCIATIONS, *associations])

    assert (tunnel.carries, both.carries) == (carries, carries)


def test_tunnels_of_the_kernel_stay_where_strongswan_does_not_keep_them() -> None:
    named = strongswan.tunnels_of(CONNECTIONS, ASSOCIATIONS)
    home = Tunnel("ipsec", "active", peer="fd01::2", endpoint="fd01:0::2", allowed=("10.61.0.0/24",))
    waiting = Tunnel("ipsec", "down", peer="192.0.2.7", endpoint="192.0.2.7", allowed=("10.71.0.0/24",))
    other = Tunnel("ipsec", "active", peer="10.1.0.2", endpoint="10.1.0.2", allowed=("10.51.0.0/24",))

    assert strongswan.without([home, waiting, other], named) == [other]
    assert strongswan.without([home, waiting, other], []) == [home, waiting, other]


def answering(path: Path, *packets: bytes) -> threading.Thread:
    """Something that says these packets to whoever comes, whatever is asked, and then hangs up."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def answer() -> None:
        with listening, listening.accept()[0] as peer:
            peer.sendall(b"".join(len(one).to_bytes(4, "big") + one for one in packets))
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(4096):
                pass

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    return thread


def event(name: str, told: dict[str, Any]) -> bytes:
    return bytes([7, len(name)]) + name.encode() + packed(told)


def test_all_that_it_tells_is_asked_for(tmp_path: Path) -> None:
    conns, sas = (
        [event("list-conn", one) for one in CONNECTIONS],
        [event("list-sa", one) for one in ASSOCIATIONS],
    )
    thread = answering(tmp_path / "vici", b"\x05", *conns, b"\x01", b"\x05", *sas, b"\x01")

    found = strongswan.ask_strongswan(str(tmp_path / "vici"))
    thread.join(5)

    assert found is not None
    assert [one.peer for one in found] == ["home", "office", "asleep"]


@pytest.mark.parametrize(
    "packets",
    [(), (b"\x06",), (b"\x05", b"\x02"), (b"\x05",), (b"\x05", b"\x07\x03abc"), (b"\x05", b"")],
)
def test_what_says_something_else_is_broken(tmp_path: Path, packets: tuple[bytes, ...]) -> None:
    answering(tmp_path / "vici", *packets)

    with pytest.raises(Broken):
        strongswan.ask_strongswan(str(tmp_path / "vici"))


def test_where_nothing_listens_there_are_no_connections(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "vici"))
    left.close()

    assert strongswan.ask_strongswan(str(tmp_path / "vici")) == []
    assert strongswan.ask_strongswan(str(tmp_path / "none")) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(Broken):
        strongswan.ask_strongswan(str(tmp_path / "file"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_user_who_may_not_ask_gets_no_connections_and_no_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "vici"))
        listening.listen()
        os.seteuid(65534)
        try:
            found = strongswan.ask_strongswan(str(tmp_path / "vici"))
        finally:
            os.seteuid(0)

    assert found is None
