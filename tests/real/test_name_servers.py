"""Name servers beside what the programs themselves say of them, and servers that really answer."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rigs import cache
from tests.rigs.looking import look
from tests.rigs.machine import Machine
from tests.rigs.networks import Side, joined, wait_for
from tests.rigs.resolved import look_at, resolving
from watchman_mcp.collectors import load
from watchman_mcp.machine.dns_servers import merged
from watchman_mcp.machine.dns_servers.resolv import read_resolv

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def sides() -> Iterator[tuple[Side, Side]]:
    with joined() as both:
        yield both


@pytest.fixture(scope="module")
def resolved() -> Iterator[Machine]:
    with resolving() as machine:
        yield machine


def with_files(side: Side, files: dict[str, str]) -> list[str]:
    """First words that run the rest in a namespace where these files of /etc have these texts."""
    words = []
    for number, (path, text) in enumerate(files.items()):
        place = side.folder / f"bound-{number}"
        place.write_text(text)
        words.append(f"mount --bind {place} {path}")
    script = " && ".join([*words, 'exec "$@"'])
    return [*side.enter, "unshare", "--mount", "sh", "-c", script, "sh"]


def servers(found: dict[str, Any], source: str) -> list[dict[str, Any]]:
    return [node for node in found["nodes"] if node["source"] == source]


def test_a_dnsmasq_that_runs_is_timed_and_one_that_does_not_is_told(sides: tuple[Side, Side]) -> None:
    cache.need_programs("dnsmasq", "dnsmasq", how="as root: apt-get install dnsmasq-base")
    here, there = sides
    there.start(
        *(
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--user=root",
        ),
        *("--bind-interfaces", f"--listen-address={there.address}", "--pid-file=", "--local=//"),
    )
    wait_for(lambda: there.address in there.run("ss", "-Hlun", "sport", "=", ":53"), name="dnsmasq")
    text = f"nameserver {there.address}\nnameserver 127.0.0.9\nnameserver 203.0.113.9\nsearch example.com\n"

    found = look(with_files(here, {"/etc/resolv.conf": text}), "dns")

    one, two, three = servers(found, "resolv.conf")
    assert found["unobserved"] == {}
    assert (one["ip"], one["answers"]) in {(there.address, "yes"), (there.address, "refused")}
    assert (two["ip"], two["answers"]) == ("127.0.0.9", "nothing listens there")
    assert (three["ip"], three["answers"]) == ("203.0.113.9", "network is unreachable")
    again = look(with_files(here, {"/etc/resolv.conf": text}), "dns", marks=found["marks"])
    assert [node["checked_at"] for node in again["nodes"]] == [node["checked_at"] for node in found["nodes"]]
    # another server is told before it is asked, which is left to the next look
    text = text.replace("127.0.0.9", "127.0.0.8")
    told = [look(with_files(here, {"/etc/resolv.conf": text}), "dns", marks=again["marks"])]
    told.append(look(with_files(here, {"/etc/resolv.conf": text}), "dns", marks=told[0]["marks"]))
    [first, second] = [{node["ip"]: node["answers"] for node in one["nodes"]} for one in told]
    assert first == {one["ip"]: one["answers"], "127.0.0.8": None, "203.0.113.9": "network is unreachable"}
    assert second == first | {"127.0.0.8": "nothing listens there"}


LINES = (
    *("nameserver 192.0.2.1", "nameserver\t192.0.2.2 trailing", " nameserver 192.0.2.3", "nameserver 127.1"),
    *(
        "nameserver evil",
        "nameserver",
        "#nameserver 192.0.2.4",
        "nameserver 0x7f.0.0.2",
        "nameserver 192.0.2.300",
    ),
    *("nameserver 010.0.0.1", "nameserver 3221225985", "nameserver 192.0.2.5#53", "nameserverx 192.0.2.6"),
    *("domain a.example b.example", "search c.example d.example", "search", "domain", "Search e.example"),
    *(
        "nameserver 192.0.2.7\r",
        "search f.example\tg.example",
        "options ndots:3",
        "nameserver   192.0.2.8  ;x",
    ),
)
LIBRARY = """
import ctypes, json, socket, sys
libc = ctypes.CDLL("libc.so.6")
found = []
for text in json.load(sys.stdin):
    with open("/etc/resolv.conf", "w") as stream:
        stream.write(text)
    state = ctypes.create_string_buffer(4096)
    assert libc.__res_ninit(state) == 0
    raw = state.raw
    count = int.from_bytes(raw[16:20], "little")
    found.append([socket.inet_ntoa(raw[24 + 16 * n : 28 + 16 * n]) for n in range(count)])
    libc.__res_nclose(state)
json.dump(found, sys.stdout)
"""
"""Lays out one resolv.conf after the other, and tells the servers that the C library asks."""


def test_a_resolv_conf_is_read_as_the_c_library_reads_it(sides: tuple[Side, Side]) -> None:
    chance = random.Random(7)
    texts = ["\n".join(chance.sample(LINES, 4)) + chance.choice(["", "\n"]) for _ in range(300)]
    within = with_files(sides[0], {"/etc/resolv.conf": ""})
    told = subprocess.run(
        [*within, sys.executable, "-c", LIBRARY], input=json.dumps(texts).encode(), capture_output=True,
        timeout=30, check=True,
    )  # fmt: skip

    for text, library in zip(texts, json.loads(told.stdout), strict=True):
        asked = [one.ip for one in merged(read_resolv(text).named("resolv.conf")) if one.position]
        # Where none is named, the library asks this machine.
        assert (asked or ["127.0.0.1"]) == list(dict.fromkeys(library)), text


def test_a_server_of_a_link_has_its_interface_by_name_and_by_number(sides: tuple[Side, Side]) -> None:
    here, there = sides
    index = json.loads(here.run("ip", "-j", "link", "show", "wire"))[0]["ifindex"]
    text = f"nameserver fe80::1%wire\nnameserver fe80::2%{index}\n"

    found = look(with_files(here, {"/etc/resolv.conf": text}), "dns")

    assert [(node["ip"], node["interface"]) for node in found["nodes"]] == [
        ("fe80::1", "wire"),
        ("fe80::2", "wire"),
    ]
    assert {node["answers"] for node in found["nodes"]} <= {"no answer", "no route to host"}
    assert len(found["edges"]) == 2


def test_servers_and_split_names_are_those_that_resolvectl_shows(resolved: Machine) -> None:
    for words in (
        "dns d0 192.0.2.1 2001:db8::1",
        "domain d0 home.example",
        "dns d1 198.51.100.1:5353",
        "domain d1 ~corp.example ~168.192.in-addr.arpa",
        "dnsovertls d1 yes",
    ):
        resolved.run(["resolvectl", *words.split()])

    found = look_at(resolved, "dns")

    assert found["unobserved"] == {}
    shown = {
        (link, ip)
        for link in ("d0", "d1")
        for ip in resolved.run(["resolvectl", "dns", link]).stdout.partition("):")[2].split()
    }
    rows = servers(found, "systemd-resolved")
    assert {
        (row["interface"], row["ip"] + (f":{row['port']}" if row["port"] == 5353 else "")) for row in rows
    } == shown
    domains = {row["interface"]: row["domains"] for row in rows}
    for link in ("d0", "d1"):
        told = resolved.run(["resolvectl", "domain", link]).stdout.partition("):")[2].split()
        assert sorted(domains[link]) == sorted(told)
    assert {(row["interface"], row["transport"]) for row in rows} == {("d0", "plain"), ("d1", "tls")}
    assert [row["provider"] for row in servers(found, "resolv.conf")] == ["systemd-resolved"]
    assert [row["domains"] for row in servers(found, "resolv.conf")] == [["home.example"]]
    assert ["DNSServer/systemd-resolved/d0/192.0.2.1/53", "USED_BY", "NetworkInterface//d0"] in found["edges"]


def test_a_resolved_that_is_stopped_names_no_servers_and_its_stub_does_not_answer(resolved: Machine) -> None:
    resolved.run(["systemctl", "stop", "systemd-resolved"])
    try:
        found = look_at(resolved, "dns")
    finally:
        resolved.run(["systemctl", "start", "systemd-resolved"])

    assert servers(found, "systemd-resolved") == []
    assert found["unobserved"] == {}
    assert [row["answers"] for row in servers(found, "resolv.conf")] == ["nothing listens there"]


def test_the_watched_files_change_when_a_server_of_a_link_changes(resolved: Machine) -> None:
    [collector] = [one for one in load() if one.name == "dns"]
    watched = "/run/systemd/resolve/resolv.conf"
    before = Path(f"{resolved.root}{watched}").stat().st_ino

    resolved.run(["resolvectl", "dns", "d0", "192.0.2.77"])

    wait_for(lambda: Path(f"{resolved.root}{watched}").stat().st_ino != before)
    assert watched in collector.watch
