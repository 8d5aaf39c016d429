"""Policy rules of routing, from the messages of the kernel."""

from __future__ import annotations

import struct

import pytest
from pyroute2.netlink.rtnl.fibmsg import fibmsg

from watchman_mcp.machine.policy_rules import read_rule


def rule(*parts: tuple[int, int]) -> str:
    """The selector of a rule of IPv4 with such numbers, by the kernel's numbers of its attributes."""
    rest = b"".join(struct.pack("=HHI", 8, kind, value) for kind, value in parts)
    body = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 0, 0, 1, 0) + rest
    told = fibmsg(struct.pack("=IHHII", 16 + len(body), 32, 0, 1, 0) + body)
    told.decode()
    return read_rule(told, "ipv4", {254: "main"}).selector


@pytest.mark.parametrize(
    ("parts", "selector"),
    [
        ([], ""),
        ([(10, 0x40), (16, 0xFFFFFFFF)], "fwmark 0x40"),
        ([(10, 0x40), (16, 0xF0)], "fwmark 0x40/0xf0"),
        ([(16, 0x40)], "fwmark 0x0/0x40"),
        ([(200, 8)], "and more that is not known"),
    ],
)
def test_a_rule_for_some_packets_is_never_told_as_one_for_all(
    parts: list[tuple[int, int]], selector: str
) -> None:
    assert rule(*parts) == selector
