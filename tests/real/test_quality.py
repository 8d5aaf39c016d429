"""Latency and loss measured to another network namespace, by each kind of probe."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from tests.rigs.looking import look
from tests.rigs.networks import Side, joined

pytestmark = pytest.mark.real

REACH = """
import json, sys, time
from watchman_mcp.machine.probes import reach
begun = time.monotonic()
found = {name: row[1:] for name, row in reach({ip: ip for ip in sys.argv[1:]}).items()}
print(json.dumps([found, time.monotonic() - begun]))
"""
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all")
EVERYBODY, NO_ONE = "0 2147483647", "1 0"


@pytest.fixture(scope="module")
def sides() -> Iterator[tuple[Side, Side]]:
    with joined() as both:
        yield both


@pytest.mark.parametrize(
    ("group", "user", "silent"),
    [(EVERYBODY, NOBODY, False), (NO_ONE, (), False), (NO_ONE, NOBODY, True)],
    ids=["the socket for everybody", "the socket of root", "connections"],
)
def test_one_who_answers_has_a_latency_and_one_who_is_silent_a_loss(
    sides: tuple[Side, Side], group: str, user: tuple[str, ...], silent: bool
) -> None:
    here, there = sides
    here.run("sysctl", "-qw", f"net.ipv4.ping_group_range={group}")
    # who does not answer echoes still refuses connections
    there.run("sysctl", "-qw", f"net.ipv4.icmp_echo_ignore_all={int(silent)}")
    try:
        printed = here.run(*user, sys.executable, "-c", REACH, there.address, "192.0.2.77", "198.51.100.1")
    finally:
        there.run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=0")

    found, took = json.loads(printed)
    latency, loss = found[there.address]
    assert loss == 0
    assert 0 < latency < 500
    assert found["192.0.2.77"] == found["198.51.100.1"] == [None, 100.0]
    assert took < 3


def test_echoes_that_nobody_answers_are_lost(sides: tuple[Side, Side]) -> None:
    here, there = sides
    there.run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
    try:
        [found, _] = json.loads(here.run(sys.executable, "-c", REACH, there.address, "::1"))
    finally:
        there.run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=0")

    assert found[there.address] == [None, 100.0]
    assert found["::1"][1] == 0


def test_the_gateway_is_that_of_the_default_route(sides: tuple[Side, Side]) -> None:
    here, there = sides
    settings = {"network": {"quality_targets": ["gateway", "nowhere.invalid"]}}
    without = look(here.enter, "quality", settings=settings)
    here.run("ip", "route", "add", "default", "via", there.address)
    try:
        found = look(here.enter, "quality", settings={"network": {"quality_targets": ["gateway"]}})
    finally:
        here.run("ip", "route", "delete", "default")

    assert without["nodes"] == []
    assert without["unobserved"] == {
        "quality:gateway": "there is no default gateway",
        "quality:nowhere.invalid": "its name cannot be looked up",
    }
    [sample] = found["nodes"]
    assert (sample["target"], sample["loss_percent"]) == ("gateway", 0)
    assert sample["latency_ms"] > 0


def test_nothing_is_measured_unless_the_settings_name_it(sides: tuple[Side, Side]) -> None:
    assert look(sides[0].enter, "quality")["raises"].startswith("Absent: [network] quality_targets is empty")
