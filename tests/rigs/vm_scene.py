"""Interfaces and tunnels of every kind in the machine of `vm`, and what is told of them there.

`python -m tests.rigs.vm_scene` prints one JSON object; it is root of that machine, and leaves it as it is.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.rigs import ip_words
from watchman_mcp.collectors import Look
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.schema import Edge
from watchman_mcp.settings import Settings

LINKS = """
link add trunk type veth peer name trunk netns far
link add d0 type dummy
link add d1 type dummy
link add tagged link trunk type vlan id 10
link add service link trunk type vlan proto 802.1ad id 100
link add customer link service type vlan id 20
link add bond0 type bond mode active-backup miimon 100
link add b1 type dummy
link add b2 type dummy
link set b1 master bond0
link set b2 master bond0
link add mv0 link trunk type macvlan mode bridge
link add mt0 link trunk type macvtap
link add nlm0 type nlmon
link add wgx type wireguard
link add ip6t type ip6tnl local fd01::1 remote fd01::2
link add vti0x type vti local 10.1.0.1 remote 10.1.0.2 key 5
link add iv0 link d0 type ipvlan mode l2
link add br0 type bridge vlan_filtering 1
link add p0 type veth peer name p1
link set p0 master br0
link add vrf0 type vrf table 77
link set d1 master vrf0
link add vx0 type vxlan id 42 dev trunk dstport 4789 local 10.1.0.1
link add gre0x type gre local 10.1.0.1 remote 10.1.0.2
link add tap0x type gretap local 10.1.0.1 remote 10.1.0.2
link add sit0x type sit local 10.1.0.1 remote 10.1.0.2
link add geneve0 type geneve id 7 remote 10.1.0.2
link add mac0 link p1 type macsec
link add x0 type xfrm dev trunk if_id 9
link add team0 type team
link add ifb0x type ifb
tuntap add t0 mode tun
tuntap add t1 mode tap
"""
UP = (
    "trunk",
    "d0",
    "tagged",
    "service",
    "customer",
    "bond0",
    "mv0",
    "br0",
    "p0",
    "p1",
    "vrf0",
    "d1",
    "t0",
    "x0",
)
ADDRESSES = """
addr add 10.1.0.1/24 dev trunk
addr add 10.10.0.1/24 dev tagged
addr add 10.20.0.1/24 dev customer
addr add fd20::1/64 dev customer nodad
addr add 10.30.0.1/24 dev bond0
addr add 10.40.0.1/24 dev br0
addr add 10.77.0.1/24 dev d1
addr add 10.78.0.1/32 peer 10.78.0.2/32 dev t0
addr add fd01::1/64 dev trunk nodad
addr add 10.1.0.7/24 dev mv0
"""
ROUTES = """
route add default via 10.1.0.2 metric 100
route add default via 10.10.0.2 metric 200
route add 10.99.0.0/16 via 10.77.0.2 table 77
route add 10.98.0.0/16 nexthop via 10.1.0.2 weight 1 nexthop via 10.10.0.2 weight 3
nexthop add id 1 via 10.1.0.2 dev trunk
nexthop add id 2 via 10.10.0.2 dev tagged
nexthop add id 3 group 1/2
nexthop add id 4 blackhole
route add 10.97.0.0/16 nhid 3
route add 10.96.0.0/16 nhid 1
route add 10.95.0.0/16 nhid 4
route add fd97::/32 via fd01::2
route add fd98::/32 nexthop via fd01::2 nexthop via fd20::2
route add 10.94.0.0/16 via 10.1.0.9 dev trunk onlink proto 99
route add throw 10.92.0.0/16 table 77
rule add from 10.10.0.0/24 table 77 priority 500
rule add iif tagged lookup 77 priority 501
"""
THERE = """
link set lo up
link set trunk up
addr add 10.1.0.2/24 dev trunk
addr add fd01::2/64 dev trunk nodad
"""
NOBODY = "x" * 42 + "A="
"""The public key of a peer that is nowhere."""
SHARED = "a shared secret of nobody"


def ip(lines: str, within: str = "") -> list[str]:
    """Run lines of `ip`; what it refused."""
    words = [*(("ip", "netns", "exec", within) if within else ()), "ip", "-force", "-batch", "-"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, input=lines.strip() + "\n")
    return done.stderr.splitlines()


def run(*argv: str, within: str = "", input: str = "", check: bool = True) -> str:
    """What a command prints, here or in the namespace of this name."""
    words = [*(("ip", "netns", "exec", within) if within else ()), *argv]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, input=input)
    assert done.returncode == 0 or not check, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_for(what: Callable[[], object], name: str, seconds: float = 60) -> None:
    """Wait until this is true, within bounds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"{name} did not come within {seconds} s"
        time.sleep(0.2)


def look(name: str) -> dict[str, Any]:
    """What a collector tells here."""
    root = Path("/")
    looking = Look(Machine(Files(root), Commands(), root), Settings(), name, {})
    found: dict[str, Any] = {"nodes": [], "edges": []}
    for seen in import_module(f"watchman_mcp.collectors.{name}").collect(looking):
        if isinstance(seen, Edge):
            found["edges"].append([seen.start, seen.type.name, seen.end])
        else:
            values = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in seen.__dict__.items()}
            found["nodes"].append({"label": type(seen).__name__, **values})
    found["unobserved"] = {one.what: one.why for one in looking.unobserved}
    return found


def network() -> dict[str, Any]:
    """Interfaces of every kind, routes and rules: what `ip` says, and what is told."""
    run("modprobe", "tun")
    run("ip", "netns", "add", "far")
    refused = ip(LINKS) + ip(THERE, "far") + ip("\n".join(f"link set {name} up" for name in UP))
    refused += ip(ADDRESSES) + ip(ROUTES)
    wait_for(lambda: "state UP" in run("ip", "link", "show", "bond0"), "the bond")
    # the kernel gives addresses to what is up, one after the other
    wait_for(lambda: settled() == settled(), "rest")
    told: dict[str, Any] = {}
    for within in ("", "far"):
        told[within] = {"addresses": asked("address", within=within)}
        for family in ("-4", "-6"):
            told[within] |= {
                f"routes {family}": asked(family, "route", "show", "table", "all", within=within),
                f"rules {family}": asked(family, "rule", within=within),
            }
    return {"refused": refused, "told": told, "seen": look("network")}


def settled() -> list[Any]:
    """What can be told of the interfaces by now."""
    return [ip_words.interfaces(asked("address", within=within)) for within in ("", "far")]


def asked(*words: str, within: str) -> Any:
    """What `ip` says."""
    return json.loads(run("ip", "-j", "-d", *words, within=within) or "[]")


def wireguard() -> dict[str, Any]:
    """A tunnel of the kernel with its peer there, and with the peer gone; the clock is set forward."""
    keys = [run("wg", "genkey").strip() for _ in range(2)]
    public = [run("wg", "pubkey", input=key).strip() for key in keys]
    for number, within in enumerate(("", "far")):
        run("ip", "link", "add", "wg0", "type", "wireguard", within=within)
        run("ip", "address", "add", f"10.9.0.{number + 1}/24", "dev", "wg0", within=within)
        peer = (
            "peer",
            public[1 - number],
            "endpoint",
            f"10.1.0.{2 - number}:51820",
            "allowed-ips",
            "10.9.0.0/24",
        )
        own = ("private-key", "/dev/stdin", "listen-port", "51820")
        run("wg", "set", "wg0", *own, *peer, within=within, input=keys[number])
        run("ip", "link", "set", "wg0", "up", within=within)
    run("wg", "set", "wg0", "peer", NOBODY, "allowed-ips", "10.66.0.0/16,fd66::/16")
    run("ping", "-c", "1", "-w", "20", "10.9.0.2")
    for _ in range(5):  # the kernel sends a keepalive ten seconds after it heard something: once, maybe now
        before = run("wg", "show", "wg0", "transfer")
        fresh = look("vpn")
        columns = ("endpoints", "allowed-ips", "latest-handshakes", "transfer")
        shown = {column: run("wg", "show", "wg0", column).splitlines() for column in columns}
        if shown["transfer"] == before.splitlines():
            break
    run("ip", "link", "delete", "wg0", within="far")
    run("date", "-s", "+10 minutes")
    return {"shown": shown, "fresh": fresh, "stale": look("vpn"), "secrets": keys}


HERE, FAR = "10.1.0.1", "10.1.0.2"
SWAN = """
connections {
  home {
    local_addrs = %(here)s
    remote_addrs = %(far)s
    local { auth = psk
      id = %(me)s }
    remote { auth = psk
      id = %(you)s }
    children { net { local_ts = 10.6%(mine)d.0.0/24
        remote_ts = 10.6%(yours)d.0.0/24 } }
  }
  office { remote_addrs = 10.1.0.99
    local { auth = psk }
    remote { auth = psk }
    children { trap { remote_ts = 10.70.0.0/24
        start_action = trap } } }
  asleep { remote_addrs = vpn.example
    local { auth = psk }
    remote { auth = psk }
    children { lan { remote_ts = 10.71.0.0/24 } } }
}
secrets { ike-1 { secret = "%(secret)s" } }
"""
DAEMON = (
    "mount -t tmpfs tmpfs /run && { charon-systemd & } && "
    "until swanctl --stats >/dev/null 2>&1; do sleep 0.3; done; "
    "swanctl --load-all --noprompt --file /tmp/far.conf; wait"
)


def by_hand() -> None:
    """An IPsec tunnel with keys that are given, through which something went."""
    for number, within in enumerate(("", "far")):
        ends = (HERE, FAR)
        for spi, (one, other) in enumerate(((HERE, FAR), (FAR, HERE)), 0x101):
            key = f"0x{spi:040x}"
            run(
                *("ip", "xfrm", "state", "add", "src", one, "dst", other, "proto", "esp", "spi", hex(spi)),
                *("reqid", "1", "mode", "tunnel", "aead", "rfc4106(gcm(aes))", key, "128"),
                within=within,
            )
            for way in ("out",) if one == ends[number] else ("in", "fwd"):
                nets = [f"10.5{'01'[end == FAR]}.0.0/24" for end in (one, other)]
                run(
                    *("ip", "xfrm", "policy", "add", "src", nets[0], "dst", nets[1], "dir", way),
                    *("tmpl", "src", one, "dst", other, "proto", "esp", "reqid", "1", "mode", "tunnel"),
                    within=within,
                )
        run("ip", "address", "add", f"10.5{number}.0.1/24", "dev", "lo", within=within)
        run("ip", "route", "add", f"10.5{1 - number}.0.0/24", "via", ends[1 - number], within=within)
    run("ping", "-c", "2", "-i", "0.2", "-w", "20", "-I", "10.50.0.1", "10.51.0.1")


def strongswan() -> None:
    """A tunnel by strongSwan, one that waits for something to send, and one that is only known."""
    here = {
        "here": "fd01::1",
        "far": "fd01::2",
        "me": "here.example",
        "you": "far.example",
        "mine": 0,
        "yours": 1,
    }
    turned = {
        "here": "fd01::2",
        "far": "fd01::1",
        "me": "far.example",
        "you": "here.example",
        "mine": 1,
        "yours": 0,
    }
    for name, values in (("here", here), ("far", turned)):
        Path(f"/tmp/{name}.conf").write_text(SWAN % {**values, "secret": SHARED})
    run("ip", "address", "add", "10.60.0.1/24", "dev", "lo")
    run("ip", "address", "add", "10.61.0.1/24", "dev", "lo", within="far")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    # both end with the machine
    subprocess.Popen(["charon-systemd"], **quiet)
    subprocess.Popen(["ip", "netns", "exec", "far", "unshare", "-m", "sh", "-c", DAEMON], **quiet)
    wait_for(lambda: "uptime" in run("swanctl", "--stats", check=False), "strongSwan")
    run("swanctl", "--load-all", "--noprompt", "--file", "/tmp/here.conf")
    begin = ("swanctl", "--initiate", "--child", "net", "--timeout", "20")
    wait_for(lambda: "completed" in run(*begin, check=False), "the tunnel of strongSwan")
    run("ping", "-c", "2", "-i", "0.2", "-w", "20", "-I", "10.60.0.1", "10.61.0.1")


def ipsec() -> dict[str, Any]:
    """IPsec's tunnels, as the kernel's alone and with strongSwan's, and as `ip` and strongSwan have them."""
    by_hand()
    alone = look("vpn")
    strongswan()
    seen = look("vpn")
    shown = {
        "state": run("ip", "-s", "xfrm", "state", "list", "nokeys"),
        "policy": run("ip", "xfrm", "policy"),
    }
    swan = {what: run("swanctl", f"--list-{what}", "--raw") for what in ("sas", "conns")}
    run("swanctl", "--terminate", "--ike", "home")
    return {"alone": alone, "seen": seen, "shown": shown, "swan": swan, "ended": look("vpn")}


def main() -> dict[str, Any]:
    """Everything, one after the other."""
    return {"network": network(), "wireguard": wireguard(), "ipsec": ipsec()}


if __name__ == "__main__":
    print(json.dumps(main()))
