"""What is told of ufw and firewalld, beside what they say and what they let through."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.rigs.cache import need_programs

pytestmark = pytest.mark.real


@cache
def told(name: str, program: str) -> dict[str, Any]:
    """What the rig prints of a manager in namespaces that end with it."""
    need_programs(name, program, "unshare", "dbus-daemon", how=f"as root: apt-get install {name} dbus")
    alone = ("--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
    done = subprocess.run(
        ["unshare", *alone, sys.executable, "-m", "tests.rigs.firewall_managers", name],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def manager(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in found["managers"] if row["name"] == name)


@pytest.mark.parametrize(("name", "program"), [("ufw", "ufw"), ("firewalld", "firewall-cmd")])
def test_what_it_is_said_to_let_through_is_what_it_lets_through(name: str, program: str) -> None:
    found = told(name, program)
    verdicts = found["verdicts"]

    wrong = [one for one in verdicts if one[2] != "unknown" and (one[2] == "accept") != one[1]]
    assert wrong == []
    # of ufw's limit it cannot be told whether it is reached
    assert {one[0][-9:] for one in verdicts if one[2] == "unknown"} <= {" port=22)"[-9:]}
    assert {one[1] for one in verdicts} == {True, False}
    assert (name in found["made_by"], found["unobserved"]) == (True, [])


def test_the_rules_of_ufw_are_told_as_it_tells_them() -> None:
    found = told("ufw", "ufw")
    row = manager(found, "ufw")

    assert (row["active"], row["enabled"], row["incoming"]) == (True, True, "drop")
    assert row["settings"] == [
        "deny in from 203.0.113.0/24 to any",
        'allow in on eth0 from any to any port 80,443 proto tcp comment "web \\"x\\""',
        "limit in from any to any port 22 proto tcp",
        "allow in from 10.0.0.0/8 to any port 5432 proto tcp",
        "route allow in on eth0 out on eth1 from any to 10.0.0.1 port 80",
        "allow in log from any to any port 53",
    ]
    assert [line.split()[1] for line in found["said"]] == [
        "deny",
        "allow",
        "limit",
        "allow",
        "route",
        "allow",
    ]
    assert manager(found, "firewalld")["active"] is False if len(found["managers"]) > 1 else True


def test_the_zones_of_firewalld_are_told_as_it_tells_them() -> None:
    found = told("firewalld", "firewall-cmd")
    row = manager(found, "firewalld")
    said = {key.strip(): value.split() for key, _, value in (line.partition(":") for line in found["said"])}
    rules = [line.strip() for line in found["said"] if line.startswith("\t")]
    mine = [line.removeprefix("zone public: ") for line in row["settings"] if line.startswith("zone public")]

    assert (row["active"], row["incoming"]) == (True, "zone public")
    assert sorted(line.split()[1] for line in mine if line.startswith("service ")) == sorted(said["services"])
    assert [line.split()[1] for line in mine if line.startswith("port ")] == said["ports"]
    assert [line for line in mine if line.startswith("rule ")] == rules
    assert "zone trusted: target ACCEPT" in row["settings"]
