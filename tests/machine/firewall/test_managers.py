"""What ufw keeps in its files, and what a stranger might make of it."""

import pytest

from watchman_mcp.errors import Broken
from watchman_mcp.machine.firewall.managers import read_tuples, read_zone, settings_of

TUPLE = "### tuple ### "


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in", "allow in from any to any port 22 proto tcp"),
        ("deny any any ::/0 any 2001:db8::/32", "deny in from 2001:db8::/32 to any"),
        (
            "limit_log tcp 80,443 10.0.0.1 1:9 any in_eth_0 comment=61",
            'limit in on eth_0 log from any port 1:9 to 10.0.0.1 port 80,443 proto tcp comment "a"',
        ),
        (
            "route:allow any any 0.0.0.0/0 any 0.0.0.0/0 in_eth0!out_eth1",
            "route allow in on eth0 out on eth1 from any to any",
        ),
        ("allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 Open%20SSH - in", None),
        ("allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in comment=zz", None),
    ],
)
def test_a_rule_is_told_as_it_would_be_given_to_ufw(line: str, rule: str | None) -> None:
    rules, unread = read_tuples(f"*filter\n{TUPLE}{line}\n-A ufw-user-input -j ACCEPT\nCOMMIT\n")

    assert unread == 0
    assert rules == [rule] if rule else len(rules) == 1


@pytest.mark.parametrize(
    "line",
    ["", "allow", "allow tcp 22", "eat tcp 22 any any any in", "allow tcp 22 any any any up", "allow " * 12],
)
def test_a_rule_of_another_shape_is_counted(line: str) -> None:
    good = f"{TUPLE}allow tcp 22 any any any in\n"

    rules, unread = read_tuples(f"{good}{TUPLE}{line}\n{good}### tuple\n")

    assert (len(rules), unread) == (2, 2)


def test_settings_are_read_with_and_without_quotes() -> None:
    text = '# ENABLED=no\nENABLED=yes\nDEFAULT_INPUT_POLICY="DROP" # said\nodd line\n'

    assert settings_of(text) == {"ENABLED": "yes", "DEFAULT_INPUT_POLICY": "DROP"}


@pytest.mark.parametrize(
    "told", [None, [], {"ports": [1]}, {"ports": True}, {"services": 1.5}, {"forward_ports": [["81"]]}]
)
def test_a_zone_of_another_shape_is_broken(told: object) -> None:
    with pytest.raises(Broken, match="work"):
        read_zone("work", {}, told)


def test_a_zone_is_told_line_by_line() -> None:
    told = {
        "target": {"type": "s", "data": "DROP"},
        "services": {"type": "as", "data": ["ssh"]},
        "ports": {"type": "a(ss)", "data": [["8080", "tcp"]]},
        "forward_ports": {"type": "a(ssss)", "data": [["81", "tcp", "80", "10.0.0.1"]]},
        "masquerade": {"type": "b", "data": True},
        "rules_str": {"type": "as", "data": ["rule accept"]},
    }

    assert read_zone("work", {"interfaces": ["eth0", "eth1"]}, told) == [
        "zone work: interfaces eth0, eth1",
        "zone work: target DROP",
        "zone work: service ssh",
        "zone work: port 8080/tcp",
        "zone work: forward port 81/tcp to 10.0.0.1:80",
        "zone work: masquerade",
        "zone work: rule accept",
    ]
