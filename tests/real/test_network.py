"""Interfaces, routes and policy rules beside what `ip -j` says, and how soon their changes are told."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.collectors.test_cases import look_at
from tests.real.clients import Session, delay_until
from tests.real.homes import PROGRAM, Home
from tests.rigs import ip_words
from tests.rigs.cache import need_programs
from tests.rigs.netns import Namespace, namespaces
from tests.rigs.sockets import BECOME
from watchman_mcp.collectors import network
from watchman_mcp.machine import interfaces
from watchman_mcp.schema import Edge
from watchman_mcp.schema.network import NetworkInterface, Route, RoutingRule

pytestmark = pytest.mark.real
VLAN = "v0.10"
LISTENER = (
    "import socket, time; listening = socket.create_server(('0.0.0.0', 8443)); print('up', flush=True); "
    "time.sleep(300)"
)
RULES = """
table inet filter {
  chain input {
    type filter hook input priority 0; policy drop;
    iif lo accept
    ip saddr 10.1.0.0/24 tcp dport 8443 accept
  }
}
"""


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Namespace, Namespace]]:
    """Two namespaces joined by a veth; the first has interfaces of many kinds and two routing tables."""
    with namespaces(2) as (one, two):
        one.ip(
            f"link add v0 index 20 type veth peer name v1 index 20 netns {two.name}",
            "link set v0 up mtu 1400",
            "addr add 10.1.0.1/24 dev v0",
            "addr add fd01::1/64 dev v0 nodad",
            "link add br0 type bridge",
            "link add m0 type veth peer name m1",
            "link set m0 master br0",
            "link set m0 up",
            "link set m1 up",
            "link set br0 up",
            "addr add 10.2.0.1/16 dev br0",
            "tuntap add t0 mode tun",
            "tuntap add t1 mode tap",
            "link set t0 up",
            "addr add 10.8.0.1 peer 10.8.0.2/32 dev t0",
        )
        for words in (
            ("add", "link", "v0", "name", VLAN, "type", "vlan", "id", "10"),
            ("set", VLAN, "up"),
            ("add", "link", "v0", "name", "mv0", "type", "macvlan"),
            ("set", "mv0", "netns", two.name),  # where v0's number is another's
        ):
            one.run("ip", "link", *words, check=False)  # not every kernel has these
        two.ip("link set v1 up", "addr add 10.1.0.2/24 dev v1", "addr add fd01::2/64 dev v1 nodad")
        one.ip(
            "route add default via 10.1.0.2 metric 50",
            "route add default via fd01::2",
            "route add 10.9.0.0/16 nexthop via 10.1.0.2 dev v0 nexthop via 10.2.0.9 dev br0 weight 2",
            "route add blackhole 10.66.0.0/16",
            "route add unreachable fd66::/32",
            "route add 10.5.0.0/16 via 10.1.0.2 table 100 src 10.1.0.1",
            "route add 10.6.0.0/16 via inet6 fd01::2 dev v0",
            "rule add from 10.3.0.0/16 table 100 priority 100",
            "rule add fwmark 0x1/0xff iif br0 table 100 priority 101",
            "rule add not to 10.4.0.0/16 ipproto tcp dport 80-90 table 100 priority 102",
            "rule add uidrange 1000-2000 unreachable priority 103",
            "rule add priority 104 goto 200",
            "rule add table main suppress_prefixlength 0 priority 200",
            "rule add fwmark 0/0x40 table 100 priority 105",
            "rule add tun_id 7 table 100 priority 106",
            "rule add l3mdev priority 1000",
            "route add 10.7.0.0/16 via 10.1.0.2 proto openr",
        )
        one.run("ip", "-6", "rule", "add", "from", "fd01::/64", "table", "100", "priority", "100")
        yield one, two


def seen(namespace: Namespace) -> list[Any]:
    look = look_at(Path("/"), "network")
    found = list(network.collect(look))
    assert not [one for one in look.unobserved if namespace.name in one.what]
    return [
        one for one in found if getattr(one, "namespace", None) == namespace.name or isinstance(one, Edge)
    ]


def test_interfaces_are_those_of_ip_with_their_addresses(pair: tuple[Namespace, Namespace]) -> None:
    for namespace in pair:
        wanted = ip_words.interfaces(namespace.told("-details", "address"))

        found = {
            one.name: ip_words.values(vars(one), ip_words.INTERFACE)
            for one in seen(namespace)
            if isinstance(one, NetworkInterface)
        }

        assert found == wanted


def test_routes_are_those_of_ip_in_every_table(pair: tuple[Namespace, Namespace]) -> None:
    for namespace in pair:
        wanted = set()
        for family, word in ip_words.FAMILIES.items():
            wanted |= ip_words.routes(
                family, namespace.told("-details", word, "route", "show", "table", "all")
            )

        found = {
            ip_words.values(vars(one), ip_words.ROUTE) for one in seen(namespace) if isinstance(one, Route)
        }

        assert found == wanted


def test_policy_rules_are_those_of_ip(pair: tuple[Namespace, Namespace]) -> None:
    one, _ = pair
    rules = [rule for rule in seen(one) if isinstance(rule, RoutingRule)]

    for family, words in (("ipv4", ["-4"]), ("ipv6", ["-6"])):
        told = one.told(*words, "rule")
        mine = [rule for rule in rules if rule.family == family]
        assert [(r["priority"], r.get("table", "")) for r in told] == [(r.priority, r.table) for r in mine]
    texts = {rule.priority: (rule.selector, rule.action) for rule in rules if rule.family == "ipv4"}
    assert texts[100] == ("from 10.3.0.0/16", None)
    assert texts[101] == ("fwmark 0x1/0xff iif br0", None)
    assert texts[102] == ("not to 10.4.0.0/16 ipproto 6 dport 80-90", None)
    assert texts[103] == ("uidrange 1000-2000", "unreachable")
    assert texts[104] == ("", "goto 200")
    assert texts[105] == ("fwmark 0x0/0x40", None)
    assert texts[106] == ("tun_id 7", None)
    assert texts[200] == ("suppress_prefixlength 0", None)
    assert texts[1000] == ("", "lookup [l3mdev-table]")


def test_every_route_leads_out_of_an_interface_that_is_there(pair: tuple[Namespace, Namespace]) -> None:
    found = seen(pair[0])
    ids = {one.node_id for one in found if not isinstance(one, Edge)}

    ways = [one for one in found if isinstance(one, Edge) and one.start in ids]

    assert {edge.end for edge in ways} <= ids
    assert len(ways) == len({r.node_id for r in found if isinstance(r, Route) and r.interface})


def test_psutil_tells_the_same_interfaces_where_there_is_no_netlink(
    pair: tuple[Namespace, Namespace],
) -> None:
    code = (
        "import json; from watchman_mcp.machine.interfaces import listed; "
        "print(json.dumps({n: [o.up, o.mtu, o.networks] for n, o in listed().items()}))"
    )
    told = pair[1].run(sys.executable, "-c", code).stdout
    wanted = {one.name: one for one in seen(pair[1]) if isinstance(one, NetworkInterface)}

    for name, (up, mtu, networks) in json.loads(told).items():
        assert (up, mtu) == (wanted[name].state == "UP", wanted[name].mtu)
        assert set(networks) == set(wanted[name].networks or [])
    assert interfaces.has_netlink()


# Live


@pytest.fixture
def session(pair: tuple[Namespace, Namespace], tmp_path: Path) -> Iterator[Session]:
    """A client of a daemon that lives in the first namespace."""
    home = Home(tmp_path / "home")
    program = (*PROGRAM, "serve", "--stdio")
    client = home.client(("/usr/sbin/ip", "netns", "exec", pair[0].name, *program), env={"PATH": os.defpath})
    yield client
    client.finish()


SIGNALLED = 15
"""Seconds that a change which the kernel signals is waited for: far below the interval, and long enough for
the first looks of others, which may go on meanwhile. How long each took is printed."""


@pytest.fixture
def alone(pair: tuple[Namespace, Namespace], tmp_path: Path) -> Iterator[Session]:
    """The same, of a daemon that sees no other namespace: other tests change theirs by the dozen."""
    home = Home(tmp_path / "home")
    own = ("--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc", "--kill-child")
    hide = ("sh", "-c", 'mount -t tmpfs tmpfs /run/netns && exec "$@"', "sh")
    program = ("unshare", *own, *hide, *PROGRAM, "serve", "--stdio")
    client = home.client(("/usr/sbin/ip", "netns", "exec", pair[0].name, *program), env={"PATH": os.defpath})
    yield client
    client.finish()


def test_a_change_by_hand_is_told_at_once(pair: tuple[Namespace, Namespace], alone: Session) -> None:
    one, session = pair[0], alone
    for question in ("network_status", "query_packages"):  # the first looks are over
        session.call(question)
    steps = [
        ("addr add 10.7.0.1/24 dev br0", "interface_changed", "br0"),
        ("link set br0 down", "interface_down", "br0"),
        ("link set br0 up", "interface_up", "br0"),
        ("link add late type bridge", "interface_appeared", "late"),
        ("link del late", "interface_vanished", "late"),
        ("route add 10.99.0.0/16 via 10.1.0.2", "route_appeared", "10.99.0.0/16"),
        ("route del 10.99.0.0/16", "route_vanished", "10.99.0.0/16"),
        ("rule add from 10.44.0.0/16 table 100 priority 144", "route_appeared", "from 10.44.0.0/16"),
    ]
    delays = []
    for command, kind, subject in steps:

        def told(kind: str = kind, subject: str = subject) -> bool:
            items = session.call("what_changed", kind="network", since="5m", limit=200)["items"]
            return any(item["type"] == kind and subject in item["subject"] for item in items)

        one.ip(command)
        delays.append(delay_until(told, SIGNALLED, command))
    print("told after:", ", ".join(f"{one.seconds:.2f}" for one in delays), "s")


def test_a_rule_of_the_firewall_is_told_at_once_and_changes_who_can_reach_a_port(
    pair: tuple[Namespace, Namespace], session: Session
) -> None:
    one = pair[0]
    need_programs("nftables", "nft", how="apt-get install nftables")
    with subprocess.Popen(one.words(sys.executable, "-c", LISTENER), stdout=subprocess.PIPE) as server:
        assert server.stdout is not None and server.stdout.readline() == b"up\n"
        session.call("scan", area="ports")

        def exposure() -> str:
            ports = session.call("network_status", port=8443).get("ports", [])
            return str(ports[0]["exposure"]) if ports else ""

        def told(kind: str) -> bool:
            items = session.call("what_changed", kind="firewall", since="5m")["items"]
            return any(item["type"] == kind for item in items)

        delay_until(lambda: exposure() == "internet", SIGNALLED, "an open port")
        one.run("nft", "-f", "-", input=RULES)
        delays = [delay_until(lambda: told("firewall_appeared"), SIGNALLED, "a new rule")]
        delays.append(delay_until(lambda: exposure() == "lan", SIGNALLED, "a port for one network"))
        rules = session.call("network_status", view="firewall", port=8443)
        own = [item for item in rules["firewall"] if "namespace" not in item]
        assert [item["rule"] for item in own if item["applies"] == "port 8443"] == [
            "ip saddr 10.1.0.0/24 tcp dport 8443 accept"
        ]
        one.run("nft", "flush", "ruleset")
        delays.append(delay_until(lambda: told("firewall_vanished"), SIGNALLED, "a flush"))
        delay_until(lambda: exposure() == "internet", SIGNALLED, "an open port again")
        server.kill()
    print("told after:", ", ".join(f"{one.seconds:.2f}" for one in delays), "s")


def test_the_answers_name_what_ip_names(pair: tuple[Namespace, Namespace], session: Session) -> None:
    answer = session.call("network_status", view="interfaces")
    assert {item["name"] for item in answer["interfaces"] if "namespace" not in item} == {
        one["ifname"] for one in pair[0].told("link")
    }
    routes = session.call("network_status", view="routes", limit=200)
    assert "ipv4: via 10.1.0.2 on v0 metric 50" in routes["default_route"]
    assert any(item.get("priority") == 100 for item in routes["routes"])
    summary = session.call("network_status")
    assert summary["default_route"] == routes["default_route"]
    answer = session.call("network_status", view="interfaces", interface="br0")
    assert [(item["name"], item["kind"]) for item in answer["interfaces"]] == [("br0", "bridge")]


def test_an_ordinary_user_sees_the_same_interfaces(pair: tuple[Namespace, Namespace]) -> None:
    code = BECOME + (
        "from pathlib import Path; from tests.collectors.test_cases import look_at\n"
        "from watchman_mcp.collectors import network; look = look_at(Path('/'), 'network'); become(65534)\n"
        "print(sorted(o.name for o in network.collect(look) if type(o).__name__ == 'NetworkInterface' "
        "and o.namespace is None)); print([u.what for u in look.unobserved])"
    )
    done = subprocess.run(
        pair[0].words(sys.executable, "-c", code),
        capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2], check=True,
    )  # fmt: skip

    names, unseen = done.stdout.splitlines()

    assert names == str(sorted(one["ifname"] for one in pair[0].told("link")))
    assert "network:namespaces" in unseen
