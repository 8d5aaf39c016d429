"""The readers of firewalls and of the programs that make their rules."""

import json
from collections.abc import Callable
from typing import Any

from tests.fuzz.reading import Reader, of_text, text_of
from tests.machine.firewall.test_ipset import SAVED as IPSETS
from tests.machine.firewall.test_iptables import SAVED
from tests.machine.firewall.test_managers import WORK
from watchman_mcp.errors import Broken
from watchman_mcp.machine.firewall import managers, nft, nft_devices, spans, zones
from watchman_mcp.machine.firewall.evaluate import decide
from watchman_mcp.machine.firewall.ipset import read_sets
from watchman_mcp.machine.firewall.iptables import read_save
from watchman_mcp.machine.firewall.model import IPTABLES, Chain, ChainId, Firewall
from watchman_mcp.machine.firewall.packet import Packet
from watchman_mcp.machine.firewall.summary import summary

BIGGEST = 2**63 - 1
"""The largest number that can be kept."""
WORDS = ("accept", "drop", "reject", "unknown")
HERE = spans.of_address("192.168.1.5")
HERE_V6 = spans.of_address("2001:db8::5")
PACKETS = (
    (Packet("eth0", 4, "tcp", 22, HERE, frozenset({HERE})), "198.51.100.7"),
    (Packet("eth0", 6, "udp", 53, HERE_V6, frozenset({HERE_V6})), "2001:db8::7"),
)
_MORE = (
    b"*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp --dport 53 -j CT --notrack\nCOMMIT\n"
    b"*nat\n:PREROUTING ACCEPT [1:60]\n:DOCKER - [0:0]\n"
    b"-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n"
    b"-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80\n"
    b"-A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 8080\nCOMMIT\n"
    b"*mangle\n:INPUT ACCEPT [0:0]\n-A INPUT -m mark --mark 0x1/0xff -j MARK --set-xmark 0x2/0xff\n"
    b"-A INPUT -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff\nCOMMIT\n",
    b"*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo+ -f -j ACCEPT\n"
    b"-A INPUT -p tcp -m tcp --tcp-flags SYN,ACK SYN -m recent --update --seconds 9 --hitcount 4 --name S "
    b"-j DROP\n-A INPUT -m iprange --src-range 10.0.0.1-10.0.0.9 -m limit --limit 3/min -j LOG\n"
    b"-A INPUT -m hashlimit --hashlimit-above 9/sec --hashlimit-name x -m connlimit --connlimit-upto 3 "
    b"-j DROP\n"
    b"-A INPUT -m state --state NEW,RELATED -m pkttype --pkt-type host -m rpfilter --invert -g INPUT\n"
    b"COMMIT\n",
)
_WHERE: dict[str, Any] = {"family": "inet", "table": "t"}
_CHAIN = {**_WHERE, "name": "in", "handle": 1, "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}


def _of(*expr: Any, **more: Any) -> dict[str, Any]:
    return {"rule": {**_WHERE, "chain": "in", "handle": 5, "expr": expr, **more}}


def _is(field: Any, right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": field, "right": right}}


def _field(protocol: str, name: str) -> dict[str, Any]:
    return {"payload": {"protocol": protocol, "field": name}}


_NET = {"prefix": {"addr": "10.0.0.0", "len": 8}}
_MARK = {"meta": {"key": "mark"}}
_FIB = {"fib": {"result": "type", "flags": ["daddr", "iif"]}}
_RULES = (
    _of(
        {"counter": {"packets": 1, "bytes": 60}},
        _is(_field("tcp", "dport"), {"set": [22, {"range": [80, 90]}]}),
        _is(_field("ip", "saddr"), _NET, "!="),
        {"limit": {"rate": 3, "burst": 5, "per": "minute"}},
        {"accept": None},
        comment="a",
    ),
    _of(_is({"ct": {"key": "state"}}, ["established", "related"], "in"), {"accept": None}),
    _of(
        _is({"concat": [_field("ip", "saddr"), _field("tcp", "dport")]}, "@pairs"), {"jump": {"target": "b"}}
    ),
    _of(
        {
            "vmap": {
                "key": {"meta": {"key": "iifname"}},
                "data": {"set": [["lo", {"accept": None}], ["eth0", {"goto": {"target": "b"}}]]},
            }
        }
    ),
    _of(_is({"&": [_field("tcp", "flags"), ["syn", "ack"]]}, "syn"), {"log": {"prefix": "x"}}),
    _of(_is({"&": [_MARK, 255]}, 1), {"mangle": {"key": _MARK, "value": {"|": [_MARK, 16]}}}),
    _of(_is(_FIB, "local"), {"xt": {"type": "target", "name": "REJECT"}}),
    _of({"xt": None}, {"dnat": {"family": "ip", "addr": "10.0.0.2", "port": 80}}),
    _of({"set": {"op": "add", "elem": {"elem": {"val": "1.1.1.1", "timeout": 9}}, "set": "@m"}}),
    _of({"reject": {"type": "icmpx", "expr": "admin-prohibited"}}),
    _of({"meter": {"name": "m", "key": _MARK, "stmt": {"limit": "over"}}}, {"drop": None}),
    _of({"match": {"left": {"meta": "iifname"}, "right": "eth0"}}, {"mangle": {"left": _MARK, "right": 1}}),
)
_PAIRS = {"concat": ["1.2.3.4", 22]}
_RULESETS = tuple(
    json.dumps({"nftables": objects}).encode()
    for objects in (
        [
            {"table": {"family": "inet", "name": "t", "flags": "dormant"}},
            {"chain": _CHAIN},
            *_RULES[:2],
            {"set": {**_WHERE, "name": "m", "type": "ipv4_addr", "elem": ["1.1.1.1", _NET]}},
        ],
        [
            {"chain": _CHAIN},
            {"chain": {**_WHERE, "name": "b"}},
            {"map": {**_WHERE, "name": "pairs", "elem": [{"elem": {"val": _PAIRS, "comment": "c"}}]}},
            *_RULES,
        ],
        *([{"chain": {**_CHAIN, "dev": "eth0", "policy": "accept"}}, one] for one in _RULES),
    )
)


def of_json(read: Callable[[Any], object]) -> Callable[[bytes], object]:
    """A reader of what JSON holds; what is none never comes to it."""

    def on(content: bytes) -> object:
        try:
            told = json.loads(text_of(content))
        except (ValueError, RecursionError) as error:
            raise Broken("no JSON") from error
        return read(told)

    return on


def has(told: Any, *names: str) -> bool:
    return isinstance(told, dict) and all(name in told for name in names)


def _followed(chains: dict[ChainId, Chain]) -> object:
    """What is told of these chains; every rule can be kept, told and met by a packet."""
    firewall = Firewall()
    firewall.add(chains)
    for chain in chains.values():
        for rule in chain.rules:
            assert all(number is None or 0 <= number <= BIGGEST for number in (rule.packets, rule.bytes))
            assert rule.comment is None or isinstance(rule.comment, str)
            summary(rule)
    for packet, source in PACKETS:
        assert decide(firewall, packet, source).verdict in WORDS
    return chains


def _saved(content: bytes) -> object:
    text = text_of(content)
    chains, unread = read_save(text, IPTABLES, "ip")
    lines = [line.strip("\r ") for line in text.split("\n")]
    said = [line for line in lines if line and not line.startswith(("#", "*", "COMMIT", ":"))]
    kept = [rule for chain in chains.values() for rule in chain.rules]  # a comment may have lines of its own
    assert sum(rule.text.count("\n") + 1 for rule in kept) + unread >= len(said)
    assert read_save(f"?\n{text}", IPTABLES, "ip")[1] == unread + 1, "a line was passed over in silence"
    return _followed(chains)


_CHAINS = b"""table inet t {
	chain in {
		type filter hook input priority filter; policy drop;
	}
}
table netdev early {
	chain one {
		type filter hook ingress device "eth0" priority -500; policy accept;
	}
	chain two {
		comment "type filter hook ingress device "
		type filter hook ingress devices = { "eth0", eth1 } priority filter; policy accept;
	}
}
"""


def _devices(content: bytes) -> object:
    found = nft_devices.read_devices(text_of(content))
    assert all(all(devices) for devices in found.values())
    return found


def _ruleset(content: bytes) -> object:
    text = text_of(content)
    chains, unread = nft.read_ruleset(text)
    objects = json.loads(text)["nftables"]
    kept = sum(len(chain.rules) for chain in chains.values())
    rules = [one for one in objects if isinstance(one, dict) and list(one) == ["rule"]]
    assert kept <= len(rules) <= kept + unread
    nft.told_by_iptables(chains, nft.read_ruleset(text)[0], "inet", {"t"})
    return _followed(chains)


def _sets(content: bytes) -> object:
    text = text_of(content)
    sets, unread = read_sets(text)
    assert unread <= sum(bool(line.strip()) for line in text.split("\n"))
    assert read_sets(f"?\n{text}")[1] == unread + 1, "a line was passed over in silence"
    names = dict.fromkeys(
        word for line in text.split("\n") if line[:7] == "create " for word in line.split()[1:2]
    )
    rules = "".join(
        f'-A INPUT -m set --match-set "{name}" src,dst -j DROP\n' for name in names if '"' not in name
    )
    return _followed(read_save(f"*filter\n:INPUT ACCEPT [0:0]\n{rules}COMMIT\n", IPTABLES, "ip", sets)[0])


def _tuples(content: bytes) -> object:
    text = text_of(content)
    rules, unread = managers.read_tuples(text)
    assert len(rules) + unread == sum(line.startswith("### tuple") for line in text.split("\n"))
    return rules


def _zone(told: Any) -> object:
    lines = (
        managers.read_zone("work", told["bound"], told["settings"]) if has(told, "bound", "settings") else []
    )
    assert all(line.startswith("zone work: ") for line in lines)
    return lines


def _zone_file(content: bytes) -> object:
    zone = zones.read_zone_file(text_of(content))
    assert all(line.startswith("zone work: ") for line in managers.read_zone("work", zone.bound, zone.told))
    return zone


_ZONES = {
    "bound": {"type": "a{sas}", "data": {"interfaces": ["eth0", "eth1"]}},
    "settings": {
        "target": {"type": "s", "data": "DROP"},
        "services": {"type": "as", "data": ["ssh"]},
        "ports": {"type": "a(ss)", "data": [["8080", "tcp"]]},
        "forward_ports": {"type": "a(ssss)", "data": [["81", "tcp", "80", "10.0.0.1"]]},
        "masquerade": {"type": "b", "data": True},
        "rules_str": {"type": "as", "data": ["rule accept"]},
    },
}
_NAMED = (
    "evaluate.decide", "iptables.words", "iptables_rules.parts_of", "iptables_targets.masked",
    "iptables_targets.target_parts", "packet.matching", "packet.named", "packet.value_of",
)  # fmt: skip


_UFW = (
    b"*filter\n### RULES ###\n\n### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in\n"
    b"-A ufw-user-input -p tcp --dport 22 -j ACCEPT\n\n"
    b"### tuple ### limit_log tcp 80,443 10.0.0.1 1:9 any in_eth_0 comment=61\n"
    b"### tuple ### route:allow any any 0.0.0.0/0 any 0.0.0.0/0 Open%20SSH - in_eth0!out_eth1\nCOMMIT\n"
)
_SETTINGS = b'# ENABLED=no\nENABLED=yes\nDEFAULT_INPUT_POLICY="DROP" # said\nodd line\n'

READERS = (
    Reader(
        "firewall.iptables.read_save",
        _saved,
        (SAVED.encode(), *_MORE),
        share=2,
        with_=tuple(f"firewall.{name}" for name in _NAMED),
    ),
    Reader(
        "firewall.nft.read_ruleset",
        _ruleset,
        _RULESETS,
        "json",
        share=2,
        with_=("firewall.nft.told_by_iptables", "firewall.nft_text.quoted", "firewall.terms.match_of"),
    ),
    Reader("firewall.nft_devices.read_devices", _devices, (_CHAINS,)),
    Reader(
        "firewall.ipset.read_sets",
        _sets,
        (IPSETS.encode(),),
        with_=("firewall.ipset.IpSets.add", "firewall.ipset.IpSets.condition"),
    ),
    Reader("firewall.managers.read_tuples", _tuples, (_UFW,)),
    Reader("firewall.managers.settings_of", of_text(managers.settings_of), (_SETTINGS,)),
    Reader(
        "firewall.zones.read_zone_file",
        _zone_file,
        (WORK.encode(),),
        with_=("firewall.zones.Zone.start", "firewall.zones.Zone.end"),
    ),
    Reader("firewall.managers.read_zone", of_json(_zone), (json.dumps(_ZONES).encode(),), "json"),
    Reader(
        "firewall.spans.of_network",
        of_text(spans.of_network),
        (b"10.0.0.0/255.0.0.0", b"2001:db8::/32", b"1.2.3.4"),
        refuses=(ValueError,),
    ),
    Reader(
        "firewall.spans.of_address",
        of_text(spans.of_address),
        (b"10.0.0.1", b"fe80::1%eth0"),
        refuses=(ValueError,),
    ),
)
