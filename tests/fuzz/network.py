"""The readers of sockets, name servers and tunnels, and of what names things in the network."""

import json
import socket
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.fuzz.firewall import BIGGEST, has, of_json
from tests.fuzz.reading import Reader, of_text, placed, text_of
from tests.machine.test_sockets import HEAD, ID, LISTENS, UNIX_HEAD, WAITS
from tests.machine.test_strongswan import ASSOCIATIONS, CONNECTIONS, packed
from tests.machine.test_tunnels import (
    MANAGEMENT_STATE,
    POLICIES,
    SAMPLES,
    STATES,
    VERSION_1,
    VERSION_2,
    columns,
)
from watchman_mcp.machine import accounts, bus_lines, cgroups, dns_servers, docker, lookup, rtnames
from watchman_mcp.machine.dns_servers.dnsmasq import Settings, read_dnsmasq
from watchman_mcp.machine.dns_servers.network_manager import manager_servers
from watchman_mcp.machine.dns_servers.providers import provider_of
from watchman_mcp.machine.dns_servers.resolv import ASKED, read_resolv
from watchman_mcp.machine.dns_servers.resolved import resolved_servers
from watchman_mcp.machine.sockets import holders, survey, tables
from watchman_mcp.machine.tunnels import (
    ipsec,
    moment,
    openvpn,
    openvpn_management,
    openvpn_status,
    strongswan,
    tailscale,
    vici,
    wireguard,
)


def _servers(found: Iterable[dns_servers.NameServer]) -> object:
    found = list(found)
    assert all(ip_address(one.ip) and 0 <= one.port <= 65_535 for one in found)
    return found


def _address(text: str) -> object:
    found = dns_servers.address(text)
    return found and (found, provider_of(found[0]))


def _manager(told: Any) -> object:
    if not has(told, "DNSEx", "FallbackDNSEx", "Domains", "DNSOverTLS"):
        return None
    return _servers(resolved_servers(told, {2: ("no", True), 5: ("yes", False)}, {2: "eth0"}))


def _dnsmasq(content: bytes) -> object:
    settings, again = Settings(), Settings()
    read_dnsmasq(text_of(content), settings)
    read_dnsmasq("server=?\n" + text_of(content), again)
    assert again.unreadable == settings.unreadable + 1, "a line was passed over in silence"
    assert again.servers == _servers(settings.servers)
    return settings


def _resolv(content: bytes) -> object:
    found = read_resolv(text_of(content))
    again = read_resolv("?\n" + text_of(content))
    assert again.unreadable == found.unreadable + 1, "a line was passed over in silence"
    assert again.servers == found.servers
    named = _servers(found.named("x"))
    assert isinstance(named, list)
    assert [one.position is None for one in named] == [place >= ASKED for place in range(len(named))]
    return found


def _hosts(content: bytes) -> object:
    found = placed(content, lambda files: lookup.addresses(files, "box", "ipv4"), "/etc/hosts")
    assert isinstance(found, list)
    assert all(ip_address(one).version == 4 for one in found)
    return found


def _kept(found: Iterable[Any]) -> list[Any]:
    """Tunnels or clients whose numbers can be kept."""
    found = list(found)
    for one in found:
        assert all(number is None or 0 <= number <= BIGGEST for number in (one.received, one.sent))
    return found


def _status(content: bytes) -> object:
    text = text_of(content)
    found = openvpn_status.read_status(text)
    again = openvpn_status.read_status(f"?\n{text}")
    assert again.unreadable == found.unreadable + 1, "a line was passed over in silence"
    assert len(again.clients) == len(found.clients)
    assert all(one.name for one in found.clients)
    for one in found.clients:
        moment(one.since), moment(one.seen)
    _kept(found.clients)
    return found


def _state(content: bytes) -> object:
    text = text_of(content)
    found, unreadable = openvpn_management.read_state(text)
    assert openvpn_management.read_state(f"?\n{text}") == (found, unreadable + 1), "passed over in silence"
    if found is not None:
        moment(found.since)
    return found


def _conversation(content: bytes) -> object:
    """Whoever is at the other end says this, whatever it is asked, and hangs up."""
    here, there = socket.socketpair()
    with here, there:
        there.sendall(content)
        there.shutdown(socket.SHUT_WR)
        talk = openvpn_management.Talk(here)
        talk.greet()
        return [talk.ask(command) for command in ("state", "status 3")]


def _ipsec(content: bytes) -> object:
    policies, mark, states = text_of(content).partition("--\n")
    found, unreadable = ipsec.read_tunnels(policies, states)
    assert ipsec.read_tunnels(f"?\n{mark}src\n{policies}", states)[1] > unreadable, "passed over in silence"
    return _kept(found)


def _message(content: bytes) -> object:
    """A message, taken for what is known and for what is up."""
    told = vici.read_message(content)
    found = strongswan.tunnels_of([told], [told])
    assert len({one.peer for one in found}) == len(found)
    return strongswan.without(_kept(found), found)


def _peers(content: bytes) -> object:
    texts = text_of(content).split("--\n")
    given = dict(zip(wireguard.COLUMNS, [*texts, *[""] * len(wireguard.COLUMNS)], strict=False))
    peers, unreadable = wireguard.read_peers(given)
    again, more = wireguard.read_peers({**given, "peers": f"?\n{given['peers']}"})
    assert (again, more) == (peers, unreadable + 1), "a line was passed over in silence"
    assert all(interface and len(key) == 44 for interface, key in peers)
    return _kept(wireguard.tunnels_of(peers, {"wg0": True}))


def _names(content: bytes) -> object:
    found, unreadable = rtnames.read_names(text_of(content))
    again, more = rtnames.read_names("?\n" + text_of(content))
    assert (again, more) == (found, unreadable + 1), "a line was passed over in silence"
    assert all(0 <= number < 2**32 for number in found)
    return found


def _users(content: bytes) -> object:
    found = accounts.read_users(text_of(content))
    assert all(0 <= uid < 2**32 for uid in found)
    return found


def _groups(content: bytes) -> object:
    text = text_of(content)
    container = cgroups.container_of(text)
    assert container is None or (container and "/" not in container)
    return container, cgroups.is_manager(text), cgroups.unit_of(text), cgroups.paths(text)


def _inet(content: bytes) -> object:
    found = list(tables.inet("tcp", content))
    again = list(tables.inet("tcp", b"\n?\n" + content.partition(b"\n")[2]))
    assert again == [None, *found], "a line was passed over in silence"
    for one in found:
        if one is not None:
            assert 0 <= one.port <= 65_535 and 0 <= one.peer_port <= 65_535
            assert 0 <= one.uid <= BIGGEST and 0 <= one.inode <= BIGGEST
    return found


def _unix(content: bytes) -> object:
    found = list(tables.unix(content))
    assert all(one is None or one.path for one in found)
    return found, tables.in_use(content, b"/run/connected")


def _process(content: bytes) -> object:
    with TemporaryDirectory() as place:
        for name in ("stat", "cgroup", "status"):
            Path(place, name).write_bytes(content)
        return holders.describe(place)


def _containers(content: bytes) -> object:
    found, unreadable = docker.read_containers(content)
    again, more = docker.read_containers(b"[7," + content.partition(b"[")[2])
    assert (again, more) == (found, unreadable + 1), "a container was passed over in silence"
    assert all(len(one.id) == 64 and one.name and "/" not in one.name for one in found)
    for port in (port for one in found for port in one.published):
        assert ip_address(port.address) and 0 < port.port < 65_536 and 0 < port.inner < 65_536
    return found


_CONTAINERS = [
    {
        "Id": ID,
        "Names": ["/other/alias", "/web"],
        "Ports": [
            {"IP": "::", "PrivatePort": 80, "PublicPort": 8099, "Type": "tcp"},
            {"PrivatePort": 53, "Type": "udp"},
        ],
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2", "GlobalIPv6Address": ""}}},
    }
]
_PROCESS = (
    b"7 (a) (b\xff) S 1 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0\n"
    b"Uid:\t1000\t33\t1000\t1000\n0::/system.slice/web.service\n"
)
_CONFIGURATION = (
    b'# none\nremote a.example 1194 udp # first\n  dev tun0 ; comment\nstatus "/var/log/o \\"v/x" 10\n'
    b"cd '/etc/open vpn'\n--server 10.8.0.0 255.255.255.0\n<tls-crypt>\ndev secret\n</tls-crypt>\n"
)
_RESOLVED = {
    "DNSEx": [[2, 2, [192, 0, 2, 1], 0, ""], [5, 10, [32, 1, *[0] * 13, 1], 5353, "x"]],
    "FallbackDNSEx": [[0, 2, [1, 1, 1, 1], 0, ""]],
    "Domains": [[0, "home.example", False], [5, "corp.example", True]],
    "DNSOverTLS": "opportunistic",
}
_CONNECTIONS = [
    {
        "nameservers": {"type": "as", "data": ["192.0.2.1", "1.1.1.1#one", "dns+tls://[2001:db8::2]:8853#x"]},
        "domains": {"type": "as", "data": ["~corp.example"]},
        "interface": {"type": "s", "data": "eth0"},
    }
]
_DNSMASQ = (
    b"# none\nserver=/corp.example/lab.example/10.0.0.1#5353@tun0\nserver=1.1.1.1\nlocal=/home/\nno-resolv\n"
    b"rev-server=10.0.0.0/8,10.0.0.2\nresolv-file=/run/resolv\nconf-dir=/etc/d,*.conf\nserver=fe80::1%eth0\n"
)
_RESOLV = (
    b"# none\nnameserver 127.1\nnameserver fe80::1%eth0\nsearch a.example b.example\noptions ndots:5 edns0\n"
    b"sortlist 10.0.0.0/8\nnameserver 1.1.1.1\nnameserver 2001:db8::1\ndomain c.example\n"
)
_CGROUPS = (
    f"12:cpu:/docker/{ID}\n1:name=systemd:/system.slice/docker-{ID}.scope\n0::/a\n".encode(),
    b"0::/user.slice/user-1000.slice/user@1000.service/init.scope\n",
    b"1:name=systemd:/lxc/web/init.scope\n0::/lxc.payload.web/a.service\n",
    b"0::/system.slice/system-getty.slice/getty@tty1.service\n",
)
_UNIX = (
    UNIX_HEAD + b"0000000000000000: 00000002 00000000 00010000 0001 01  4711 /run/a b\xff\n"
    b"0000000000000000: 00000002 00000000 00010000 0001 01 12345 @zero@byte\n"
    b"0000000000000000: 00000003 00000000 00000000 0001 03  4712 /run/connected\n"
)

READERS = (
    Reader("accounts.read_users", _users, (b"root:x:0:0:root:/root:/bin/sh\njoe:x:1000:1000::/:/bin/sh\n",)),
    Reader(
        "bus_lines.read_line",
        of_text(bus_lines.read_line),
        (
            b'aa{sv} 1 3 "nameservers" as 1 "192.0.2.1" "vpn" b false "n\\303\\266" v i 100',
            b"a(iiay) 1 0 2 4 9 9 9 9",
        ),
    ),
    Reader(
        "cgroups.paths",
        _groups,
        _CGROUPS,
        with_=("cgroups.container_of", "cgroups.is_manager", "cgroups.unit_of"),
    ),
    Reader(
        "dns_servers.address",
        of_text(_address),
        (b"127.1", b"0x7f.1", b"FE80::1%eth0", b"1.1.1.1"),
        with_=("dns_servers.providers.provider_of",),
    ),
    Reader("docker.read_containers", _containers, (json.dumps(_CONTAINERS).encode(),), "json", share=0.5),
    Reader("dns_servers.dnsmasq.read_dnsmasq", _dnsmasq, (_DNSMASQ,)),
    Reader(
        "dns_servers.network_manager.manager_servers",
        of_json(lambda told: _servers(manager_servers(told))),
        (json.dumps(_CONNECTIONS).encode(),),
        "json",
    ),
    Reader("dns_servers.resolv.read_resolv", _resolv, (_RESOLV,), with_=("dns_servers.resolv.Resolv.named",)),
    Reader(
        "dns_servers.resolved.resolved_servers", of_json(_manager), (json.dumps(_RESOLVED).encode(),), "json"
    ),
    Reader(
        "lookup.addresses",
        _hosts,
        (b"# 192.0.2.9 box\n192.0.2.1 Box alias # x\n2001:db8::1 box\n\xff\n127.0.0.1 localhost\n",),
        share=0.3,
    ),
    Reader("rtnames.read_names", _names, (b"#\n255\tlocal\n254\tmain\n0x10 vpn # mine\n0\tunspec\n",)),
    Reader("sockets.holders.describe", _process, (_PROCESS,), share=0.2, refuses=(ValueError, IndexError)),
    Reader(
        "sockets.survey.read_ports",
        lambda content: survey.read_ports(*text_of(content).partition(";")[::2]),
        (b"32768\t60999\n;40000,50000-50010\n",),
        refuses=(ValueError,),
    ),
    Reader(
        "sockets.tables.inet",
        _inet,
        (HEAD + LISTENS + WAITS, HEAD + LISTENS.replace(b"0100007F", b"0000000000000000FFFF00000100007F")),
        with_=("sockets.families", "sockets.written"),
    ),
    Reader("sockets.tables.unix", _unix, (_UNIX,), with_=("sockets.name_of", "sockets.tables.in_use")),
    Reader("tunnels.ipsec.read_tunnels", _ipsec, (f"{POLICIES}--\n{STATES}".encode(),)),
    Reader("tunnels.openvpn.read_configuration", of_text(openvpn.read_configuration), (_CONFIGURATION,)),
    Reader(
        "tunnels.openvpn.read_words",
        lambda content: openvpn.read_words(text_of(content).split("\0")),
        (b"--cd\0/etc/openvpn\0--config\0x.conf\0--status\0/run/x\010\0--daemon",),
    ),
    Reader("tunnels.openvpn_management.read_state", _state, (MANAGEMENT_STATE,)),
    Reader(
        "tunnels.openvpn_management.Talk.greet",
        _conversation,
        (
            b">INFO:OpenVPN Management Interface Version 5 -- type 'help' for more info\r\n>HOLD:Waiting\r\n"
            + MANAGEMENT_STATE
            + VERSION_2.replace(",", "\t").encode(),
        ),
        with_=("tunnels.openvpn_management.Talk.ask",),
        share=0.3,
    ),
    Reader(
        "tunnels.openvpn_status.read_status",
        _status,
        tuple(text.encode() for text in (VERSION_1, VERSION_2, VERSION_2.replace(",", "\t"))),
    ),
    Reader(
        "tunnels.tailscale.read_status",
        lambda content: _kept(tailscale.read_status(text_of(content))),
        ((SAMPLES / "tailscale_status.json").read_bytes(),),
        "json",
    ),
    Reader(
        "tunnels.vici.read_message",
        _message,
        (packed({**CONNECTIONS[0], **CONNECTIONS[1]}), packed(ASSOCIATIONS[0]), packed(CONNECTIONS[2])),
        "binary",
        with_=("tunnels.strongswan.tunnels_of",),
    ),
    Reader("tunnels.wireguard.read_peers", _peers, ("--\n".join(columns().values()).encode(),)),
)
