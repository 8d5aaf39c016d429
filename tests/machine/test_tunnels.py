"""What the programs that keep tunnels say of them."""

from __future__ import annotations

import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from watchman_mcp.errors import Absent, Broken, Denied
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.tunnels import Link, Tunnel, ipsec, moment, openvpn, status_of, tailscale, wireguard
from watchman_mcp.machine.tunnels.openvpn_management import State, Talk, read_state
from watchman_mcp.machine.tunnels.openvpn_status import read_status

KEY, OTHER = "a" * 43 + "=", "b" * 43 + "="
SAMPLES = Path(__file__).parent / "samples"

VERSION_1 = """OpenVPN CLIENT LIST
Updated,2026-11-28 16:51:50
Common Name,Real Address,Bytes Received,Bytes Sent,Connected Since
alice,192.0.2.2:40422,1608,1595,2026-11-28 16:51:47
UNDEF,192.0.2.9:1,1,1,2026-11-28 16:51:47
bob,[2001:db8::2]:40423,7,8,Sat Nov 28 16:51:47 2026
ROUTING TABLE
Virtual Address,Common Name,Real Address,Last Ref
10.8.0.2,alice,192.0.2.2:40422,2026-11-28 16:51:49
192.168.4.0/24,alice,192.0.2.2:40422,2026-11-28 16:51:48
10.8.0.3C,bob,[2001:db8::2]:40423,2026-11-28 16:51:48
GLOBAL STATS
Max bcast/mcast queue length,0
END
"""
VERSION_2 = """TITLE,OpenVPN 2.6.14 x86_64-pc-linux-gnu [SSL (OpenSSL)]
TIME,2026-11-28 16:51:50,1795884710
HEADER,CLIENT_LIST,Common Name,Real Address,Virtual Address,Virtual IPv6 Address,Bytes Received,Bytes Sent,\
Connected Since,Connected Since (time_t),Username,Client ID,Peer ID,Data Channel Cipher
CLIENT_LIST,alice,192.0.2.2:40422,10.8.0.2,,1608,1595,2026-11-28 16:51:47,1795884707,UNDEF,0,0,AES-256-GCM
CLIENT_LIST,UNDEF,192.0.2.9:1,,,1,1,2026-11-28 16:51:47,1795884707,UNDEF,0,0,
CLIENT_LIST,bob,[2001:db8::2]:40423,10.8.0.3,,7,8,2026-11-28 16:51:47,1795884707,b,1,1,AES-256-GCM
HEADER,ROUTING_TABLE,Virtual Address,Common Name,Real Address,Last Ref,Last Ref (time_t)
ROUTING_TABLE,10.8.0.2,alice,192.0.2.2:40422,2026-11-28 16:51:49,1795884709
ROUTING_TABLE,192.168.4.0/24,alice,192.0.2.2:40422,2026-11-28 16:51:48,1795884708
ROUTING_TABLE,10.8.0.3C,bob,[2001:db8::2]:40423,2026-11-28 16:51:48,1795884708
GLOBAL_STATS,Max bcast/mcast queue length,0
GLOBAL_STATS,dco_enabled,0
END
"""
MANAGEMENT_STATE = (
    b"1795884706,RECONNECTING,ping-restart,,,,,\r\n"
    b"1795884707,CONNECTED,SUCCESS,10.8.0.2,192.0.2.1,1194,,\r\nEND\r\n"
)


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("utc")
def test_the_three_versions_of_a_status_file_say_the_same() -> None:
    found = [read_status(text) for text in (VERSION_1, VERSION_2, VERSION_2.replace(",", "\t"))]

    assert found[0] == found[1] == found[2]
    assert found[0].server
    assert found[0].complete
    assert found[0].unreadable == 0
    alice, bob = found[0].clients
    assert (alice.name, alice.address, alice.received, alice.sent) == ("alice", "192.0.2.2:40422", 1608, 1595)
    assert (alice.since, alice.seen, list(alice.networks)) == (
        1795884707,
        1795884709,
        ["10.8.0.2", "192.168.4.0/24"],
    )
    assert (bob.address, list(bob.networks)) == ("[2001:db8::2]:40423", ["10.8.0.3"])


@pytest.mark.usefixtures("utc")
def test_a_client_whose_name_holds_a_comma_is_told_where_the_numbers_of_its_line_tell_which() -> None:
    plain, first = read_status(VERSION_1), read_status(VERSION_1.replace("bob,", "Roe, Bob,"))
    user = read_status(VERSION_2.replace(",b,1,1", ",Roe, b,1,1"))
    second = read_status(VERSION_2.replace(",bob,", ",Roe, Bob,"))

    assert user == plain
    assert [client.name for client in first.clients] == ["alice", "Roe, Bob"]
    assert first == second
    assert list(first.clients[1].networks) == ["10.8.0.3"]


def test_a_name_that_is_made_to_look_like_the_rest_of_its_line_is_counted_not_misread() -> None:
    forged = "bob,192.0.2.9:1,10.8.0.9,,7,7,x,1,bob"
    line = next(line for line in VERSION_2.split("\n") if line.startswith("CLIENT_LIST,bob"))
    status = read_status(VERSION_2.replace(line, line.replace(",b,1,1", f",{'b,' * 9}b,1,1"), 1))

    assert [client.name for client in status.clients] == ["alice"]
    assert status.unreadable == 1
    status = read_status(VERSION_2.replace("CLIENT_LIST,bob,", f"CLIENT_LIST,{forged},", 1))
    assert [client.name for client in status.clients] == ["alice"]
    assert status.unreadable == 1


def test_a_client_without_a_certificate_is_told_by_its_user_or_its_address_once_it_is_let_in() -> None:
    by_user = VERSION_2.replace(",bob,", ",UNDEF,")
    without = read_status(VERSION_1.replace("bob,", "UNDEF,"))
    outside = read_status(VERSION_1.replace("bob,", "UNDEF,").partition("ROUTING TABLE")[0])

    assert [client.name for client in read_status(by_user).clients] == ["alice", "b"]
    assert [client.name for client in without.clients] == ["alice", "[2001:db8::2]:40423"]
    assert [client.name for client in outside.clients] == ["alice"]


def test_an_address_of_openvpn_2_7_is_told_without_its_protocol_and_a_card_is_no_network() -> None:
    text = VERSION_2.replace("192.0.2.2:", "tcp4-server:192.0.2.2:").replace("[2001", "udp6:[2001")
    status = read_status(text.replace("192.168.4.0/24", "0a:00:00:00:00:1f@0"))

    assert [client.address for client in status.clients] == ["192.0.2.2:40422", "[2001:db8::2]:40423"]
    assert [list(client.networks) for client in status.clients] == [["10.8.0.2"], ["10.8.0.3"]]


def test_a_busy_server_is_read_within_seconds() -> None:
    clients = "".join(f"CLIENT_LIST,{n},192.0.2.1:{n}\n" for n in range(30_000))
    routes = "".join(f"ROUTING_TABLE,{n},192.0.2.1:{n},n{n}\n" for n in range(30_000))
    begun = time.process_time()

    status = read_status(
        f"HEADER,CLIENT_LIST,Common Name,Real Address\n{clients}"
        f"HEADER,ROUTING_TABLE,Common Name,Real Address,Virtual Address\n{routes}END\n"
    )

    assert list(status.clients[-1].networks) == ["n29999"]
    assert time.process_time() - begun < 5


def test_a_status_file_cut_short_is_not_complete() -> None:
    assert not read_status(VERSION_2[:300]).complete


def test_the_status_file_of_a_client_has_its_bytes() -> None:
    text = "OpenVPN STATISTICS\nUpdated,2026-11-28 16:51:50\nTUN/TAP read bytes,48\nTUN/TAP write bytes,0\n"
    status = read_status(
        text + "TCP/UDP read bytes,1661\nTCP/UDP write bytes,1622\nAuth read bytes,48\nEND\n"
    )

    assert (status.server, status.received, status.sent, status.complete) == (False, 1661, 1622, True)
    assert status.unreadable == 0


def test_a_configuration_is_read_without_the_keys_within_it() -> None:
    text = """
# status commented
remote a.example 1194 udp # first
remote b.example 1194
  dev tun0 ; comment
status "/var/log/open vpn/x.status" 10
cd '/etc/open vpn'
--server 10.8.0.0 255.255.255.0
<tls-crypt>
dev secret
</tls-crypt>
auth-user-pass secret
"""

    found = openvpn.read_configuration(text)

    assert found == {
        "remote": ["a.example", "1194", "udp"],
        "remote, others": ["remote"],
        "dev": ["tun0"],
        "status": ["/var/log/open vpn/x.status", "10"],
        "cd": ["/etc/open vpn"],
        "server": ["10.8.0.0", "255.255.255.0"],
    }
    assert "secret" not in str(found)


def test_the_first_of_several_connections_is_the_remote() -> None:
    text = "client\n<connection>\nremote a.example 1194 udp\n</connection>\n<connection>\n"

    found = openvpn.read_configuration(
        text + "remote b.example 443 tcp\n</connection>\n<ca>\n<connection>\n"
        "dev secret\n</connection>\n</ca>\ndev tun\n"
    )

    assert found == {"remote": ["a.example", "1194", "udp"], "remote, others": ["remote"], "dev": ["tun"]}


def test_which_of_several_remotes_is_connected_is_not_guessed(tmp_path: Path) -> None:
    line = "--remote a.example 1194 --remote b.example 443 tcp --remote c.example --dev tun0"
    process = openvpn.Process(7, openvpn.read_words(line.split()), "/", "tun0")

    (tunnel,), _ = openvpn.tunnels_of(Files(tmp_path), process, [Link("tun0", "tun", True, True, False)])

    assert (tunnel.peer, tunnel.endpoint) == ("a.example:1194 or 2 more", None)


def test_a_command_line_is_read_without_what_else_it_says() -> None:
    line = "--cd /etc/openvpn --config x.conf --auth-user-pass secret --status /run/x.status 10 --daemon"

    found = openvpn.read_words(line.split())

    assert found == {"cd": ["/etc/openvpn"], "config": ["x.conf"], "status": ["/run/x.status", "10"]}
    assert openvpn.read_words(["/etc/x.conf"]) == {"config": ["/etc/x.conf"]}


def served(tmp_path: Path, status: str, config: str = "server 10.8.0.0 255.255.255.0\n") -> Any:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/x.conf").write_text(config + "status x.status 10\n")
    (tmp_path / "etc/x.status").write_text(status)
    process = openvpn.Process(7, {"cd": ["/etc"], "config": ["x.conf"]}, "/", "tun0")
    return openvpn.tunnels_of(Files(tmp_path), process, [Link("tun0", "tun", True, True, False)])


def test_the_status_file_of_a_configuration_counts_where_it_is_read_after_another_one(tmp_path: Path) -> None:
    served(tmp_path, VERSION_2)
    line = "--status /run/x.status 10 --cd /etc --config x.conf --remote a.example --remote b.example"
    link = Link("tun0", "tun", True, True, False)

    def told(words: list[str]) -> list[str | None]:
        process = openvpn.Process(7, openvpn.read_words(words), "/", "tun0")
        return [tunnel.peer for tunnel in openvpn.tunnels_of(Files(tmp_path), process, [link])[0]]

    assert told(line.split()) == ["alice", "bob"]
    assert told([*line.split(), "--status", "/run/x.status"]) == []
    assert openvpn.read_words(line.split())["remote"] == ["a.example"]


def test_each_client_of_a_server_is_a_tunnel_and_two_of_one_name_are_two(tmp_path: Path) -> None:
    tunnels, lost = served(tmp_path, VERSION_2.replace("bob", "alice"))

    assert lost == []
    assert [(t.peer, t.status, t.interface) for t in tunnels] == [
        ("alice 192.0.2.2:40422", "active", "tun0"),
        ("alice [2001:db8::2]:40423", "active", "tun0"),
    ]


def test_clients_in_a_status_file_that_is_no_longer_written_are_stale(tmp_path: Path) -> None:
    served(tmp_path, VERSION_2)
    os.utime(tmp_path / "etc/x.status", (1, 1))
    process = openvpn.Process(7, {"cd": ["/etc"], "config": ["x.conf"]}, "/", "tun0")

    tunnels, _ = openvpn.tunnels_of(Files(tmp_path), process, [Link("tun0", "tun", True, True, False)])

    assert {tunnel.status for tunnel in tunnels} == {"stale"}


def test_a_status_file_that_is_being_written_says_that_clients_are_lost(tmp_path: Path) -> None:
    cut = VERSION_2.partition("CLIENT_LIST,bob")[0]
    tunnels, lost = served(tmp_path, cut)
    (tmp_path / "other").mkdir()
    nothing, lost_too = served(tmp_path / "other", "")

    assert [tunnel.peer for tunnel in tunnels] == ["alice"]
    assert nothing == []
    assert lost == lost_too == ["the end of /etc/x.status, which is not written yet"]


def test_a_client_that_came_back_from_the_same_place_is_one_tunnel(tmp_path: Path) -> None:
    line = next(line for line in VERSION_2.split("\n") if line.startswith("CLIENT_LIST,bob"))
    tunnels, _ = served(
        tmp_path, VERSION_2.replace(line, f"{line}\n{line.replace('1795884707,b', '1795884709,b')}")
    )

    assert [(t.peer, t.connected_at) for t in tunnels] == [
        ("alice", moment(1795884707)),
        ("bob", moment(1795884709)),
    ]


def test_two_clients_of_one_name_behind_one_router_have_their_own_networks(tmp_path: Path) -> None:
    text = VERSION_2.replace("bob", "alice").replace("[2001:db8::2]:40423", "192.0.2.2")
    tunnels, _ = served(tmp_path, text.replace("192.0.2.2:40422", "192.0.2.2"))

    assert [(t.peer, t.allowed) for t in tunnels] == [
        ("alice 192.0.2.2 10.8.0.2", ("10.8.0.2", "192.168.4.0/24")),
        ("alice 192.0.2.2 10.8.0.3", ("10.8.0.3",)),
    ]


def test_a_server_without_a_status_file_says_so_and_a_client_without_one_is_a_tunnel(tmp_path: Path) -> None:
    link = Link("tun0", "tun", True, True, False)
    server = openvpn.Process(7, {"server": ["10.8.0.0"], "dev": ["tun0"]}, "/", "tun0")
    client = openvpn.Process(8, {"remote": ["vpn.example", "1194"]}, "/", "tun0")
    waiting = openvpn.Process(9, {"remote": ["vpn.example"], "dev": ["tun"]}, "/", None)

    assert openvpn.tunnels_of(Files(tmp_path), server, [link]) == (
        [],
        ["its clients of tun0: it writes no status file and it has no management socket"],
    )
    told = Tunnel("openvpn", "active", "tun0", "vpn.example:1194", "vpn.example:1194")
    assert openvpn.tunnels_of(Files(tmp_path), client, [link]) == ([told], [])
    assert openvpn.tunnels_of(Files(tmp_path), waiting, [link])[0][0].status == "down"


def test_an_interface_of_the_kernels_own_openvpn_is_that_of_a_process_that_holds_none(tmp_path: Path) -> None:
    links = [Link(f"tun{n}", kind, True, True, False) for n, kind in enumerate(("ovpn", "ovpn-dco", "tun"))]
    waiting = openvpn.Process(9, {"remote": ["vpn.example"], "dev": ["tun"]}, "/", None)

    def told(*links: Link) -> list[tuple[str, str | None]]:
        return [(t.status, t.interface) for t in openvpn.tunnels_of(Files(tmp_path), waiting, links)[0]]

    assert told(links[0], links[2]) == [("active", "tun0")]
    assert told(*links) == [("unknown", None)]
    assert told(links[2]) == [("down", None)]


def test_the_newest_state_counts_and_a_line_that_is_none_is_counted() -> None:
    text = MANAGEMENT_STATE.decode()

    assert read_state(text) == (State("CONNECTED", 1795884707.0, "192.0.2.1:1194"), 0)
    assert read_state("1,CONNECTED,SUCCESS,,2001:db8::1,443,,")[0] == State(
        "CONNECTED", 1, "[2001:db8::1]:443"
    )
    assert read_state("1,CONNECTED,SUCCESS,10.8.0.1,,,,")[0] == State("CONNECTED", 1)
    assert read_state(text.replace("CONNECTED,", "?,")) == (State("RECONNECTING", 1795884706.0), 1)
    assert read_state("END\n") == (None, 0)


GREETING = ">INFO:OpenVPN Management Interface Version 5 -- type 'help' for more info\r\n"


@pytest.mark.parametrize(
    ("said", "raised"),
    [
        ("220 mail.example ESMTP\r\n", "is not OpenVPN"),
        ("ENTER PASSWORD:", "wants a password"),
        ("", "may not be asked by this user"),
        (GREETING + "1795884707,CONN", "broke off in the middle"),
    ],
)
def test_who_does_not_greet_and_answer_as_openvpn_is_told_nothing(said: str, raised: str) -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(said.encode())
        there.shutdown(socket.SHUT_WR)
        talk = Talk(here)

        with pytest.raises((Broken, Denied), match=raised):
            talk.greet()
            talk.ask("state")

        there.setblocking(False)
        heard = there.recv(99) if said.startswith(GREETING) else b"state\n"
        assert heard == b"state\n"


def test_who_says_nothing_is_waited_for_two_seconds_and_who_never_ends_so_long_too() -> None:
    here, there = socket.socketpair()
    with here, there:
        talk = Talk(here)
        with pytest.raises(Broken, match="within 2 s"):
            talk.greet()
    here, there = socket.socketpair()
    with here, there:
        there.sendall(GREETING.encode() + b">LOG:x\n" * 9 + b"y" * 70_000)
        there.shutdown(socket.SHUT_WR)
        talk = Talk(here, cap=65_536)
        talk.greet()
        with pytest.raises(Broken, match="more than 65536 bytes"):
            talk.ask("state")


def test_what_openvpn_says_by_itself_is_passed_over_and_what_it_cannot_answer_is_none() -> None:
    here, there = socket.socketpair()
    with here, there:
        asks = ">PASSWORD:Need 'Auth' username/password\r\n>HOLD:Waiting for hold release:0\r\n"
        state = MANAGEMENT_STATE.decode().replace("\r\n", "\r\n" + asks)
        there.sendall((GREETING + asks + state + "ERROR: not supported\r\n").encode())
        talk = Talk(here)
        talk.greet()

        assert read_state(talk.ask("state") or "") == (State("CONNECTED", 1795884707.0, "192.0.2.1:1194"), 0)
        assert talk.ask("status 3") is None
        talk.leave()
        assert there.recv(99) == b"state\nstatus 3\nquit\n"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"management": ["/run/x", "unix", "/etc/password"]}, "wants a password"),
        (
            {"management": ["/run/x", "unix"], "management-client": []},
            "acts on an OpenVPN with --management-client",
        ),
        ({"management": ["/run/x", "unix"], "management-forget-disconnect": []}, "acts on an OpenVPN"),
        ({"management": ["/run/x", "unix"]}, "does not listen at /run/x"),
        ({"management": ["127.0.0.1", "1"]}, "does not listen at port 1"),
    ],
)
def test_a_management_socket_that_is_not_asked_is_said_and_the_tunnel_is_told(
    tmp_path: Path, more: openvpn.Options, why: str
) -> None:
    client = openvpn.Process(os.getpid(), {"remote": ["vpn.example"], "dev": ["tun0"], **more}, "/", "tun0")

    [tunnel], [said] = openvpn.tunnels_of(Files(tmp_path), client, [Link("tun0", "tun", True, True, False)])

    assert tunnel.status == "active"
    assert said.startswith("its state of tun0: ") and why in said


def test_a_configuration_that_is_not_there_is_said(tmp_path: Path) -> None:
    process = openvpn.Process(7, {"config": ["/nowhere"]}, "/", None)

    assert openvpn.tunnels_of(Files(tmp_path), process, [])[1] == ["/nowhere is not on this machine"]


def columns(**more: str) -> dict[str, str]:
    return {
        "peers": f"wg0\t{KEY}\nwg0\t{OTHER}\n",
        "endpoints": f"wg0\t{KEY}\t[2001:db8::1]:51820\nwg0\t{OTHER}\t(none)\n",
        "allowed-ips": f"wg0\t{KEY}\t0.0.0.0/0 ::/0\nwg0\t{OTHER}\t(none)\n",
        "latest-handshakes": f"wg0\t{KEY}\t{int(time.time()) - 170}\nwg0\t{OTHER}\t0\n",
        "transfer": f"wg0\t{KEY}\t10\t20\nwg0\t{OTHER}\t0\t0\n",
        "persistent-keepalive": f"wg0\t{KEY}\toff\nwg0\t{OTHER}\t25\n",
        **more,
    }


def test_the_peers_of_wireguard_are_put_together_of_their_columns() -> None:
    peers, unreadable = wireguard.read_peers(columns())

    one, other = wireguard.tunnels_of(peers, {"wg0": True})

    assert unreadable == 0
    assert (one.peer, one.status, one.endpoint) == (KEY, "active", "[2001:db8::1]:51820")
    assert (one.allowed, one.received, one.sent) == (("0.0.0.0/0", "::/0"), 10, 20)
    assert other[:4] == ("wireguard", "stale", "wg0", OTHER)
    assert (other.endpoint, other.last_sign, other.allowed) == (None, None, ())
    # whether the first one carries the internet is for the routes to say
    assert (one.carries, other.carries) == (None, False)


def test_endpoints_are_told_though_wg_writes_an_interface_only_before_its_first_peer() -> None:
    third = "c" * 43 + "="
    more = {name: text + f"wg1\t{third}\t1\t2\n" for name, text in columns().items()}
    lines = f"empty\twg0\t{KEY}\t10.1.0.2:51820\n{OTHER}\t(none)\nnone\twg1\t{third}\t10.1.0.3:1\nlast\t"

    peers, unreadable = wireguard.read_peers({**more, "endpoints": lines})

    found = wireguard.tunnels_of(peers, {"wg0": True, "wg1": True})
    assert [(one.interface, one.endpoint) for one in found] == [
        ("wg0", "10.1.0.2:51820"),
        ("wg0", None),
        ("wg1", "10.1.0.3:1"),
    ]
    assert unreadable == 0
    assert wireguard.read_peers({**more, "endpoints": f"{lines}\nwg0\tshort\t1\n\t\n"})[1] == 2


@pytest.mark.parametrize(
    ("ago", "keepalive", "status"),
    [(170, "off", "active"), (200, "off", "stale"), (200, "100", "active"), (400, "100", "stale")],
)
def test_a_handshake_counts_for_three_minutes_or_three_keepalives(
    ago: int, keepalive: str, status: str
) -> None:
    peers, _ = wireguard.read_peers(
        columns(
            **{
                "latest-handshakes": f"wg0\t{KEY}\t{int(time.time()) - ago}\n",
                "persistent-keepalive": f"wg0\t{KEY}\t{keepalive}\n",
            }
        )
    )

    assert wireguard.tunnels_of(peers, {"wg0": True})[0].status == status
    assert wireguard.tunnels_of(peers, {"wg0": False})[0].status == "down"
    assert wireguard.tunnels_of(peers, {"eth0": True}) == []


def test_the_fork_of_wireguard_is_asked_by_its_own_program(tmp_path: Path) -> None:
    program = tmp_path / "awg"
    program.write_text(
        "#!/bin/sh\ncase $3 in\n"
        f'peers) printf "awg0\\t{KEY}\\n" ;;\nendpoints) printf "awg0\\t{KEY}\\t192.0.2.1:51820\\n" ;;\n'
        "'') echo awg0 ;;\nesac\n"
    )
    program.chmod(0o755)

    interfaces, peers, unreadable = wireguard.ask_wireguard(Commands(f"{tmp_path}:/usr/bin:/bin"), "awg")

    assert (interfaces, unreadable) == ({"awg0"}, 0)
    assert peers == {("awg0", KEY): {"endpoints": ["192.0.2.1:51820"]}}


def test_wireguard_is_never_asked_for_what_holds_a_private_key() -> None:
    assert not {"dump", "private-key", "preshared-keys", "showconf"} & set(wireguard.COLUMNS)


def test_the_peers_of_tailscale_are_told_by_their_names() -> None:
    tunnels = tailscale.read_status((SAMPLES / "tailscale_status.json").read_text())

    assert [(t.peer, t.status, t.carries, t.endpoint) for t in tunnels] == [
        ("exit.tail0000.ts.net", "active", True, "198.51.100.7:41641"),
        ("phone.tail0000.ts.net", "stale", False, "relay fra"),
        ("nodekey:ffff", "active", False, None),
    ]
    exit, phone, _ = tunnels
    assert exit.allowed == ("100.64.0.2/32", "fd7a:115c:a1e0::2/128", "0.0.0.0/0", "::/0")
    assert (exit.received, exit.sent, exit.interface) == (1234, 5678, "tailscale0")
    assert exit.last_sign is not None
    assert phone.last_sign is not None
    assert "login.tailscale.com" not in str(tunnels)


def test_a_tailscale_that_is_stopped_has_tunnels_that_are_down() -> None:
    told = json.loads((SAMPLES / "tailscale_status.json").read_text()) | {"BackendState": "Stopped"}

    assert {t.status for t in tailscale.read_status(json.dumps(told))} == {"down"}


def test_a_peer_whose_key_has_expired_is_down_though_it_is_online() -> None:
    told = json.loads((SAMPLES / "tailscale_status.json").read_text())
    told["Peer"]["nodekey:aaaa"] |= {"Expired": True, "KeyExpiry": "2026-11-01T00:00:00Z"}

    assert [t.status for t in tailscale.read_status(json.dumps(told))] == ["down", "stale", "active"]


def test_the_first_versions_of_tailscale_tell_by_handshakes_who_is_there() -> None:
    now = datetime.now(UTC).isoformat()
    peers = {
        "a1": {"HostName": "desk", "TailAddr": "100.64.0.2", "LastHandshake": now, "Relay": "", "RxBytes": 5},
        "b2": {"HostName": "phone", "TailAddr": "", "LastHandshake": "0001-01-01T00:00:00Z"},
    }
    told = tailscale.read_status(json.dumps({"BackendState": "", "Peer": peers}))

    assert [(t.peer, t.status, t.allowed) for t in told] == [
        ("desk", "active", ("100.64.0.2",)),
        ("phone", "stale", ()),
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"BackendState": 1, "Peer": [1]}', "[" * 100_000])
def test_another_shape_of_tailscale_is_broken(text: str) -> None:
    with pytest.raises(Broken):
        tailscale.read_status(text)


REFUSED = (
    "failed to connect to local tailscaled (which appears to be running as tailscaled, pid 18). Got error: "
    "Failed to connect to local Tailscale daemon for /localapi/v0/status; not running? Error: dial unix "
    "/var/run/tailscale/tailscaled.sock: connect: "
)


@pytest.mark.parametrize(
    ("said", "means"),
    [
        (f"{REFUSED}permission denied", Denied),
        (f"{REFUSED}no such device", Broken),
        ("failed to connect to local tailscaled; it doesn't appear to be running (sudo systemctl ?)", Absent),
        ("flag provided but not defined", Broken),
    ],
)
def test_who_may_not_ask_tailscale_is_not_told_that_it_does_not_run(
    tmp_path: Path, said: str, means: type[Exception]
) -> None:
    program = tmp_path / "tailscale"
    program.write_text(f'#!/bin/sh\necho "{said}" >&2\nexit 1\n')
    program.chmod(0o755)

    with pytest.raises(means):
        tailscale.ask_tailscale(Commands(f"{tmp_path}:/usr/bin:/bin"))


POLICIES = """src 10.1.0.0/24 dst 10.2.0.0/24 
\tdir out priority 375423 
\ttmpl src 192.0.2.1 dst 192.0.2.2
\t\tproto esp spi 0xc1e8d0a1 reqid 1 mode tunnel
src 10.1.0.0/24 dst 0.0.0.0/0 
\tdir out priority 375424 
\ttmpl src 192.0.2.1 dst 192.0.2.2
\t\tproto esp reqid 1 mode tunnel
src 10.2.0.0/24 dst 10.1.0.0/24 
\tdir in priority 375423 
\ttmpl src 192.0.2.2 dst 192.0.2.1
\t\tproto esp reqid 1 mode tunnel
src 10.1.0.0/24 dst 10.3.0.0/24 
\tdir out priority 375423 
\ttmpl src 192.0.2.1 dst 192.0.2.3
\t\tproto esp reqid 2 mode tunnel
src 0.0.0.0/0 dst 0.0.0.0/0 
\tsocket out priority 0 
"""
STATES = """src 192.0.2.1 dst 192.0.2.2
\tproto esp spi 0xc1e8d0a1(3253260449) reqid 1(0x00000001) mode tunnel
\treplay-window 0 seq 0x00000000 flag af-unspec (0x00100000)
\tauth-trunc hmac(sha256) <<Keys hidden>> (256 bits) 128
\tlifetime config:
\t  limit: soft (INF)(bytes), hard (INF)(bytes)
\tlifetime current:
\t  2048(bytes), 12(packets)
\t  add 2026-11-28 16:51:47 use 2026-11-28 16:51:49
src 192.0.2.2 dst 192.0.2.1
\tproto esp spi 0xc0000001(3221225473) reqid 1(0x00000001) mode tunnel
\tlifetime current:
\t  1024(bytes), 6(packets)
src 192.0.2.1 dst 192.0.2.3
\tproto esp spi 0x00000000(0) reqid 2(0x00000002) mode tunnel
"""


def test_an_ipsec_tunnel_is_active_where_there_are_associations_both_ways() -> None:
    assert ipsec.read_tunnels(POLICIES, STATES) == (
        [
            Tunnel(
                "ipsec", "active", None, "192.0.2.2", "192.0.2.2",
                allowed=("10.2.0.0/24", "0.0.0.0/0"), carries=True, received=1024, sent=2048,
            ),
            Tunnel(
                "ipsec", "down", None, "192.0.2.3", "192.0.2.3", allowed=("10.3.0.0/24",), carries=False
            ),
        ],
        0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "carries"),
    [
        ("\tdir out priority 375424 \n", "\tdir out priority 375424 ptype main \n", True),
        ("\tdir out priority 375424 \n", "\tdir out priority 375424 \n\tmark 0x64/0xffffffff \n", None),
        ("\tdir out priority 375424 \n", "\tdir out priority 375424 \n\tif_id 0x2a\n", None),
        ("0.0.0.0/0 \n\tdir out", "0.0.0.0/0 uid 0\n\tdir out", True),
        ("0.0.0.0/0 \n\tdir out", "0.0.0.0/0 proto tcp dport 179 \n\tdir out", False),
    ],
)
def test_a_policy_for_some_packets_does_not_carry_everything(
    old: str, new: str, carries: bool | None
) -> None:
    (tunnel, _), unreadable = ipsec.read_tunnels(POLICIES.replace(old, new), STATES)

    assert (tunnel.status, tunnel.carries, unreadable) == ("active", carries, 0)


def test_a_policy_may_leave_its_near_end_open() -> None:
    policies = POLICIES.replace("tmpl src 192.0.2.1", "tmpl src 0.0.0.0")

    (tunnel, _), _ = ipsec.read_tunnels(policies, STATES)

    assert (tunnel.peer, tunnel.status, tunnel.sent) == ("192.0.2.2", "active", 2048)


def test_two_hosts_in_transport_mode_are_told_by_their_policy() -> None:
    policies = (
        "src 192.0.2.1/32 dst 192.0.2.2/32 proto udp dport 1701 \n\tdir out priority 2080 \n"
        "\ttmpl src 0.0.0.0 dst 0.0.0.0\n\t\tproto esp reqid 1 mode transport\n"
        "src 0.0.0.0/0 dst 0.0.0.0/0 proto tcp dport 179 \n\tdir out priority 2080 \n"
        "\ttmpl src 0.0.0.0 dst 0.0.0.0\n\t\tproto esp reqid 2 mode transport\n"
    )

    (tunnel,), _ = ipsec.read_tunnels(policies, STATES)

    assert (tunnel.peer, tunnel.status, tunnel.carries) == ("192.0.2.2", "active", False)
    assert (tunnel.allowed, tunnel.received) == (("192.0.2.2/32",), 1024)


def test_addresses_of_ipv6_that_end_in_zeros_are_told_whole() -> None:
    ends = {"192.0.2.1": "2001:db8::", "192.0.2.2": "2001:db8:1::", "10.2.0.0/24": "2001:db8:2::/48"}
    policies, states = POLICIES, STATES
    for old, new in ends.items():
        policies, states = policies.replace(old, new), states.replace(old, new)

    (tunnel, _), unreadable = ipsec.read_tunnels(policies, states + "src :: dst 2001:db8:1::\n\tproto esp\n")

    assert (tunnel.endpoint, tunnel.status, tunnel.sent) == ("2001:db8:1::", "active", 2048)
    assert unreadable == 0


def test_more_bytes_than_can_be_kept_are_not_told() -> None:
    states = STATES.replace("2048(bytes)", f"{'9' * 18}(bytes)").replace("1024(bytes)", f"{'9' * 19}(bytes)")
    sent = states.partition("src 192.0.2.2 ")[0]
    peers, _ = wireguard.read_peers(columns(transfer=f"wg0\t{KEY}\t{'9' * 19}\t{'9' * 18}\n"))

    (tunnel, _), _ = ipsec.read_tunnels(POLICIES, sent * 20 + states)
    (peer, _) = wireguard.tunnels_of(peers, {"wg0": True})

    assert (tunnel.received, tunnel.sent) == (0, 2**63 - 1)
    assert (peer.received, peer.sent) == (None, 10**18 - 1)


def test_moments_and_statuses_of_odd_clocks() -> None:
    assert moment(0) is None
    assert moment(1e30) is None
    assert status_of(True, 0) == "stale"
    assert status_of(True, time.time()) == "active"
    assert status_of(False, time.time()) == "down"
