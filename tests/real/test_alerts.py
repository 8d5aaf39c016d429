"""Alerts of a real daemon, from a file or a network that changes to what clients are told, and a crash."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.clients import Delay, Session, delay_until
from tests.real.homes import PROGRAM, Debian, Home
from tests.rigs import cache
from tests.rigs.clients import RIG, until
from tests.rigs.networks import Side, joined, wait_for
from tests.rigs.wireguard import End

pytestmark = pytest.mark.real
RESOLVING = (sys.executable, "-I", RIG, "serve", "resolving")
HASTY = (sys.executable, "-I", RIG, "serve", "hasty")
URI = "watchman://alerts"


@pytest.fixture
def debian(tmp_path: Path) -> Debian:
    made = Debian(tmp_path / "root")
    ask_server(made, "192.0.2.53")
    return made


@pytest.fixture
def home(tmp_path: Path, debian: Debian) -> Iterator[Home]:
    one = Home(tmp_path / "home", debian.settings)
    yield one
    one.finish()


def ask_server(debian: Debian, ip: str) -> None:
    """Another name server, as whoever writes the file does it: by a new file of the old name."""
    (debian.root / "etc/resolv.conf.new").write_text(f"nameserver {ip}\n")
    (debian.root / "etc/resolv.conf.new").rename(debian.root / "etc/resolv.conf")


def heard(client: Session) -> dict[str, Any]:
    found: dict[str, Any] = client.wait(
        lambda line: line.get("method") == "notifications/resources/updated" and line["params"]["uri"] == URI
    )
    return found


def test_a_file_that_changes_becomes_an_alert_that_subscribers_hear_of_and_that_outlives_a_crash(
    home: Home, debian: Debian
) -> None:
    home.serve(program=RESOLVING)
    client = home.client()
    # a change is one only against a look before it, and counts from the first judgement on
    client.call("scan", area="dns")
    until(lambda: home.rows("SELECT 1 FROM _collector WHERE name = 'watchman:alerts'"))
    assert "alerts" not in client.call("overview")
    client.request("resources/subscribe", uri=URI)

    ask_server(debian, "198.51.100.1")

    heard(client)
    (alert,) = client.call("overview")["alerts"]
    assert alert["message"].startswith("The name servers that this machine asks changed")
    (line,) = client.call("what_changed", kind="alert")["items"]
    assert (line["type"], line["alert"]) == ("alert_opened", alert["id"])
    causes = client.call("what_changed", before=alert["id"])["items"]
    assert {one["type"] for one in causes if "concerns" in one["lead"]} == {"dns_appeared", "dns_vanished"}

    home.kill()
    home.serve(program=RESOLVING)
    client = home.client()
    assert client.call("overview")["alerts"] == [alert]
    ask_server(debian, "198.51.100.2")

    def counted() -> list[dict[str, Any]]:
        return [one for one in client.call("overview")["alerts"] if one["count"] > alert["count"]]

    (grown,) = until(counted)
    assert grown["id"] == alert["id"]
    assert home.rows("SELECT count(*) FROM Alert") == [(1,)]


# The network


RULESET = (
    "table inet filter { chain input { type filter hook input priority 0; ct state established accept; }; }"
)
LISTENER = (
    "import socket; server = socket.create_server(('0.0.0.0', 8443)); print('up', flush=True); "
    "server.accept()"
)
OWN_ETC = """
[ ! -d /run/netns ] || mount -t tmpfs tmpfs /run/netns || exit
mount -t tmpfs tmpfs "$0" && mkdir "$0/upper" "$0/work" &&
echo nameserver 192.0.2.53 > "$0/upper/resolv.conf" &&
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$0/upper,workdir=$0/work" /etc && exec "$@"
"""


class Watched:
    """A machine whose default route is a tunnel, as far as the network goes, and a client of its daemon."""

    def __init__(self, sides: tuple[Side, Side], home: Home, program: tuple[str, ...]) -> None:
        self.here, self.there = sides
        self.ends = End(self.here, 1), End(self.there, 2)
        self.shared = self.here.run("wg", "genpsk").strip()
        self.join(1)
        self.join(0)
        wait_for(self.ends[0].shook_hands, name="a handshake")
        self.here.run("nft", RULESET)
        (home.path / "etc").mkdir()
        etc = str(home.path / "etc")
        # without the namespaces and processes of other tests, whose default routes come and go too
        alone = ("--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc", "--kill-child")
        within = ("unshare", *alone, "sh", "-c", OWN_ETC, etc)
        argv = (*self.here.enter, *within, *program, "serve", "--stdio")
        self.client = home.client(argv, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        self.delays: list[Delay] = []
        self.home = home

    def join(self, number: int) -> None:
        """Bring one end of the tunnel up; this machine's takes all that goes to the internet."""
        self.ends[number].start(self.ends[1 - number], self.shared, "0.0.0.0/0")
        if number == 0:
            self.here.run("ip", "route", "add", "default", "dev", self.ends[0].name)

    def write(self, server: str) -> None:
        """Another name server, in the daemon's own /etc, by a new file of the old name as programs do it."""
        script = (
            f"echo nameserver {server} > /etc/resolv.conf.new && mv /etc/resolv.conf.new /etc/resolv.conf"
        )
        pid = str(self.client.process.pid)
        subprocess.run(["nsenter", "--target", pid, "--mount", "sh", "-c", script], check=True, timeout=20)

    def event(self, kind: str, what: str, subject: str, seconds: float = 15) -> dict[str, Any]:
        """What is told of a change that was just made; and how long that took."""

        def told() -> list[dict[str, Any]]:
            items = self.client.call("what_changed", kind=kind, subject=subject, since="1h").get("items", [])
            return [one for one in items[:1] if one["type"] == what]

        self.delays.append(delay_until(told, seconds, f"{what} {subject[:20]}"))
        return told()[0]

    def alert(self, rule: str, text: str, seconds: float, *, opened: bool = True) -> dict[str, Any]:
        """The alert that opens with this text, or closes: in the overview, the changes and the resource."""

        def among() -> list[dict[str, Any]]:
            return [one for one in self.client.call("overview").get("alerts", []) if text in one["message"]]

        word = "opened" if opened else "closed"
        self.delays.append(delay_until(lambda: bool(among()) is opened, seconds, f"alert {rule} {word}"))
        changes = self.client.call("what_changed", kind="alert", since="1h")["items"]
        events = [one for one in changes if text in one["what"]]
        assert events[0]["type"] == f"alert_{word}"
        read = self.client.request("resources/read", uri=URI)["result"]["contents"][0]["text"]
        assert text.replace('"', '\\"') in read
        return among()[0] if opened else events[0]


@pytest.fixture
def sides() -> Iterator[tuple[Side, Side]]:
    how = "as root: apt-get install wireguard-go wireguard-tools nftables"
    cache.need_programs("a tunnel and a firewall", "wireguard-go", "wg", "nft", "unshare", "nsenter", how=how)
    if not Path("/dev/net/tun").exists():
        cache.missing("/dev/net/tun", "as root: modprobe tun")
    with joined() as both:
        yield both


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Home]:
    # without packages the daemon begins at once
    one = Home(
        tmp_path / "away",
        "[features]\nsystem_monitoring = false\n[network]\nscan_interval = 10\nexternal_ip = false\n",
    )
    yield one
    one.finish()


def look(watched: Watched, scan: bool) -> None:
    if scan:
        watched.client.call("scan", area="ports")


def story(watched: Watched, after: float, calm: float, *, scan: bool) -> None:
    """What a person does to a network, what is told of it at once, and which alerts that becomes.

    Of a port that opens the kernel says nothing, so it is found at the interval, or by a `scan`.
    """
    client, wg = watched.client, watched.ends[0].name
    tunnel = f"{wg} {watched.ends[1].public}"
    for area in ("network", "firewall", "ports", "dns", "vpn"):
        client.call("scan", area=area)
    until(lambda: watched.home.rows("SELECT 1 FROM _collector WHERE name = 'watchman:alerts'"))
    client.request("resources/subscribe", uri=URI)
    assert "alerts" not in client.call("overview")

    watched.ends[0].stop()
    watched.event("network", "vpn_disconnected", tunnel)
    watched.event("network", "route_vanished", "default")
    watched.alert("vpn_down", f'"wireguard {tunnel}"', after + 30)
    heard(client)
    watched.alert("default_route_changed", f'"{wg}" "vanished"', 30)
    watched.join(0)
    watched.event("network", "vpn_connected", tunnel)
    watched.event("network", "route_appeared", "default")
    watched.here.run("ip", "link", "set", wg, "down")
    down = watched.event("network", "vpn_disconnected", tunnel)
    assert "status active -> down" in down["what"]
    watched.here.run("ip", "link", "set", wg, "up")
    watched.event("network", "vpn_connected", tunnel)
    watched.here.run("ip", "route", "add", "default", "dev", wg)  # which the kernel took away
    watched.event("network", "route_appeared", "default")

    watched.write("198.51.100.1")
    watched.event("network", "dns_appeared", "198.51.100.1")
    watched.event("network", "dns_vanished", "192.0.2.53")
    watched.alert("name_servers_changed", "The name servers", 30)

    with subprocess.Popen(
        [*watched.here.enter, sys.executable, "-c", LISTENER], stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None and server.stdout.readline() == b"up\n"
        look(watched, scan)
        watched.event("network", "port_opened", "tcp 8443", 20)
        opened = watched.alert("port_open_to_internet", '"tcp 8443"', after + 30)
        assert opened["message"].endswith("can be reached from the internet since a change")
        server.kill()
    look(watched, scan)
    watched.event("network", "port_closed", "tcp 8443", 20)

    watched.here.run("nft", "flush", "ruleset")
    watched.event("firewall", "firewall_chain_vanished", "input")
    watched.alert("firewall_flushed", "lost all of its rules", after + 30)
    watched.here.run("nft", RULESET)

    for rule, text in (
        ("vpn_down", f'"wireguard {tunnel}"'),
        ("port_open_to_internet", '"tcp 8443"'),
        ("firewall_flushed", "lost all of its rules"),
    ):
        watched.alert(rule, text, calm + 40, opened=False)


def test_what_happens_to_a_network_is_told_at_once_and_becomes_alerts_that_open_and_close(
    sides: tuple[Side, Side], away: Home
) -> None:
    watched = Watched(sides, away, HASTY)

    story(watched, 1, 1, scan=True)

    print("told after:", *(f"{one.what}: {one.seconds:.2f} s" for one in watched.delays), sep="\n")


@pytest.mark.skipif(
    os.environ.get("WATCHMAN_TEST_SOAK") != "patient",
    reason="waits as long as the rules do, a quarter of an hour: WATCHMAN_TEST_SOAK=patient",
)
def test_the_same_by_the_times_of_the_rules_and_a_peer_that_is_killed(
    sides: tuple[Side, Side], away: Home
) -> None:
    watched = Watched(sides, away, PROGRAM)

    story(watched, 60, 600, scan=False)
    tunnel = f"{watched.ends[0].name} {watched.ends[1].public}"
    watched.ends[1].stop()
    stale = watched.event("network", "vpn_disconnected", tunnel, 240)
    assert "status active -> stale" in stale["what"]
    watched.alert("vpn_stale", "has had no sign of its peer", 120)

    print("told after:", *(f"{one.what}: {one.seconds:.2f} s" for one in watched.delays), sep="\n")
