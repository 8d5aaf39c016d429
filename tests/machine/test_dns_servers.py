"""What programs say of name servers, and what servers answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchman_mcp.errors import Broken
from watchman_mcp.machine.bus_lines import read_line
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.dns_servers import NameServer, address, merged
from watchman_mcp.machine.dns_servers.asking import Check, ask, checked
from watchman_mcp.machine.dns_servers.dnsmasq import Settings, at_work, counts, read_dnsmasq
from watchman_mcp.machine.dns_servers.network_manager import ask_manager, manager_servers
from watchman_mcp.machine.dns_servers.providers import PROVIDERS, provider_of
from watchman_mcp.machine.dns_servers.resolved import ask_resolved, resolved_servers
from watchman_mcp.machine.system_bus import object_path

Reply = Callable[[bytes], list[bytes]]


@contextmanager
def answering(reply: Reply) -> Iterator[int]:
    """A name server on the loopback, by its port; what it is sent goes through `reply`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)

        def serve() -> None:
            question, sender = sock.recvfrom(4096)
            for part in reply(question):
                sock.sendto(part, sender)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield sock.getsockname()[1]
        sock.sendto(b"", sock.getsockname())  # who was asked nothing ends too
        thread.join(10)


def asked(reply: Reply, seconds: float = 0.3) -> Check:
    with answering(reply) as port:
        return ask({"it": ("127.0.0.1", port, None)}, seconds)["it"]


def response(question: bytes, rcode: dns.rcode.Rcode = dns.rcode.NOERROR) -> bytes:
    made = dns.message.make_response(dns.message.from_wire(question))
    made.set_rcode(rcode)
    return made.to_wire()


def test_a_server_that_answers_is_timed() -> None:
    check = asked(lambda question: [response(question)])

    assert check.answers == "yes"
    assert check.latency_ms is not None
    assert 0 <= check.latency_ms < 300


def test_only_the_root_is_asked_for() -> None:
    questions: list[bytes] = []

    asked(lambda question: [questions.append(question) or response(question)])

    [question] = dns.message.from_wire(questions[0]).question
    assert question.to_text() == ". IN NS"


@pytest.mark.parametrize(
    ("rcode", "answers"),
    [
        (dns.rcode.NXDOMAIN, "yes"),
        (dns.rcode.REFUSED, "refused"),
        (dns.rcode.SERVFAIL, "servfail"),
    ],
)
def test_a_refusal_is_told_by_its_name(rcode: dns.rcode.Rcode, answers: str) -> None:
    assert asked(lambda question: [response(question, rcode)])[1] == answers


def test_what_is_no_answer_to_the_question_is_passed_over() -> None:
    def other(question: bytes) -> list[bytes]:
        wrong_id = bytes([question[0] ^ 1]) + response(question)[1:]
        wrong_name = dns.message.make_response(dns.message.make_query("evil.example", "NS"))
        wrong_name.id = int.from_bytes(question[:2])
        return [b"", b"\0", question, wrong_id, wrong_name.to_wire(), b"\xc0" * 600]

    assert asked(other).answers == "no answer"
    assert asked(lambda question: [*other(question), response(question)]).answers == "yes"


@given(st.binary(max_size=300))
def test_no_bytes_of_a_server_are_a_fault(noise: bytes) -> None:
    assert asked(lambda question: [question[:2] + noise, response(question)]).answers == "yes"


def test_a_port_where_nothing_listens_and_an_address_without_a_way_are_told_at_once() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        free = sock.getsockname()[1]

    found = ask({"free": ("127.0.0.1", free, None), "scope": ("fe80::1", 53, "nowhere0")}, 5)

    assert found["free"].answers == "nothing listens there"
    assert found["scope"].answers not in ("yes", "no answer")


def test_a_server_is_not_asked_again_within_the_pause_and_no_more_than_eight_are() -> None:
    with answering(lambda question: [response(question)]) as port:
        first = checked([("127.0.0.1", port, None)], {}, 60)
    again = checked([("127.0.0.1", port, None)], first, 60)
    many = checked([(f"127.0.0.{n}", 9, None) for n in range(1, 20)], {}, 60)

    assert first[f"127.0.0.1#{port}"].answers == "yes"
    assert again == first
    assert len(many) == 8


def test_a_check_from_the_future_does_not_count() -> None:
    old = {"127.0.0.1#9": Check(4e9, "yes", 1.0)}

    assert checked([("127.0.0.1", 9, None)], old, 60)["127.0.0.1#9"].answers != "yes"


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("1.1.1.1", ("1.1.1.1", None)),
        ("127.1", ("127.0.0.1", None)),
        ("0x7f.1", ("127.0.0.1", None)),
        ("FE80::1%eth0", ("fe80::1", "eth0")),
        ("2001:DB8:0:0::1", ("2001:db8::1", None)),
        ("1.1.1.1%eth0", None),
        ("1.1.1.256", None),
        ("a.example", None),
        ("", None),
    ],
)
def test_addresses_are_read_as_the_c_library_reads_them(text: str, known: object) -> None:
    assert address(text) == known


def test_every_provider_is_found_by_an_address_in_its_usual_writing() -> None:
    assert [ip for ip in PROVIDERS if str(ip_address(ip)) != ip] == []
    assert PROVIDERS["8.8.4.4"] == "Google"
    assert PROVIDERS["2620:fe::fe"] == "Quad9"


@pytest.mark.parametrize(
    ("ip", "provider"),
    [
        ("2620:0:ccc::2", "OpenDNS"),
        ("45.90.28.77", "NextDNS"),
        ("2a07:a8c1::12:3456", "NextDNS"),
        ("169.254.169.254", "Google Cloud or Oracle Cloud"),
        ("2a01:4ff:ff00::add:1", "Hetzner"),
        ("192.0.2.1", None),
        ("fe80::1", None),
    ],
)
def test_a_provider_is_told_by_an_address_of_its_own_or_of_its_network(ip: str, provider: str | None) -> None:
    assert provider_of(ip) == provider


def test_a_server_named_twice_is_one_with_all_its_names() -> None:
    found = merged(
        [
            NameServer("dnsmasq", "10.0.0.1", domains=("~a",)),
            NameServer("dnsmasq", "10.0.0.1", domains=("~b",)),
            NameServer("dnsmasq", "10.0.0.2", domains=("~a",)),
            NameServer("dnsmasq", "10.0.0.2"),
        ]
    )

    assert [server.domains for server in found] == [("~a", "~b"), ("a",)]


@pytest.mark.parametrize(
    ("name", "endings", "read"),
    [
        ("lan.conf", (), True),
        ("lan.conf~", (), False),
        (".lan", (), False),
        ("#lan#", (), False),
        ("lan.conf.rpmsave", (".rpmnew", ".rpmsave"), False),
        ("lan.conf.rpmsave", (), True),
        ("lan.conf", ("*.conf",), True),
        ("README", ("*.conf",), False),
        ("README", ("*",), True),
    ],
)
def test_dnsmasq_reads_the_files_that_its_folder_is_named_for(
    name: str, endings: tuple[str, ...], read: bool
) -> None:
    assert counts(name, endings) is read


@pytest.mark.parametrize(
    ("words", "usual"),
    [
        ("-x /run/dnsmasq.pid -7 /etc/dnsmasq.d,.dpkg-dist", True),
        ("-k -C /etc/dnsmasq.conf", True),
        ("--conf-file=/var/lib/libvirt/dnsmasq/default.conf --leasefile-ro", False),
        ("--conf-file /dev/null -u lxc-dnsmasq", False),
        ("-C/srv/other.conf", False),
    ],
)
def test_a_dnsmasq_of_libvirt_does_not_read_the_usual_configuration(
    tmp_path: Path, words: str, usual: bool
) -> None:
    process = tmp_path / "7"
    process.mkdir()
    (process / "comm").write_text("dnsmasq\n")
    (process / "cmdline").write_text("\0".join(["/usr/sbin/dnsmasq", *words.split(), ""]))

    assert at_work("/etc/dnsmasq.conf", str(tmp_path)) is usual


def test_a_server_of_dnsmasq_has_the_interface_that_is_named_beside_an_address() -> None:
    settings = Settings()

    read_dnsmasq("server=192.0.2.1@eth1@192.0.2.9#55\nrev-server=10.0.0.0/8\n", settings)

    assert [(one.ip, one.interface) for one in settings.servers] == [("192.0.2.1", "eth1")]
    assert settings.unreadable == 0


def test_a_server_of_dnsmasq_may_be_for_every_domain_or_for_names_without_one() -> None:
    settings = Settings()

    read_dnsmasq("server=/#/192.0.2.1\nserver=//192.0.2.2\n", settings)

    assert [(one.domains, one.position) for one in settings.servers] == [((), 1), (("~unqualified",), None)]


def test_ten_thousand_servers_of_dnsmasq_are_read_within_seconds() -> None:
    settings, begun = Settings(), time.process_time()

    read_dnsmasq("server=1.1.1.1\n" * 30_000 + "server=/a/1.1.1.1\n", settings)

    assert [server.position for server in settings.servers[-2:]] == [30_000, None]
    assert time.process_time() - begun < 5


def test_the_servers_of_resolved_have_their_links_and_split_names() -> None:
    manager: dict[str, Any] = {
        "DNSEx": [
            [0, 2, [9, 9, 9, 9], 0, ""],
            [2, 2, [192, 0, 2, 1], 0, ""],
            [2, 10, [0x20, 1, 0xD, 0xB8, *[0] * 11, 1], 5353, ""],
            [5, 2, [10, 0, 0, 1], 0, "dns.corp.example"],
            [6, 2, [10, 0, 0, 2], 0, ""],
        ],
        "FallbackDNSEx": [[0, 2, [1, 1, 1, 1], 0, ""]],
        "Domains": [[0, "home.example", False], [5, "corp.example", True], [6, "lab.example", False]],
        "DNSOverTLS": "opportunistic",
    }
    links = {2: ("no", True), 5: ("yes", False), 6: ("no", False)}

    found = resolved_servers(manager, links, {2: "eth0", 5: "tun0"})

    assert [tuple(server[1:7]) for server in found] == [
        ("9.9.9.9", 53, None, 1, ("home.example",), "opportunistic"),
        ("192.0.2.1", 53, "eth0", 1, (), "plain"),
        ("2001:db8::1", 5353, "eth0", 2, (), "plain"),
        ("10.0.0.1", 853, "tun0", 1, ("~corp.example",), "tls"),
        ("10.0.0.2", 53, "6", 1, ("~lab.example",), "plain"),
    ]
    assert [server.ip for server in resolved_servers(manager | {"DNSEx": []}, {}, {})] == ["1.1.1.1"]


OLD_BUS = """#!/bin/sh
case "$*" in
*NameHasOwner*) echo '{"type":"b","data":[true]}' ;;
*DNSEx*)
    echo 'Failed to get property DNSEx on interface org.freedesktop.resolve1.Manager: Unknown property' >&2
    exit 1 ;;
*FallbackDNS*) echo '{"type":"a(iiay)","data":[[2,2,[192,0,2,1]]]}
{"type":"a(iiay)","data":[[0,2,[9,9,9,9]]]}
{"type":"a(isb)","data":[[2,"lan.example",false]]}
{"type":"s","data":"no"}' ;;
*) echo '{"type":"s","data":"no"}
{"type":"b","data":true}' ;;
esac
"""


def test_an_older_resolved_tells_its_servers_without_their_ports(tmp_path: Path) -> None:
    program = tmp_path / "busctl"
    program.write_text(OLD_BUS)
    program.chmod(0o755)

    found = ask_resolved(Commands(f"{tmp_path}:/usr/bin:/bin"), lambda index: f"eth{index}")

    assert found is not None
    assert [tuple(server[1:7]) for server in found] == [
        ("192.0.2.1", 53, "eth2", 1, ("lan.example",), "plain")
    ]


OLDEST_BUS = """#!/bin/sh
case "$*" in
*--json*) echo "busctl: unrecognized option '--json=short'" >&2; exit 1 ;;
*NameHasOwner*) echo 'b true' ;;
*) echo 'aa{sv} 1 3 "nameservers" as 2 "192.0.2.1" "192.0.2.2" "interface" s "eth0" "vpn" b false' ;;
esac
"""


def test_a_busctl_without_json_is_understood(tmp_path: Path) -> None:
    program = tmp_path / "busctl"
    program.write_text(OLDEST_BUS)
    program.chmod(0o755)

    found = ask_manager(Commands(f"{tmp_path}:/usr/bin:/bin"))

    assert found is not None
    assert [(one.ip, one.interface, one.position) for one in found] == [
        ("192.0.2.1", "eth0", 1),
        ("192.0.2.2", "eth0", 2),
    ]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("b true", True),
        ('s "a \\"b\\" \\303\\266\\n"', 'a "b" ö\n'),
        ("a(iiay) 2 0 2 4 9 9 9 9 2 10 1 7", [[0, 2, [9, 9, 9, 9]], [2, 10, [7]]]),
        ("a{sv} 0", {}),
        ('a{sv} 1 "x" a(sb) 1 "lan" false', {"x": {"type": "a(sb)", "data": [["lan", False]]}}),
        ('(sa{su}as) "a" 1 "b" 2 1 "c"', ["a", {"b": 2}, ["c"]]),
        ('aas 2 1 "a" 0', [["a"], []]),
    ],
)
def test_a_value_of_busctl_is_what_its_json_would_be(line: str, value: object) -> None:
    assert read_line(line) == value


@pytest.mark.parametrize(
    "line",
    [
        "", "i", "i x", "b maybe", "s a", 'as 2 "a"', "i 1 2", "ii 1 2", "(i 1", "z 1", "a",
        "a() 999999999999", "a{ayi} 1 1 2 3", f"{'a' * 99}i" + " 1" * 99,
    ],
)  # fmt: skip
def test_a_line_of_another_shape_is_broken(line: str) -> None:
    with pytest.raises(Broken):
        read_line(line)


@pytest.mark.parametrize(
    "rows",
    [
        None,
        [1],
        [["1", 2, [], 0, ""]],
        [[0, 2, [300], 0, ""]],
        [[0, 2, [], 0, ""]],
        [[0, 2, [1] * 4, -1, ""]],
    ],
)
def test_another_shape_of_resolved_is_broken(rows: object) -> None:
    with pytest.raises(Broken):
        resolved_servers({"DNSEx": rows, "FallbackDNSEx": [], "Domains": [], "DNSOverTLS": "no"}, {}, {})


def test_the_servers_of_networkmanager_are_in_its_order() -> None:
    def entry(servers: list[str], **more: Any) -> dict[str, Any]:
        return {name: {"type": "", "data": value} for name, value in {"nameservers": servers, **more}.items()}

    found = manager_servers(
        [
            entry(["10.8.0.1"], domains=["~corp.example"], interface="tun0", priority=50, vpn=True),
            entry(["192.0.2.1", "2001:db8::1", "1.1.1.1#one.one.one.one"], interface="eth0", priority=100),
            entry(["dns+tls://[2001:db8::2]:8853#x", "dns+udp://192.0.2.9:5353"]),
        ]
    )

    assert [(s.ip, s.port, s.interface, s.position, s.domains, s.transport) for s in found] == [
        ("10.8.0.1", 53, "tun0", 1, ("~corp.example",), "plain"),
        ("192.0.2.1", 53, "eth0", 2, (), "plain"),
        ("2001:db8::1", 53, "eth0", 3, (), "plain"),
        ("1.1.1.1", 53, "eth0", 4, (), "tls"),
        ("2001:db8::2", 8853, None, 5, (), "tls"),
        ("192.0.2.9", 5353, None, 6, (), "plain"),
    ]


@pytest.mark.parametrize(
    "told",
    [
        None,
        1,
        [1],
        [{"nameservers": 1}],
        [{"nameservers": {"data": ["evil"]}}],
        [{"nameservers": {"data": ["dns+udp://1.1.1.1:99999"]}}],
    ],
)
def test_another_shape_of_networkmanager_is_broken(told: object) -> None:
    with pytest.raises(Broken):
        manager_servers(told)


def test_objects_of_the_bus_are_named_as_systemd_names_them() -> None:
    assert object_path("/a/link", "2") == "/a/link/_32"
    assert object_path("/a/link", "12") == "/a/link/_312"
    assert object_path("/a", "dbus-x.service") == "/a/dbus_2dx_2eservice"
