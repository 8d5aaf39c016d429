"""NetworkManager with two connections, in namespaces of its own, and what is told of its name servers there.

`python -m tests.rigs.network_manager` prints one JSON object; run it by `unshare`, so that nothing of the
machine is touched.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.rigs.firewall_managers import run
from watchman_mcp.collectors import Look
from watchman_mcp.collectors.dns import MANAGER_FILES
from watchman_mcp.collectors.dns import collector as dns
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.schema.network import DNSServer
from watchman_mcp.settings import Settings

PRIVATE = ("/etc", "/var/lib/NetworkManager", "/var/lib/dhcp")
BUS_FILE = "/run/bus.conf"
BUS = """<busconfig>
 <listen>unix:path=/run/dbus/system_bus_socket</listen>
 <auth>EXTERNAL</auth>
 <policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>"""
"""A bus that starts no service of this machine, of which NetworkManager would ask some."""
LOCAL = "/etc/NetworkManager/conf.d/rig.conf"
CONNECTIONS = {
    "home0": {
        "ipv4.addresses": "192.0.2.10/24",
        "ipv4.dns": "192.0.2.53,198.51.100.53",
        "ipv4.dns-search": "home.example",
        "ipv6.method": "manual",
        "ipv6.addresses": "2001:db8::10/64",
        "ipv6.dns": "2001:db8::53,fe80::53",
        "ipv6.dns-search": "six.example",
    },
    "work0": {
        "ipv4.addresses": "203.0.113.10/24",
        "ipv4.dns": "203.0.113.53",
        "ipv4.dns-search": "~corp.example,~113.0.203.in-addr.arpa",
        "ipv6.method": "disabled",
    },
}


def alone() -> None:
    """Let this process alone change what NetworkManager writes; without /sys it does not wait for udev."""
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "tmpfs", "none", "/run")
    for path in PRIVATE:
        if Path(path).exists():
            kept = f"/run/kept{path}"
            os.makedirs(kept)
            run("cp", "-a", f"{path}/.", kept)
            run("mount", "--bind", kept, path)
    run("mount", "-t", "sysfs", "-o", "ro", "sys", "/sys")


def start() -> None:
    """A bus and NetworkManager, which end with this process's namespace of processes."""
    for folder in (Path("/run/dbus"), Path(LOCAL).parent):
        folder.mkdir(parents=True, exist_ok=True)
    Path(LOCAL).write_text(
        "[main]\ndns=default\nplugins=keyfile\nauth-polkit=false\nno-auto-default=*\n[logging]\nlevel=INFO\n"
    )
    Path(BUS_FILE).write_text(BUS)
    subprocess.Popen(["dbus-daemon", f"--config-file={BUS_FILE}", "--nofork", "--nopidfile"])
    with open("/run/manager.log", "wb") as log:
        manager = subprocess.Popen(["NetworkManager", "--no-daemon"], stdout=log, stderr=log)
    asking = ["sh", "-c", "until nmcli -g RUNNING general 2>/dev/null | grep -qx running; do sleep 0.1; done"]
    subprocess.run(asking, timeout=60, check=True)
    assert manager.poll() is None


def connect() -> None:
    """The two connections."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "home0", "type", "veth", "peer", "name", "work0")
    for name, values in CONNECTIONS.items():
        words = [word for pair in values.items() for word in pair]
        run(
            *("nmcli", "connection", "add", "type", "ethernet", "ifname", name, "con-name", name),
            *("autoconnect", "no", "ipv4.method", "manual", *words),
        )
    for name in CONNECTIONS:
        run("nmcli", "--wait", "50", "connection", "up", name)


def seen() -> dict[str, Any]:
    """What is told, and what NetworkManager says itself by its own program."""
    root = Path("/")
    look = Look(Machine(Files(root), Commands(), root), Settings(), "dns", {})
    found = [vars(one) for one in dns.collect(look) if isinstance(one, DNSServer)]
    return {
        "nodes": json.loads(json.dumps(found, default=str)),
        "unobserved": [one.what for one in look.unobserved],
        "shown": {name: shown(name) for name in CONNECTIONS},
        "watched": {path: Path(path).stat().st_ino for path in MANAGER_FILES},
    }


def shown(name: str) -> list[list[str]]:
    """The servers and the names that nmcli shows of an interface, of each family."""
    rows = []
    for family in ("4", "6"):
        columns = f"IP{family}.DNS,IP{family}.SEARCHES"
        lines = run("nmcli", "-e", "no", "-g", columns, "device", "show", name).split("\n")
        rows += [line.split(" | ") if line else [] for line in lines[:2]]
    return rows


def main() -> dict[str, Any]:
    """What is told before and after another server is set."""
    alone()
    start()
    connect()
    before = seen()
    run("nmcli", "connection", "modify", "home0", "ipv4.dns", "192.0.2.54")
    run("nmcli", "--wait", "50", "connection", "up", "home0")
    after = seen()
    return {"before": before, "after": after}


if __name__ == "__main__":
    print(json.dumps(main()), flush=True)
    os._exit(0)
