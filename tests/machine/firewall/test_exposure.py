"""Who can reach what listens, on firewalls as nft and iptables tell them."""

import json
from dataclasses import replace
from typing import Any

import pytest

from watchman_mcp.errors import Broken
from watchman_mcp.machine import netlink
from watchman_mcp.machine.firewall.evaluate import decide
from watchman_mcp.machine.firewall.exposure import Endpoint, Interface, Verdict, exposure
from watchman_mcp.machine.firewall.iptables import read_save
from watchman_mcp.machine.firewall.model import IPTABLES, Firewall
from watchman_mcp.machine.firewall.nft import read_ruleset
from watchman_mcp.machine.firewall.packet import Packet
from watchman_mcp.machine.firewall.places import places
from watchman_mcp.machine.firewall.spans import of_address

OUT = Interface("eth0", ("192.168.1.5/24",), "ethernet", ("default",))
NEAR = Interface("eth1", ("10.8.0.1/24",), "ethernet")
SSH = Endpoint("tcp", "0.0.0.0", 22)
ACCEPT, DROP = {"accept": None}, {"drop": None}
OPAQUE = {"xt": {"type": "match", "name": "geoip"}}
PORT_22 = {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 22}}


def source(value: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": value}}


def network(address: str, length: int) -> dict[str, Any]:
    return {"prefix": {"addr": address, "len": length}}


def nft(*rules: list[Any], policy: str = "accept", more: tuple[dict[str, Any], ...] = ()) -> Firewall:
    where = {"family": "inet", "table": "t"}
    chain = {**where, "name": "in", "type": "filter", "hook": "input", "prio": 0, "policy": policy}
    objects: list[dict[str, Any]] = [{"table": {"family": "inet", "name": "t"}}, {"chain": chain}, *more]
    objects += [
        {"rule": {**where, "chain": "in", "handle": number, "expr": rule}}
        for number, rule in enumerate(rules)
    ]
    firewall = Firewall()
    chains, unread = read_ruleset(json.dumps({"nftables": objects}))
    assert unread == 0
    firewall.add(chains)
    return firewall


def seen(firewall: Firewall, endpoint: Endpoint = SSH) -> Verdict:
    return exposure(firewall, [Interface("lo", ("127.0.0.1/8",)), OUT, NEAR], endpoint)


def test_without_a_firewall_the_internet_reaches_what_listens_everywhere() -> None:
    verdict = seen(Firewall())

    assert verdict.exposure == "internet"
    assert "no rule and no policy of a firewall stands in the way" in verdict.reasons


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"])
def test_what_listens_on_the_loopback_is_reached_from_nowhere_else(address: str) -> None:
    assert seen(Firewall(), Endpoint("tcp", address, 22)).exposure == "loopback"


def test_a_policy_of_drop_blocks_what_no_rule_accepts() -> None:
    verdict = seen(nft(policy="drop"))

    assert (verdict.exposure, verdict.rules) == ("blocked", [])
    assert "nftables inet t in: policy drop" in verdict.reasons


def test_what_private_networks_alone_may_reach_is_for_the_lan() -> None:
    verdict = seen(nft([PORT_22, source(network("10.0.0.0", 8)), ACCEPT], policy="drop"))

    assert verdict.exposure == "lan"
    assert [rule.text for rule in verdict.rules] == ["tcp dport 22 ip saddr 10.0.0.0/8 accept"]


def test_one_public_network_is_internet_and_is_named() -> None:
    verdict = seen(nft([source(network("203.0.113.0", 24)), ACCEPT], policy="drop"))

    assert verdict.exposure == "internet"
    assert verdict.reasons[0] == "eth0, IPv4: open to 203.0.113.0/24"


def test_a_machine_that_no_default_route_leads_from_is_reached_by_its_networks_only() -> None:
    assert exposure(Firewall(), [NEAR], SSH).exposure == "lan"


def test_an_interface_that_is_not_the_bound_one_does_not_count() -> None:
    assert seen(Firewall(), Endpoint("tcp", "0.0.0.0", 22, "eth1")).exposure == "lan"
    assert seen(Firewall(), Endpoint("tcp", "0.0.0.0", 22, "wlan0")).exposure == "unknown"


def test_a_condition_that_cannot_be_told_makes_the_answer_unknown_where_it_decides() -> None:
    assert seen(nft([OPAQUE, DROP])).exposure == "unknown"
    assert seen(nft([OPAQUE, ACCEPT], policy="drop")).exposure == "unknown"


def test_a_condition_that_cannot_be_told_does_no_harm_where_it_decides_nothing() -> None:
    assert seen(nft([OPAQUE, DROP], policy="drop")).exposure == "blocked"
    assert seen(nft([OPAQUE, ACCEPT])).exposure == "internet"
    assert seen(nft([ACCEPT], [OPAQUE, DROP])).exposure == "internet"
    assert seen(nft([source(network("10.0.0.0", 8)), OPAQUE, ACCEPT], [DROP])).exposure == "unknown"


def test_a_limit_keeps_nobody_out() -> None:
    limit = {"limit": {"rate": 3, "burst": 5, "per": "minute"}}
    over = {"limit": {"rate": 3, "burst": 5, "per": "minute", "inv": True}}

    assert seen(nft([PORT_22, limit, ACCEPT], policy="drop")).exposure == "internet"
    assert seen(nft([PORT_22, over, DROP])).exposure == "internet"
    assert seen(nft([PORT_22, limit, DROP])).exposure == "unknown"
    assert seen(nft([limit, DROP], policy="drop")).exposure == "blocked"


def test_a_part_that_could_not_be_read_makes_open_unknown_but_not_shut() -> None:
    opened, shut = nft(), nft(policy="drop")
    opened.unseen["iptables"] = shut.unseen["iptables"] = "may not be read by this user"

    assert seen(opened).exposure == "unknown"
    assert "iptables: may not be read by this user" in seen(opened).reasons
    assert seen(shut).exposure == "blocked"


def test_a_packet_must_pass_nftables_and_legacy_iptables() -> None:
    firewall = nft([ACCEPT])
    firewall.add(read_save("*filter\n:INPUT DROP\n-A INPUT -p udp -j ACCEPT\nCOMMIT\n", IPTABLES, "ip")[0])

    assert seen(firewall).exposure == "blocked"
    assert seen(firewall, Endpoint("udp", "0.0.0.0", 22)).exposure == "internet"


def test_a_table_that_is_switched_off_decides_nothing() -> None:
    firewall = nft(policy="drop")
    for chain in firewall.chains.values():
        chain.dormant = True

    assert seen(firewall).exposure == "internet"


@pytest.mark.parametrize(
    ("expression", "below", "exposed"),
    [
        ([PORT_22, DROP], ("port0", "eth9"), "unknown"),
        ([OPAQUE], ("port0",), "unknown"),
        ([PORT_22, ACCEPT], ("port0",), "internet"),
        ([PORT_22, DROP], ("port1",), "internet"),
        ([PORT_22, DROP], (), "internet"),
        ([PORT_22, DROP], None, "unknown"),
    ],
)
def test_what_may_be_shut_out_before_it_comes_to_an_interface_is_not_told_to_be_open(
    expression: list[Any], below: tuple[str, ...] | None, exposed: str
) -> None:
    """None: it is not told of which device the chain is."""
    where = {"family": "netdev", "table": "early"}
    hook = {"type": "filter", "hook": "ingress", "prio": 0, "policy": "accept"}
    hook |= {} if below is None else {"dev": "port0"}
    firewall = nft(
        more=(
            {"table": {"family": "netdev", "name": "early"}},
            {"chain": {**where, "name": "c", **hook}},
            {"rule": {**where, "chain": "c", "handle": 1, "expr": expression}},
        )
    )

    verdict = exposure(firewall, [replace(OUT, below=below or ())], SSH)

    assert verdict.exposure == exposed
    assert ("early c" in " ".join(verdict.reasons)) == (exposed == "unknown")


def test_packets_come_by_all_that_an_interface_is_made_of() -> None:
    def link(name: str, kind: str, master: str | None = None, parent: str | None = None) -> netlink.Interface:
        return netlink.Interface(1, name, "UP", kind, None, 1500, [], master, parent, None)

    links = [
        link("eth0", "ethernet", "bond0"),
        link("eth1", "ethernet", "bond0"),
        link("bond0", "bond"),
        link("bond0.7", "vlan", parent="bond0"),
        link("gre1", "gre", parent="bond0"),
        link("loop", "vlan", parent="loop"),
    ]

    found = {one.name: set(one.below) for one in places(netlink.Network(links, [], []))}

    assert found == {
        "bond0": {"eth0", "eth1"},
        "bond0.7": {"bond0", "eth0", "eth1"},
        "gre1": set(),
        "loop": {"loop"},
    }


def test_what_is_handed_on_to_a_container_is_reached_through_the_forward_chain() -> None:
    text = (
        "*nat\n:PREROUTING ACCEPT\n:DOCKER -\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n"
        "-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80\nCOMMIT\n"
        "*filter\n:INPUT DROP\n:FORWARD DROP\n:DOCKER -\n-A FORWARD -o docker0 -j DOCKER\n"
        "-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT\nCOMMIT\n"
    )
    firewall = Firewall()
    firewall.add(read_save(text, IPTABLES, "ip")[0])
    docker = Interface("docker0", ("172.17.0.1/16",), "bridge")

    assert exposure(firewall, [OUT, docker], Endpoint("tcp", "0.0.0.0", 8080)).exposure == "internet"
    assert exposure(firewall, [OUT, docker], Endpoint("tcp", "0.0.0.0", 8081)).exposure == "blocked"


def test_a_port_that_another_is_sent_to_is_open_where_the_other_is() -> None:
    text = (
        "*nat\n:PREROUTING ACCEPT\n-A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 8080\nCOMMIT\n"
        "*filter\n:INPUT DROP\n-A INPUT -p tcp --dport 8080 -m conntrack --ctstatus DNAT -j ACCEPT\nCOMMIT\n"
    )
    firewall = Firewall()
    firewall.add(read_save(text, IPTABLES, "ip")[0])

    assert seen(firewall, Endpoint("tcp", "0.0.0.0", 8080)).exposure == "internet"
    assert seen(firewall, Endpoint("tcp", "0.0.0.0", 80)).exposure == "blocked"


def test_ten_thousand_sources_are_told_apart() -> None:
    rules = [[source(f"1.{n >> 8}.{n & 255}.1"), DROP] for n in range(10_000)]
    firewall = nft(*rules, [source(network("1.0.0.0", 8)), ACCEPT], policy="drop")
    packet = Packet("eth0", 4, "tcp", 22, of_address("192.168.1.5"), frozenset({of_address("192.168.1.5")}))

    assert decide(firewall, packet, "1.2.3.1").verdict == "drop"
    assert decide(firewall, packet, "1.2.3.2").verdict == "accept"
    assert decide(firewall, packet, "2.2.3.2").verdict == "drop"
    assert seen(firewall).exposure == "internet"


def test_among_many_rules_those_of_a_port_keep_their_order() -> None:
    def port(number: int) -> dict[str, Any]:
        return {"match": {**PORT_22["match"], "right": number}}

    others = [[port(1000 + number), ACCEPT] for number in range(200)]
    firewall = nft(
        *others,
        [port(22), DROP],
        [source(network("10.0.0.0", 8)), ACCEPT],
        *others,
        [port(22), ACCEPT],
        policy="drop",
    )

    assert seen(firewall).exposure == "blocked"
    assert seen(firewall, Endpoint("tcp", "0.0.0.0", 1100)).exposure == "internet"
    assert seen(firewall, Endpoint("udp", "0.0.0.0", 1100)).exposure == "lan"
    assert seen(firewall, Endpoint("tcp", "0.0.0.0", 5)).exposure == "lan"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"nftables": 5}', "Error: nothing", "[" * 100_000])
def test_an_answer_of_another_shape_is_broken_not_empty(text: str) -> None:
    with pytest.raises(Broken):
        read_ruleset(text)


def test_a_rule_of_whose_extension_nft_tells_nothing_is_one_that_may_do_anything() -> None:
    assert seen(nft([{"xt": None}], policy="drop")).exposure == "unknown"


@pytest.mark.parametrize(
    "odd",
    [
        '"expr": [{"match": {"op": "==", "left": {}, "right": 1}}]',
        '"expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, '
        '"right": {"prefix": {"addr": "10.0.0.0", "len": 1e999}}}}]',
        '"expr": [' + "[" * 700 + "]" * 700 + "]",
        '"expr": [{"log": {"prefix": "\\ud800"}}]',
        '"expr": [{"counter": {"packets": "many"}}]',
        '"expr": [], "comment": 5',
        '"expr": [], "handle": ' + "9" * 20,
    ],
)
def test_a_rule_of_another_shape_is_told_as_it_can_be_or_counted(odd: str) -> None:
    chain = '{"chain": {"family": "ip", "table": "t", "name": "c"}}'
    rule = f'{{"rule": {{"family": "ip", "table": "t", "chain": "c", {odd}}}}}'

    chains, unread = read_ruleset(f'{{"nftables": [{chain}, {rule}]}}')
    Firewall().add(chains)

    assert sum(len(one.rules) for one in chains.values()) + unread == 1


@pytest.mark.parametrize("odd", [{"hook": []}, {"prio": "filter"}, {"policy": {}}, {"type": 5}])
def test_a_chain_of_another_shape_is_counted(odd: dict[str, Any]) -> None:
    chain = {"family": "ip", "table": "t", "name": "c", **odd}

    assert read_ruleset(json.dumps({"nftables": [{"chain": chain}]})) == ({}, 1)


def test_objects_that_are_not_understood_are_counted() -> None:
    chains, unread = read_ruleset(
        json.dumps({"nftables": [5, {"rule": {"expr": []}}, {"chain": {}}, {"x": 1}]})
    )

    assert (chains, unread) == ({}, 3)


def test_what_neighbours_ask_by_a_group_is_heard_where_the_rules_let_the_group_pass() -> None:
    group = {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}}}
    group["match"]["right"] = "224.0.0.251"
    firewall = nft([group, ACCEPT], policy="drop")

    assert seen(firewall, Endpoint("udp", "0.0.0.0", 5353)).exposure == "lan"
    assert seen(firewall, Endpoint("udp", "192.168.1.5", 5353)).exposure == "blocked"
    assert seen(firewall, Endpoint("udp", "0.0.0.0", 5354)).exposure == "blocked"
    assert seen(firewall, Endpoint("tcp", "0.0.0.0", 5353)).exposure == "blocked"


DNAT = """*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 8022 -j REDIRECT --to-ports 22
COMMIT
*filter
:INPUT DROP [0:0]
-A INPUT -m conntrack --ctstate {} -j ACCEPT
COMMIT
"""


@pytest.mark.parametrize(
    ("states", "exposed"),
    [
        ("DNAT", "internet"),
        ("RELATED,DNAT", "internet"),
        ("RELATED,SNAT", "blocked"),
        ("NEW,DNAT", "internet"),
    ],
)
def test_a_state_of_iptables_may_be_that_an_address_was_translated(states: str, exposed: str) -> None:
    firewall = Firewall()
    firewall.add(read_save(DNAT.format(states), IPTABLES, "ip")[0])

    assert seen(firewall).exposure == exposed
    # to port 80 nothing is sent
    other = seen(firewall, Endpoint("tcp", "0.0.0.0", 80)).exposure
    assert other == ("internet" if "NEW" in states else "blocked")
