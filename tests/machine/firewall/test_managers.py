"""What ufw keeps in its files, and what a stranger might make of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from watchman_mcp.errors import Broken
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.firewall.managers import (
    Manager,
    firewalld,
    read_tuples,
    read_zone,
    settings_of,
    ufw,
)
from watchman_mcp.machine.firewall.model import Chain, ChainId, Firewall
from watchman_mcp.machine.firewall.zones import read_zone_file

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
        (
            "deny udp any 0.0.0.0/0 137,138 10.0.0.0/8 - Samba in",
            "deny in from 10.0.0.0/8 port 137,138 to any proto udp from app Samba",
        ),
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


WORK = """<?xml version="1.0" encoding="utf-8"?>
<zone target="DROP">
  <short>Work</short>
  <interface name="eth0"/>
  <source address="10.9.0.0/16"/>
  <source ipset="good"/>
  <service name="ssh"/>
  <port protocol="tcp" port="8080-8090"/>
  <source-port port="53" protocol="udp"/>
  <forward-port port="81" protocol="tcp" to-port="80" to-addr="10.0.0.1"/>
  <masquerade/>
  <forward enabled="no"/>
  <rule family="ipv4" priority="-5">
    <source address="203.0.113.0/24" invert="True"/>
    <port port="5432" protocol="tcp"/>
    <log prefix="db "><limit value="3/m"/></log>
    <reject type="tcp-reset"/>
  </rule>
  <rule><icmp-type name="echo-request"/><drop/></rule>
</zone>
"""
TOLD = [
    "zone work: interfaces eth0",
    "zone work: sources 10.9.0.0/16, ipset:good",
    "zone work: target DROP",
    "zone work: service ssh",
    "zone work: port 8080-8090/tcp",
    "zone work: source_port 53/udp",
    "zone work: forward port 81/tcp to 10.0.0.1:80",
    "zone work: masquerade",
    'zone work: rule priority="-5" family="ipv4" source NOT address="203.0.113.0/24" '
    'port port="5432" protocol="tcp" log prefix="db " limit value="3/m" reject type="tcp-reset"',
    'zone work: rule icmp-type name="echo-request" drop',
]


def looked(read: Callable[[Machine, Firewall], Manager], root: Path, chains: tuple[str, ...] = ()) -> Manager:
    firewall = Firewall()
    firewall.add({name: Chain(name) for name in (ChainId("iptables", "ip", "filter", one) for one in chains)})
    return read(Machine(Files(root), Commands(str(root)), root), firewall)


def put(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_a_zone_of_a_file_is_told_as_that_of_the_bus() -> None:
    zone = read_zone_file(WORK)

    assert read_zone("work", zone.bound, zone.told) == TOLD
    assert zone.unread == 0


@pytest.mark.parametrize("odd", ["<colour name='x'/>", "<port/>", "<source/>"])
def test_an_element_of_a_zone_that_is_not_understood_is_counted(odd: str) -> None:
    assert read_zone_file(f"<zone>{odd}<service name='ssh'/></zone>").unread == 1


@pytest.mark.parametrize("text", ["", "<zone>", "<!DOCTYPE zone []><zone/>"])
def test_a_file_that_is_no_zone_is_broken(text: str) -> None:
    with pytest.raises(Broken, match="zone of firewalld"):
        read_zone_file(text)


def test_of_a_firewalld_that_does_not_run_its_files_are_told(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "etc/firewalld/firewalld.conf": "# made here\nDefaultZone=public\n",
            "etc/firewalld/zones/work.xml": WORK,
            "etc/firewalld/zones/work.xml.old": "<zone>",
            "usr/lib/firewalld/zones/public.xml": "<zone><service name='dhcpv6-client'/></zone>",
            "usr/lib/firewalld/zones/home.xml": "<zone><service name='samba'/></zone>",
        },
    )

    found = looked(firewalld, tmp_path)

    assert (found.active, found.incoming, found.unseen) == (False, "zone public", None)
    assert found.settings == ["zone public: service dhcpv6-client", *TOLD]


def test_of_a_firewalld_that_cannot_be_asked_its_files_are_told_and_that_it_could_not(tmp_path: Path) -> None:
    put(tmp_path, {"etc/firewalld/firewalld.conf": "", "etc/firewalld/zones/work.xml": WORK})
    put(tmp_path, {"busctl": "#!/bin/sh\necho \"busctl: unrecognized option '--json=short'\" >&2; exit 1\n"})
    (tmp_path / "busctl").chmod(0o755)

    found = looked(firewalld, tmp_path, ("INPUT_ZONES",))

    assert (found.active, found.settings) == (True, TOLD)
    assert found.unseen is not None
    assert "unrecognized option" in found.unseen


def test_the_rules_of_an_old_ufw_are_where_it_kept_them(tmp_path: Path) -> None:
    rule = f"{TUPLE}allow tcp 22 0.0.0.0/0 any 0.0.0.0/0\n"
    put(tmp_path, {"etc/ufw/ufw.conf": "ENABLED='Yes'\n", "lib/ufw/user.rules": rule})

    found = looked(ufw, tmp_path)

    assert (found.enabled, found.settings) == (True, ["allow in from any to any port 22 proto tcp"])
