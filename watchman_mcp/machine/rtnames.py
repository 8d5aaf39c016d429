"""Names of the numbers in routes, by the kernel's headers and by `/etc/iproute2`."""

from __future__ import annotations

from collections.abc import Mapping

TABLES = {253: "default", 254: "main", 255: "local"}
SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
TYPES = {
    0: "unspec",
    1: "unicast",
    2: "local",
    3: "broadcast",
    4: "anycast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
    9: "throw",
    10: "nat",
    11: "xresolve",
}
PROTOCOLS = {
    0: "unspec",
    1: "redirect",
    2: "kernel",
    3: "boot",
    4: "static",
    8: "gated",
    9: "ra",
    10: "mrt",
    11: "zebra",
    12: "bird",
    13: "dnrouted",
    14: "xorp",
    15: "ntk",
    16: "dhcp",
    18: "keepalived",
    42: "babel",
    99: "openr",
    186: "bgp",
    187: "isis",
    188: "ospf",
    189: "rip",
    192: "eigrp",
}


def named(names: Mapping[int, str], number: int) -> str:
    """The name of a number, or the number itself."""
    return names.get(number, str(number))


def read_names(text: str) -> tuple[dict[int, str], int]:
    """The names that a file such as `rt_tables` gives to numbers, and how many lines were not understood."""
    found: dict[int, str] = {}
    unreadable = 0
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            number = int(words[0], 0)
        except ValueError:
            number = -1
        if len(words) == 2 and 0 <= number < 2**32:
            found[number] = words[1]
        else:
            unreadable += 1
    return found, unreadable
