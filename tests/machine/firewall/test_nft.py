"""What nft writes as JSON, from version to version."""

import json
from typing import Any

import pytest

from watchman_mcp.machine.firewall.evaluate import decide
from watchman_mcp.machine.firewall.exposure import Endpoint, Interface, exposure
from watchman_mcp.machine.firewall.model import Chain, ChainId, Condition, Firewall, Opaque, Rule, Verdict
from watchman_mcp.machine.firewall.nft import read_ruleset
from watchman_mcp.machine.firewall.packet import Packet
from watchman_mcp.machine.firewall.spans import of_address

WHERE = {"family": "inet", "table": "t"}
TABLE = {"table": {"family": "inet", "name": "t", "handle": 1}}
INPUT = {"chain": {**WHERE, "name": "in", "type": "filter", "hook": "input", "prio": 0, "policy": "accept"}}
HERE = of_address("192.0.2.1")
OUT = Interface("eth0", ("192.0.2.1/24",), "ethernet", ("default",))
SSH = Packet("eth0", 4, "tcp", 22, HERE, frozenset({HERE}))
ACCEPT, DROP = {"accept": None}, {"drop": None}


def chains(*rules: list[Any], more: tuple[dict[str, Any], ...] = (), new: bool = True) -> list[Chain]:
    objects: list[dict[str, Any]] = [{"metainfo": {"version": "1.1.4"}}] if new else []
    objects += [TABLE, INPUT, *more]
    objects += [{"rule": {**WHERE, "chain": "in", "handle": 4, "expr": rule}} for rule in rules]
    found, unread = read_ruleset(json.dumps({"nftables": objects}))
    assert unread == 0
    return list(found.values())


def rules(*given: list[Any], more: tuple[dict[str, Any], ...] = (), new: bool = True) -> list[Rule]:
    return chains(*given, more=more, new=new)[0].rules


def verdict(found: list[Chain], packet: Packet = SSH) -> str:
    firewall = Firewall()
    firewall.add({chain.id: chain for chain in found})
    return decide(firewall, packet, "198.51.100.7").verdict


def test_the_words_of_nft_0_9_0_are_those_of_later_ones() -> None:
    port = {"match": {"left": {"payload": {"name": "tcp", "field": "dport"}}, "right": {"set": [22, 80]}}}
    inside = {"match": {"left": {"meta": "iifname"}, "right": "eth1"}}
    state = {"match": {"left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}
    source = {"payload": {"name": "ip", "field": "saddr"}}
    known = {"vmap": {"left": source, "right": {"set": [["192.0.2.9", DROP]]}}}
    mark = {"mangle": {"left": {"meta": "mark"}, "right": 1}}

    found = rules([state, ACCEPT], [inside, port, ACCEPT], [known], [mark], new=False)

    assert [rule.text for rule in found] == [
        "ct state established,related accept",
        'iifname "eth1" tcp dport { 22, 80 } accept',
        "ip saddr vmap { 192.0.2.9 : drop }",
        "meta mark set 0x00000001",
    ]
    assert not any(isinstance(part, Opaque) for rule in found for part in rule.parts)
    assert all(part != Verdict("unknown") for rule in found for part in rule.parts)


def test_the_only_flag_of_a_route_is_a_word_in_nft_1_1_4_and_a_list_in_others() -> None:
    def local(flags: Any) -> dict[str, Any]:
        left = {"fib": {"result": "type", "flags": flags}}
        return {"match": {"op": "==", "left": left, "right": "local"}}

    word, many = rules([local("daddr"), ACCEPT], [local(["daddr"]), ACCEPT])

    assert (
        word.parts
        == many.parts
        == (
            Condition(("daddrtype",), ((frozenset({"local"}),),)),
            Verdict("accept"),
        )
    )


def test_a_route_out_of_an_interface_of_a_name_is_no_check_of_the_way_back() -> None:
    left = {"fib": {"result": "oif", "flags": ["saddr", "iif"]}}
    named, missing = rules(
        [{"match": {"op": "==", "left": left, "right": "eth0"}}, DROP],
        [{"match": {"op": "==", "left": left, "right": False}}, DROP],
    )

    assert isinstance(named.parts[0], Opaque)
    assert missing.parts[0] == Condition(("rpf",), ((frozenset({"missing"}),),))


LIMIT = {"limit": {"rate": 3, "burst": 5, "per": "minute", "inv": True}}
SOURCE = {"payload": {"protocol": "ip", "field": "saddr"}}


@pytest.mark.parametrize(
    "statement",
    [
        {"meter": {"name": "m", "size": 65535, "key": SOURCE, "stmt": LIMIT}},
        {"set": {"op": "add", "elem": SOURCE, "set": "@m", "stmt": [LIMIT]}},
        {"set": {"op": "add", "elem": SOURCE, "set": "@m", "stmt": LIMIT}},
        {"map": {"op": "add", "elem": SOURCE, "data": 1, "map": "@m", "stmt": [LIMIT]}},
        {"limit": "over"},
    ],
)
def test_a_limit_of_each_address_is_a_limit(statement: dict[str, Any]) -> None:
    over = {"limit": {**WHERE, "name": "over", "rate": 3, "per": "minute", "inv": True}}

    (rule,) = rules([statement, DROP], more=(over,))

    assert [part.within for part in rule.parts if isinstance(part, Opaque)] == [False]
    assert rule.parts[-1] == Verdict("drop")


@pytest.mark.parametrize(
    "statement",
    [
        {"set": {"op": "add", "elem": SOURCE, "set": "@m", "stmt": [{"counter": None}]}},
        {"map": {"op": "update", "elem": SOURCE, "data": 1, "map": "@m"}},
        {"reset": {"tcp option": {"name": "timestamp"}}},
    ],
)
def test_what_only_takes_notes_or_changes_options_decides_nothing(statement: dict[str, Any]) -> None:
    (rule,) = rules([statement, ACCEPT])

    assert rule.parts == (Verdict("accept"),)


def test_flags_that_are_less_than_one_are_none() -> None:
    left = {"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, ["fin", "syn"]]}

    found = chains([{"match": {"op": "<", "left": left, "right": "fin"}}, DROP])

    assert found[0].rules[0].text == "tcp flags < fin / fin,syn drop"
    assert verdict(found) == "accept"


def test_a_chain_of_devices_that_begin_alike_sees_what_they_take() -> None:
    where = {"family": "netdev", "table": "t"}
    more = (
        {"table": {"family": "netdev", "name": "t"}},
        {
            "chain": {
                **where,
                "name": "early",
                "type": "filter",
                "hook": "ingress",
                "dev": "eth*",
                "prio": 0,
                "policy": "drop",
            }
        },
    )

    found = chains(more=more)

    assert found[1].id == ChainId("nftables", "netdev", "t", "early")
    assert verdict(found) == "drop"
    assert verdict(found, Packet("wlan0", 4, "tcp", 22, HERE, frozenset({HERE}))) == "accept"


def field(protocol: str, name: str) -> dict[str, Any]:
    return {"payload": {"protocol": protocol, "field": name}}


FLAGS = field("tcp", "flags")
FRAGMENTED = {"match": {"op": "!=", "left": {"&": [field("ip", "frag-off"), 0x1FFF]}, "right": 0}}
SMALL = {"tcp option": {"name": "maxseg", "field": "size"}}


@pytest.mark.parametrize(
    "condition",
    [
        FRAGMENTED,
        {"match": {"op": "==", "left": FLAGS, "right": {"set": [{"|": ["syn", "ack"]}, ["fin", "psh"]]}}},
        {"match": {"op": "==", "left": {"fib": {"result": "type", "flags": ["saddr"]}}, "right": "local"}},
        {"match": {"op": "==", "left": {"ip option": {"name": "ssrr"}}, "right": True}},
        {"match": {"op": "==", "left": {"exthdr": {"name": "rt", "field": "type"}}, "right": 0}},
        {"match": {"op": "!=", "left": {"exthdr": {"name": "hbh"}}, "right": False}},
        {"match": {"op": "in", "left": SMALL, "right": {"range": [1, 500]}}},
    ],
)
def test_what_keeps_odd_packets_out_does_not_keep_usual_ones_out(condition: dict[str, Any]) -> None:
    found = Firewall()
    found.add({chain.id: chain for chain in chains([condition, DROP])})

    assert exposure(found, [OUT], Endpoint("tcp", "0.0.0.0", 22)).exposure == "internet"


@pytest.mark.parametrize(
    "condition",
    [
        {"match": {"op": "!=", "left": field("ip", "frag-off"), "right": 0}},
        {"match": {"op": "==", "left": {"&": [field("ip", "frag-off"), 0x7FFF]}, "right": 0}},
        {"match": {"op": "==", "left": {"fib": {"result": "type", "flags": "saddr"}}, "right": "blackhole"}},
        {"match": {"op": ">", "left": SMALL, "right": 500}},
        {"match": {"op": "==", "left": FLAGS, "right": {"set": ["syn", {"range": [1, 2]}]}}},
    ],
)
def test_what_usual_packets_may_have_is_not_known(condition: dict[str, Any]) -> None:
    assert verdict(chains([condition, DROP])) == "unknown"


def match(left: Any, right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ({"log": {"flags": ["tcp sequence", "tcp options"]}}, "log flags tcp sequence,options"),
        ({"log": {"prefix": "a ", "flags": ["skuid", "ether"]}}, 'log prefix "a " flags skuid flags ether'),
        (
            {"synproxy": {"mss": 1460, "wscale": 7, "flags": ["timestamp"]}},
            "synproxy mss 1460 wscale 7 timestamp",
        ),
        ({"synproxy": None}, "synproxy"),
        (
            {
                "meter": {
                    "name": "m",
                    "size": 9,
                    "key": field("ip", "saddr"),
                    "stmt": {"ct count": {"val": 3}},
                }
            },
            "meter m size 9 { ip saddr ct count 3 }",
        ),
        ({"ct expectation": "e"}, 'ct expectation set "e"'),
        (match({"ip option": {"name": "ssrr"}}, True), "ip option ssrr exists"),
        (match({"meta": {"key": "ipsec"}}, False), "meta ipsec missing"),
        (
            match({"ipsec": {"key": "saddr", "family": "ip", "dir": "in"}}, "1.2.3.4"),
            "ipsec in ip saddr 1.2.3.4",
        ),
        (match({"osf": {"key": "name"}}, "Linux"), 'osf name "Linux"'),
        (match({"meta": {"key": "iifgroup"}}, "default"), 'iifgroup "default"'),
        (
            {"dnat": {"addr": "10.0.0.0", "family": "ip", "flags": "netmap", "type_flags": "prefix"}},
            "dnat ip prefix to 10.0.0.0",
        ),
    ],
)
def test_rare_statements_are_written_as_nft_writes_them(statement: dict[str, Any], text: str) -> None:
    (rule,) = rules([statement])

    assert rule.text == text


@pytest.mark.parametrize("told", [{"key": "ip daddr"}, {"key": "daddr", "family": "ip"}])
@pytest.mark.parametrize(("address", "said"), [("192.0.2.1", "drop"), ("192.0.2.2", "accept")])
def test_the_address_that_a_connection_was_opened_to_is_compared(told: Any, address: str, said: str) -> None:
    opened = {"ct": {"dir": "original", **told}}

    assert verdict(chains([match(opened, address), DROP])) == said


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("others", [0, 20])
@pytest.mark.parametrize(("address", "said"), [("198.51.100.0", "accept"), ("203.0.113.0", "drop")])
def test_what_no_other_element_of_a_map_is_has_the_verdict_of_all_others(
    named: bool, others: int, address: str, said: str
) -> None:
    elements: list[Any] = [[{"prefix": {"addr": address, "len": 24}}, ACCEPT], ["*", DROP]]
    elements += [[f"192.0.2.{number}", ACCEPT] for number in range(others)]
    known = {"map": {**WHERE, "name": "m", "type": "ipv4_addr", "map": "verdict", "elem": elements}}
    choice = {"vmap": {"key": SOURCE, "data": "@m" if named else {"set": elements}}}
    six = Packet("eth0", 6, "tcp", 22, HERE, frozenset({HERE}))
    found = chains([choice], more=(known,))
    firewall = Firewall()
    firewall.add({chain.id: chain for chain in found})

    assert verdict(found) == said
    # a packet of IPv6 has no such source, and is not looked up
    assert decide(firewall, six, "2001:db8::7").verdict == "accept"


def test_a_counter_below_nothing_is_not_understood() -> None:
    rule = {"rule": {**WHERE, "chain": "in", "handle": 4, "expr": [{"counter": {"packets": -1, "bytes": 0}}]}}

    assert read_ruleset(json.dumps({"nftables": [TABLE, INPUT, rule]}))[1] == 1
