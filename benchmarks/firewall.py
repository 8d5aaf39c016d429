"""A look at a firewall of 10,000 rules beside nft's own listing of it, and the verdict on what listens.

Measured in a network namespace of its own, so as root with nft; else the rows are left out.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.rows import Budget, Row
from tests.rigs.firewall import Namespace
from watchman_mcp.collectors import Look
from watchman_mcp.collectors.firewall import collect
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.firewall.exposure import Endpoint, Interface, exposure
from watchman_mcp.machine.firewall.reading import read_firewall
from watchman_mcp.settings import Settings

RULES = 10_000
ENDPOINTS = 20
MEMORY = "from benchmarks.firewall import judge, look, peak; look(); print(peak())"


def run(quick: bool) -> list[Row]:
    """Rows of flat rules, and of rules in chains with sets."""
    if os.geteuid() != 0:
        return []
    count = RULES // 5 if quick else RULES
    rows = []
    for name, text in (
        ("flat", flat(count)),
        ("by source", by_source(count)),
        ("in chains with sets", chained(count)),
    ):
        namespace = Namespace()
        try:
            namespace.run("nft", "-f", "-", input=text)
            rows += _measured(namespace, f"firewall, {count} rules {name}")
        finally:
            namespace.end()
    return rows


def _measured(namespace: Namespace, title: str) -> list[Row]:
    listing = _seconds(
        namespace, lambda: subprocess.run(["nft", "-j", "list", "ruleset"], capture_output=True)
    )
    seconds = _seconds(namespace, look)
    verdicts = _seconds(namespace, judge)
    judged = float(
        namespace.run(sys.executable, "-c", MEMORY.replace("look();", "judge();")).stdout.split()[-1]
    )
    argv = [sys.executable, "-c", MEMORY]
    peak = float(namespace.run(*argv).stdout.split()[-1])
    floor = float(namespace.run(sys.executable, "-c", MEMORY.replace("look();", "")).stdout.split()[-1])
    return [
        Row(f"{title}, look", seconds, "s", listing, "nft -j list ruleset", Budget(5)),
        Row(f"{title}, memory of a look", peak - floor, "MiB"),
        Row(f"{title}, reading and {ENDPOINTS} verdicts", verdicts, "s", listing, "nft -j list ruleset"),
        Row(f"{title}, memory of these", judged - floor, "MiB"),
    ]


def _seconds(namespace: Namespace, do: object) -> float:
    assert callable(do)
    begun = time.monotonic()
    namespace.call(do)
    return time.monotonic() - begun


def look() -> None:
    """One look at the firewall, whose rows are let go as they come."""
    for _ in collect(Look(_machine(), Settings(), "firewall")):
        pass


def judge() -> None:
    """Read the firewall, and say who can reach a number of ports by two interfaces."""
    firewall = read_firewall(_machine())
    out = Interface("eth0", ("192.168.1.5/24", "2001:db8::5/64"), "ethernet", ("default", "default6"))
    near = Interface("eth1", ("10.8.0.1/24",), "ethernet")
    for number in range(ENDPOINTS):
        exposure(firewall, [out, near], Endpoint("tcp", "::", 1000 + number))


def peak() -> float:
    """The most memory that this process had, in MiB."""
    # getrusage counts what the process was before its program began
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def _machine() -> Machine:
    root = Path("/")
    return Machine(Files(root), Commands(), root)


def flat(count: int) -> str:
    """One chain that is asked rule by rule."""
    lines = ["table inet t {", " chain in { type filter hook input priority 0; policy drop;"]
    for number in range(count):
        where = f"ip saddr {1 + (number >> 14)}.{number >> 8 & 63}.{number & 255}.7"
        lines.append(f"  {where} {'' if number % 3 else f'tcp dport {number % 60000 + 1} '}counter drop")
    return "\n".join([*lines, "  tcp dport 1000-2000 accept", " }", "}"])


def by_source(count: int) -> str:
    """One chain that refuses one source with each rule, as programs that ban addresses make it."""
    lines = ["table inet t {", " chain in { type filter hook input priority 0; policy accept;"]
    lines += [f"  ip saddr {1 + (n >> 14)}.{n >> 8 & 63}.{n & 255}.7 reject" for n in range(count)]
    return "\n".join([*lines, " }", "}"])


def chained(count: int) -> str:
    """A hundred chains with sets in their rules, each jumped to for some ports."""
    lines = ["table inet t {", " set nets { type ipv4_addr; flags interval; elements = {"]
    lines += [", ".join(f"{n >> 8 & 127 or 1}.{n & 255}.0.0/17" for n in range(256, 5000)), " } }"]
    for chain in range(100):
        lines.append(f" chain c{chain} {{")
        for number in range(count // 100):
            port = chain * 100 + number + 1
            # nft itself takes long to load many sets that have no name
            ports = f"{{ {port}, {port + 20000}-{port + 20010} }}" if number % 20 == 0 else str(port)
            lines.append(f"  tcp dport {ports} ip saddr @nets counter accept")
        lines.append(" }")
    lines += [" chain in { type filter hook input priority 0; policy drop;"]
    lines += [f"  tcp dport 1-65535 jump c{chain}" for chain in range(100)]
    return "\n".join([*lines, " }", "}"])
