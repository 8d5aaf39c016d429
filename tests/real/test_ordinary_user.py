"""What a daemon of an ordinary user tells of the network, beside what that user sees by `ip` and `ss`."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.homes import PROGRAM, Home
from tests.rigs import cache
from tests.rigs.networks import Side, joined, wait_for
from tests.rigs.wireguard import End
from watchman_mcp.tools.answers import fix_for

pytestmark = pytest.mark.real
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all")
LISTENER = "import socket, time; server = socket.create_server(('0.0.0.0', {})); time.sleep(300)"
RULESET = "table inet filter { chain input { type filter hook input priority 0; tcp dport 22 accept; }; }"
SETTINGS = (
    "[features]\nsystem_monitoring = false\nconfig_management = false\n[network]\nexternal_ip = false\n"
)
VIEWS = (
    "summary", "interfaces", "routes", "firewall", "dns", "vpn", "ports", "connections", "bandwidth",
    "quality",
)  # fmt: skip
AREAS = ("dns", "firewall", "network", "ports", "quality", "resources", "vpn")


@pytest.fixture(scope="module")
def here() -> Iterator[Side]:
    """A namespace with a tunnel that carries the default route, a firewall, and listeners of two users."""
    programs = ("wireguard-go", "wg", "nft", "ss", "setpriv")
    cache.need_programs("a tunnel and a firewall", *programs, how="as root: see NETWORKS in .ci/run")
    if not Path("/dev/net/tun").exists():
        cache.missing("/dev/net/tun", "as root: modprobe tun")
    with joined() as (side, other):
        ends = End(side, 1), End(other, 2)
        shared = side.run("wg", "genpsk").strip()
        for number in (1, 0):
            ends[number].start(ends[1 - number], shared, "0.0.0.0/0")
        side.run("ip", "route", "add", "default", "dev", ends[0].name)
        side.run("nft", RULESET)
        side.start(sys.executable, "-c", LISTENER.format(8443))
        side.start(*NOBODY, sys.executable, "-c", LISTENER.format(8444))
        wait_for(lambda: side.run("ss", "-Hltn").count(":844") == 2, 30, "the listeners")
        yield side


@pytest.fixture(scope="module")
def answers(here: Side) -> dict[str, dict[str, Any]]:
    """What a daemon of that user answers to each view, and its doctor."""
    # not below pytest's own folders, into which no other user can go
    with tempfile.TemporaryDirectory() as place:
        home = Home(Path(place), SETTINGS)
        subprocess.run(["chown", "--recursive", "65534:65534", place], check=True, timeout=20)
        argv = (*here.enter, *NOBODY, *PROGRAM, "serve", "--stdio")
        client = home.client(argv, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        told = {view: client.call("network_status", view=view, limit=200) for view in VIEWS}
        told["doctor"] = client.call("doctor")
        home.finish()
        return told


def seen(here: Side, *words: str) -> Any:
    """What that user sees by a command that tells it as JSON."""
    return json.loads(here.run(*NOBODY, *words))


def test_what_that_user_sees_by_ip_and_ss_is_told(here: Side, answers: dict[str, dict[str, Any]]) -> None:
    interfaces = {
        one["name"]: sorted(one.get("networks", []))
        for one in answers["interfaces"]["interfaces"]
        if "namespace" not in one
    }
    assert interfaces == {
        one["ifname"]: sorted(f"{a['local']}/{a['prefixlen']}" for a in one["addr_info"])
        for one in seen(here, "ip", "-j", "address")
    }
    [default] = seen(here, "ip", "-j", "route", "show", "default")
    assert answers["routes"]["default_route"] == [f"ipv4: on {default['dev']}"]
    assert answers["summary"]["default_route"] == answers["routes"]["default_route"]
    listed = [line.split() for line in here.run(*NOBODY, "ss", "-Hltun").splitlines()]
    ports = [one for one in answers["ports"]["ports"] if one.get("port") and "namespace" not in one]
    assert {(one["protocol"], one["port"]) for one in ports} == {
        (line[0], int(line[4].rpartition(":")[2])) for line in listed
    }
    # whose process it is can only be seen of one's own
    assert {one["port"]: one.get("pid") is not None for one in ports if one["port"] in (8443, 8444)} == {
        8443: False,
        8444: True,
    }
    assert {one["exposure"] for one in ports} == {"unknown"}
    assert {one["interface"] for one in answers["bandwidth"]["traffic"]} <= interfaces.keys()


def test_a_tunnel_is_told_as_far_as_its_interface_tells(
    here: Side, answers: dict[str, dict[str, Any]]
) -> None:
    [tunnel] = answers["vpn"]["vpn"]
    [default] = seen(here, "ip", "-j", "route", "show", "default")

    assert tunnel == {
        "type": "wireguard", "status": "unknown", "interface": default["dev"], "carries_default": True,
    }  # fmt: skip
    assert answers["vpn"]["note"].endswith(f"traffic to the internet goes through {default['dev']}")


def test_rules_that_may_not_be_read_are_not_said_to_be_none(answers: dict[str, dict[str, Any]]) -> None:
    assert answers["firewall"]["found"] == "cannot_tell"
    assert "firewall:nftables" in {one["what"] for one in answers["firewall"]["unobserved"]}


def test_whatever_that_user_may_not_see_is_named_with_what_would_grant_it(
    answers: dict[str, dict[str, Any]],
) -> None:
    shown = [one for answer in answers.values() for one in answer.get("unobserved", [])]
    assert shown
    assert [one for one in shown if "fix" not in one] == []
    areas = {one["area"]: one for one in answers["doctor"]["items"] if one["area"] in AREAS}
    assert areas.keys() == set(AREAS)
    lines = [line for one in areas.values() for line in one.get("cannot_see", [])]
    named = {line.split(": ")[0] for line in lines}
    assert named >= {"firewall:nftables", "vpn:wireguard", "ports:processes", "network:namespaces"}
    assert [line for line in lines if fix_for(line) is None] == []
