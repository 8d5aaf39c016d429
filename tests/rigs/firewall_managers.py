"""ufw or firewalld with some settings, in namespaces of its own, and what is told of it there.

`python -m tests.rigs.firewall_managers ufw|firewalld` prints one JSON object; run it by `unshare`, so
that nothing of the machine is touched.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from tests.rigs.firewall import ADDRESSES, Namespace, Pair, T, Try, cable, packet
from watchman_mcp.collectors import Look
from watchman_mcp.collectors.firewall import collect
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.firewall.evaluate import decide
from watchman_mcp.machine.firewall.reading import read_firewall
from watchman_mcp.schema.firewall import FirewallChain
from watchman_mcp.settings import Settings

UFW = (
    ("ufw", "--force", "enable"),
    ("ufw", "allow", "in", "on", "eth0", "to", "any", "port", "80,443", "proto", "tcp", "comment", 'web "x"'),
    ("ufw", "insert", "1", "deny", "from", "203.0.113.0/24"),
    ("ufw", "limit", "22/tcp"),
    ("ufw", "allow", "from", "10.0.0.0/8", "to", "any", "port", "5432", "proto", "tcp"),
    ("ufw", "route", "allow", "in", "on", "eth0", "out", "on", "eth1", "to", "10.0.0.1", "port", "80"),
    ("ufw", "allow", "log", "53"),
)
FIREWALLD = (
    ("--zone=public", "--add-interface=eth0"),
    ("--zone=trusted", "--add-source=10.0.0.0/8"),
    ("--zone=public", "--add-port=8080/tcp"),
    ("--zone=public", "--add-service=http"),
    ("--zone=public", '--add-rich-rule=rule family="ipv4" source address="203.0.113.0/24" drop'),
    (
        "--zone=public",
        "--add-rich-rule=rule family=ipv4 source address=8.8.8.8 port port=5432 protocol=tcp accept",
    ),
)
PORTS = (22, 80, 443, 8080, 5432)


def run(*argv: str) -> str:
    """What a command prints."""
    done = subprocess.run(argv, text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def mounted(*paths: str) -> None:
    """Let this process alone change these directories."""
    run("mount", "--make-rprivate", "/")
    for path in paths:
        kept = tempfile.mkdtemp()
        run("cp", "-a", f"{path}/.", kept)
        run("mount", "--bind", kept, path)


def ufw() -> list[str]:
    """Turn ufw on with some rules; what it says of these itself."""
    mounted("/etc/ufw")
    for command in UFW:
        run(*command)
    said = run("ufw", "show", "added").splitlines()[1:]
    return [line for line in said if line]


def firewalld() -> list[str]:
    """Start firewalld with some rules; what it says of its zones itself."""
    mounted("/etc/firewalld", "/var/log")
    run("mount", "-t", "tmpfs", "none", "/run")
    os.makedirs("/run/dbus")
    # both end with this process, which is alone in its namespace of processes
    subprocess.Popen(["dbus-daemon", "--system", "--nofork", "--nopidfile"])
    watch = subprocess.Popen(["firewalld", "--nofork", "--nopid"], stderr=subprocess.DEVNULL)
    asking = ["sh", "-c", "until firewall-cmd --state >/dev/null 2>&1; do sleep 0.1; done"]
    subprocess.run(asking, timeout=30, check=True)
    assert watch.poll() is None
    for words in FIREWALLD:
        run("firewall-cmd", *words)
    return [*run("firewall-cmd", "--zone=public", "--list-all").splitlines()]


def main(name: str) -> dict[str, object]:
    """Set the manager up, look at it, and connect to it."""
    there = Namespace()
    both = Pair(Here(), there)
    cable(both)
    both.listen(PORTS)
    said = {"ufw": ufw, "firewalld": firewalld}[name]()
    root = Path("/")
    machine = Machine(Files(root), Commands(), root)
    look = Look(machine, Settings(), "firewall")
    rows = list(collect(look))
    firewall = read_firewall(machine)
    tries = [
        Try("tcp", "eth0", source, ADDRESSES["eth0"][0].partition("/")[0], port)
        for source in ("203.0.113.5", "8.8.8.8", "10.7.0.2", "192.168.9.9")
        for port in PORTS
    ]
    happened = both.attempt(tries)
    verdicts = [
        (str(one), reached, decide(firewall, packet(one), one.source).verdict)
        for one, reached in happened.items()
    ]
    return {
        "said": said,
        "managers": [row.__dict__ for row in rows if type(row).__name__ == "FirewallManager"],
        "made_by": sorted(
            {str(row.made_by) for row in rows if isinstance(row, FirewallChain) and not row.namespace}
        ),
        "unobserved": [one.what for one in look.unobserved],
        "verdicts": verdicts,
    }


class Here(Namespace):
    """The namespace that this process is in."""

    def __init__(self) -> None:
        self.thread = threading.get_native_id()
        self.run("ip", "link", "set", "lo", "up")

    def call(self, do: Callable[[], T]) -> T:
        """What this gives, here."""
        return do()

    def end(self) -> None:
        """It ends with this process."""


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])), flush=True)
    # the threads of namespaces would be waited for
    os._exit(0)
