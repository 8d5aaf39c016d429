"""What the firewall is said to let through, beside connections that are really tried."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.rigs.firewall import ADDRESSES, SOURCES, Pair, Try, pair
from tests.rigs.rulesets import PORTS, Ruleset, ruleset
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.firewall.evaluate import Answer, decide
from watchman_mcp.machine.firewall.exposure import Endpoint, Interface, exposure
from watchman_mcp.machine.firewall.model import Firewall
from watchman_mcp.machine.firewall.packet import Packet
from watchman_mcp.machine.firewall.reading import read_firewall

pytestmark = pytest.mark.real

FULL = os.environ.get("WATCHMAN_TEST_SOAK") == "full"
INTERFACES = [
    Interface("lo", ("127.0.0.1/8", "::1/128"), "loopback"),
    Interface("eth0", ADDRESSES["eth0"], "veth", ("default", "default6")),
    Interface("eth1", ADDRESSES["eth1"], "veth"),
]
LOCAL = {
    version: frozenset(
        int(address)
        for texts in ADDRESSES.values()
        for text in texts
        if (address := ip_address(text.partition("/")[0])).version == version
    )
    for version in (4, 6)
}
PUBLIC = {"203.0.113.5", "203.0.113.77", "8.8.8.8", "2001:db8:9::9"}
EMPTY = "*filter\n:INPUT ACCEPT\nCOMMIT\n*mangle\nCOMMIT\n*nat\nCOMMIT\n"
FIRST = {
    (interface, version): next(text for text in texts if (":" in text) == (version == 6)).partition("/")[0]
    for interface, texts in ADDRESSES.items()
    for version in (4, 6)
    if any((":" in text) == (version == 6) for text in texts)
}


@pytest.fixture(scope="module")
def cabled() -> Iterator[Pair]:
    with pair() as both:
        both.listen(PORTS)
        yield both


def load(both: Pair, made: Ruleset) -> None:
    """Put this firewall in the place of the one before."""
    both.here.run("nft", "-f", "-", input=f"flush ruleset\n{made.nft}\n")
    for program in ("iptables-nft-restore", "iptables-legacy-restore", "ip6tables-legacy-restore"):
        if program in made.restored:
            both.here.run(program, input=made.restored[program])
        elif "legacy" in program:
            both.here.run(program, input=EMPTY)


def read(both: Pair) -> Firewall:
    root = Path("/")
    return both.here.call(lambda: read_firewall(Machine(Files(root), Commands(), root)))


def tries(ports: tuple[int, ...] = (*PORTS, 81)) -> list[Try]:
    found = []
    for interface, sources in SOURCES.items():
        for source in sources:
            version = ip_address(source).version
            for text in ADDRESSES[interface]:
                target = text.partition("/")[0]
                if ip_address(target).version == version:
                    found += [Try("tcp", interface, source, target, port) for port in ports]
                    found += [Try("udp", interface, source, target, port) for port in ports[:2]]
    return found


def packet(one: Try) -> Packet:
    target = ip_address(one.target)
    return Packet(
        iif=one.interface,
        version=target.version,
        protocol=one.protocol,
        dport=one.port,
        daddr=int(target),
        local=LOCAL[target.version],
        primary=int(ip_address(FIRST[one.interface, target.version])),
    )


def agrees(answer: Answer, reached: bool) -> bool | None:
    """Whether what was said is what happened; None where nothing was said."""
    if answer.verdict == "unknown":
        return None
    listened = any(flow.dport in PORTS for flow in answer.arrived)
    return (answer.verdict == "accept" and listened) == reached


@dataclass
class Tally:
    tried: int = 0
    unknown: int = 0
    reached: int = 0


def compare(both: Pair, seeds: range) -> Tally:
    tally = Tally()
    for seed in seeds:
        made = ruleset(seed)
        load(both, made)
        firewall = read(both)
        assert firewall.unseen == {}
        happened = both.attempt(tries())
        for one, reached in happened.items():
            answer = decide(firewall, packet(one), one.source)
            fits = agrees(answer, reached)
            tally.tried += 1
            tally.reached += reached
            tally.unknown += fits is None
            assert fits is not False, f"{seed}: {one} reached: {reached}, said: {answer.verdict}\n{made}"
        exposures(firewall, happened, f"{seed}: {made}")
    return tally


def exposures(firewall: Firewall, happened: dict[Try, bool], about: str) -> None:
    """The verdict of each port is no narrower than what happened; redirected ports are others' business."""
    if "redirect" in about.lower():
        return
    came: dict[tuple[str, int, int], list[str]] = {}
    for one, reached in happened.items():
        if one.port in PORTS:
            sources = came.setdefault((one.protocol, one.port, ip_address(one.source).version), [])
            sources += [one.source] if reached else []
    for (protocol, port, version), sources in came.items():
        everywhere = "0.0.0.0" if version == 4 else "::"
        verdict = exposure(firewall, INTERFACES, Endpoint(protocol, everywhere, port, None, True))
        wanted = {"internet", "unknown"} if PUBLIC & {*sources} else {"internet", "lan", "unknown"}
        told = f"{protocol} {port} IPv{version} from {sources}, said {verdict.exposure}: {verdict.reasons}"
        assert not sources or verdict.exposure in wanted, f"{told}\n{about}"


def test_what_a_firewall_is_said_to_do_is_what_it_does_to_connections(cabled: Pair) -> None:
    tally = compare(cabled, range(25))

    assert tally.tried > 1_000
    assert 0.1 < tally.reached / tally.tried < 0.9
    assert tally.unknown / tally.tried < 0.05


@pytest.mark.soak
@pytest.mark.skipif(not FULL, reason="25 of these run in the test above")
def test_what_two_hundred_firewalls_are_said_to_do_is_what_they_do(cabled: Pair) -> None:
    tally = compare(cabled, range(25, 250))

    assert tally.unknown / tally.tried < 0.05
