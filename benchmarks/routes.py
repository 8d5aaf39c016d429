"""A look at 5,000 routes by netlink beside `ip -j` alone; in a network namespace, so as root."""

import os
import statistics
import subprocess
import sys
import time

from benchmarks.rows import Row
from tests.rigs.netns import Namespace, namespaces

ROUTES = 5_000
LOOK = (
    "import time; import pyroute2; from benchmarks.firewall import peak\n"
    "from watchman_mcp.machine import netlink\n"
    "idle = peak(); netlink.look(); grown = peak() - idle; times = []\n"
    "for _ in range({rounds}):\n"
    "    start = time.perf_counter(); found = netlink.look(); times.append(time.perf_counter() - start)\n"
    "assert len(found.routes) > {routes}; print(sorted(times)[len(times) // 2], grown)"
)
"""Prints the seconds of a look and the MiB that it takes, without the import of its library."""


def run(quick: bool) -> list[Row]:
    """The rows of the routes."""
    if os.geteuid() != 0:
        return []
    rounds = 3 if quick else 9
    with namespaces(1) as (one,):
        one.ip("link add v0 type veth peer name v1", "link set v0 up", "link set v1 up")
        one.ip("addr add 10.0.0.1/8 dev v0")
        one.ip(*[f"route add 172.{16 + n // 256}.{n % 256}.0/24 via 10.0.0.2" for n in range(ROUTES // 2)])
        one.ip(*[f"route add 100.{64 + n // 256}.{n % 256}.0/24 via 10.0.0.2" for n in range(ROUTES // 2)])
        code = LOOK.format(rounds=rounds, routes=ROUTES)
        looked, grown = map(float, one.run(sys.executable, "-c", code).stdout.split())
        alone = statistics.median(_listed(one) for _ in range(rounds))
    return [
        Row(f"a look at {ROUTES:,} routes", looked, "s", alone, "ip -j route show table all"),
        Row(f"a look at {ROUTES:,} routes, memory", grown, "MiB"),
    ]


def _listed(namespace: Namespace) -> float:
    start = time.perf_counter()
    words = namespace.words("ip", "-j", "route", "show", "table", "all")
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    return time.perf_counter() - start
