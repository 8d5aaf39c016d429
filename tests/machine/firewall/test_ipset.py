"""Sets of ipset, as rules of iptables name them."""

import pytest

from watchman_mcp.machine.firewall.exposure import Endpoint, Interface, exposure
from watchman_mcp.machine.firewall.ipset import read_sets
from watchman_mcp.machine.firewall.iptables import read_save
from watchman_mcp.machine.firewall.model import IPTABLES, Condition, Firewall, Opaque, Part
from watchman_mcp.machine.firewall.spans import of_address, of_network
from watchman_mcp.machine.firewall.summary import summary

SAVED = """create banned hash:ip family inet hashsize 1024 maxelem 65536 timeout 600 comment bucketsize 12
add banned 198.51.100.7 timeout 599 comment "said nomatch"
add banned 198.51.100.9 timeout 12
create nets hash:net family inet hashsize 1024 maxelem 65536
add nets 10.0.0.0/8
create nets6 hash:net family inet6 hashsize 1024 maxelem 65536
add nets6 2001:db8::/32
create block bitmap:ip range 192.168.0.0-192.168.255.255 netmask 24
add block 192.168.4.0
create pairs hash:ip,port family inet hashsize 1024 maxelem 65536
add pairs 192.0.2.1,tcp:80
add pairs 192.0.2.1,icmp:echo-request
create ports bitmap:port range 0-1024
add ports 22
create holes hash:net family inet hashsize 1024 maxelem 65536
add holes 8.8.0.0/16 nomatch
add holes 8.0.0.0/8
create cards hash:mac hashsize 1024 maxelem 65536
add cards 01:02:03:04:05:06
create ways hash:net,iface family inet hashsize 1024 maxelem 65536
add ways 10.0.0.0/8,eth0
create all list:set size 8
add all banned
add all nets
create loop list:set size 8
add loop loop
"""


def parts(match: str, family: str = "ip", text: str = SAVED) -> tuple[Part, ...]:
    sets, unread = read_sets(text)
    assert unread == 0
    saved = f"*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {match}\nCOMMIT\n"
    ((chain,), _) = (lambda read: (read[0].values(), read[1]))(read_save(saved, IPTABLES, family, sets))
    return chain.rules[0].parts


BANNED = ((of_address("198.51.100.7"),) * 2, (of_address("198.51.100.9"),) * 2)
PORT = ((frozenset({"tcp"}),), ((80, 80),))


@pytest.mark.parametrize(
    ("match", "condition"),
    [
        ("--match-set banned src", Condition(("ip saddr",), ((BANNED,),))),
        ("! --match-set nets dst", Condition(("ip daddr",), ((of_network("10.0.0.0/8"),),), True)),
        ("--set ! nets src", Condition(("ip saddr",), ((of_network("10.0.0.0/8"),),), True)),
        ("--match-set nets6 src", Condition(("ip saddr",), (((),),))),
        ("--match-set block src", Condition(("ip saddr",), ((of_network("192.168.4.0/24"),),))),
        ("--match-set ports dst", Condition(("th dport",), ((((22, 22),),),))),
        (
            "--match-set ways src,src",
            Condition(("ip saddr", "iif"), ((of_network("10.0.0.0/8"), ("eth0",)),)),
        ),
        ("--match-set all src", Condition(("ip saddr",), (((*of_network("10.0.0.0/8"), *BANNED),),))),
        (
            "--match-set nets src ! --update-counters",
            Condition(("ip saddr",), ((of_network("10.0.0.0/8"),),)),
        ),
    ],
)
def test_a_packet_is_in_a_set_by_the_side_that_the_rule_names(match: str, condition: Condition) -> None:
    assert parts(f"-m set {match}") == (condition,)


def test_a_pair_is_an_address_with_a_port_of_a_protocol() -> None:
    (condition,) = parts("-m set --match-set pairs dst,dst")

    assert isinstance(condition, Condition)
    assert condition.fields == ("ip daddr", "protocol", "th dport")
    assert condition.elements[0] == (of_network("192.0.2.1"), frozenset({"tcp"}), ((80, 80),))


@pytest.mark.parametrize(
    "match",
    [
        "--match-set holes src",
        "--match-set cards src",
        "--match-set loop src",
        "--match-set gone src",
        "--match-set pairs dst",
        "--match-set nets src --return-nomatch",
        "--match-set nets src --packets-gt 3",
        "--match-set nets",
    ],
)
def test_a_set_that_cannot_be_told_may_have_the_packet_or_not(match: str) -> None:
    assert parts(f"-m set {match}") == (Opaque(f"-m set {match}"),)


def test_an_address_of_another_version_than_its_set_is_not_told() -> None:
    text = "create nets hash:net family inet\nadd nets 2001:db8::/32\n"

    assert parts("-m set --match-set nets src", text=text) == (Opaque("-m set --match-set nets src"),)


def test_a_line_that_is_not_understood_is_counted() -> None:
    assert read_sets(SAVED + "add nowhere 1.2.3.4\ndestroy nets\n")[1] == 2


def test_who_is_banned_does_not_hide_that_the_rest_of_the_internet_comes_in() -> None:
    saved = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m set --match-set banned src -j DROP\nCOMMIT\n"
    firewall = Firewall()
    firewall.add(read_save(saved, IPTABLES, "ip", read_sets(SAVED)[0])[0])
    out = Interface("eth0", ("192.0.2.1/24",), "ethernet", ("default",))

    assert exposure(firewall, [out], Endpoint("tcp", "0.0.0.0", 22)).exposure == "internet"
    (rule,) = (rule for chain in firewall.chains.values() for rule in chain.rules)
    assert summary(rule).source == "198.51.100.7, 198.51.100.9"
