"""A network of its own with processes of its own, where tests open sockets of every kind and look at them."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.rigs import cache

ROOT = Path(__file__).parents[2]
SCENE = "mount -t tmpfs tmpfs /run && ip link set lo up && echo ready && exec sleep infinity"
BECOME = """
import ctypes, os
import pyroute2  # before the user changes, who may have no way to the interpreter
def become(user):
    os.setgroups([]); os.setresgid(user, user, user); os.setresuid(user, user, user)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: who changed its user may be looked at by nobody
"""
"""Becomes another user in the process, since that user may have no way to the interpreter."""
LOOK = (
    BECOME
    + """
import dataclasses, json, sys, time
from pathlib import Path
from watchman_mcp.collectors import Look, ports
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.settings import Settings
from watchman_mcp.schema import Edge
if int(sys.argv[2]):
    become(int(sys.argv[2]))
root = Path("/")
look = Look(Machine(Files(root), Commands(), root), Settings(), "ports", json.loads(sys.argv[1]))
found = {"NetworkEndpoint": [], "ConnectionMetrics": [], "edges": []}
calls = 0
def count(frame, event, what):
    global calls
    calls += event in ("call", "c_call")
if sys.argv[3:]:
    sys.setprofile(count)
begun = time.process_time()
for one in ports.collect(look):
    if isinstance(one, Edge):
        found["edges"].append([one.start, one.type.name, one.end])
    else:
        found[type(one).__name__].append({**one.model_dump(mode="json"), "scope": look.scope})
sys.setprofile(None)
cost = {"calls": calls, "seconds": time.process_time() - begun}
unobserved = [dataclasses.astuple(one) for one in look.unobserved]
print(json.dumps({**found, "unobserved": unobserved, "marks": look.marks, **cost}))
"""
)


class Scene:
    """Namespaces of network, mounts and processes; what is started in them ends with them."""

    def __init__(self, leader: int) -> None:
        self.leader = leader

    def command(self, *argv: str) -> list[str]:
        """The command line that runs argv inside."""
        return ["nsenter", f"--target={self.leader}", "--net", "--mount", "--pid", *argv]

    def run(self, *argv: str, timeout: float = 60) -> str:
        """What argv prints inside; it must end well."""
        done = subprocess.run(
            self.command(*argv), capture_output=True, text=True, cwd=ROOT, timeout=timeout,
            errors="surrogateescape",
        )  # fmt: skip
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def look(
        self, marks: dict[str, Any] | None = None, user: int = 0, *, counted: bool = False
    ) -> dict[str, Any]:
        """One look of the collector of ports from inside.

        `seconds` are of the processor; `calls` are those of functions, where they are to be counted (slow).
        """
        words = [json.dumps(marks or {}), str(user), *(["counted"] if counted else [])]
        return json.loads(self.run(sys.executable, "-c", LOOK, *words))

    @contextlib.contextmanager
    def playing(self, code: str, *into: str, user: int = 0) -> Iterator[int]:
        """A Python process that runs code, and keeps what it opened until the context ends.

        `into` is a command that runs it, such as `ip netns exec NAME`.
        """
        source = "\n".join(
            [
                "import os, socket, sys",
                "from socket import *",
                BECOME,
                f"become({user})" if user else "",
                code,
            ]
            + ["print(os.getpid(), flush=True)", "sys.stdin.read()"]
        )
        process = subprocess.Popen(
            self.command(*into, sys.executable, "-c", source),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with process:
            try:
                assert process.stdin and process.stdout
                pid = process.stdout.readline()
                assert pid.strip().isdecimal(), "the process ended before it was ready"
                yield int(pid)
            finally:
                process.kill()


@contextlib.contextmanager
def scene() -> Iterator[Scene]:
    """A scene with a loopback interface and nothing else."""
    how = "as root: apt-get install iproute2 util-linux"
    cache.need_programs("a network of its own", "unshare", "nsenter", "ip", "ss", how=how)
    unshare = subprocess.Popen(
        ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"]
        + ["sh", "-c", SCENE],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with unshare:
        try:
            assert unshare.stdout and unshare.stderr
            if unshare.stdout.readline() != "ready\n":
                cache.missing(f"a network of its own ({unshare.stderr.read().strip()})", how)
            children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
            yield Scene(int(children[0]))
        finally:
            unshare.kill()
