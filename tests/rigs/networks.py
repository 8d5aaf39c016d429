"""Two network namespaces joined by a cable, and services in them; the host's own network is left alone."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.rigs import cache

HOW = "as root: apt-get install iproute2"
SECONDS = 15.0


@dataclass
class Side:
    """One of the two namespaces."""

    name: str
    address: str
    """Its address on the cable; the other side's ends with another number."""
    cable: str
    folder: Path
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def enter(self) -> list[str]:
        """The first words of a command line that run the rest within."""
        return ["ip", "netns", "exec", self.name]

    def run(self, *argv: str, check: bool = True) -> str:
        """Run a command within to its end; what it printed."""
        done = subprocess.run([*self.enter, *argv], capture_output=True, timeout=30, stdin=subprocess.DEVNULL)
        printed = done.stdout.decode(errors="surrogateescape")
        assert done.returncode == 0 or not check, f"{argv}: {printed}{done.stderr.decode(errors='replace')}"
        return printed

    def start(self, *argv: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a service within, which ends with the rig; what it prints is in `folder`."""
        log = self.folder / f"{Path(argv[0]).name}-{len(self._running)}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self.enter, *argv],
                stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, cwd=self.folder,
                env=os.environ | (env or {}), start_new_session=True,
            )  # fmt: skip
        self._running.append(process)
        return process

    def end(self) -> None:
        """End what was started within."""
        for process in reversed(self._running):
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)


def wait_for(what: Callable[[], object], seconds: float = SECONDS, name: str = "") -> None:
    """Wait until this is true, within bounds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"{name or what} did not come within {seconds} s"
        time.sleep(0.05)


@contextlib.contextmanager
def joined(left: str = "192.0.2.1", right: str = "192.0.2.2") -> Iterator[tuple[Side, Side]]:
    """Two namespaces whose interfaces `wire` and `wire` are the ends of one cable."""
    if os.geteuid() != 0:
        cache.missing("network namespaces (root)", HOW)
    cache.need_programs("network namespaces", "ip", "setpriv", how=HOW)
    tag = f"wm{os.getpid()}x{time.monotonic_ns() % 10**4}"
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        sides = []
        for letter, address in (("a", left), ("b", right)):
            name = f"{tag}{letter}"
            subprocess.run(["ip", "netns", "add", name], check=True, timeout=10)
            stack.callback(subprocess.run, ["ip", "netns", "delete", name], check=True, timeout=10)
            folder = Path(scratch, letter)
            folder.mkdir()
            sides.append(Side(name, address, "wire", folder))
            stack.callback(sides[-1].end)
        one, other = sides
        ends = ["wire", "netns", one.name, "type", "veth", "peer", "name", "wire", "netns", other.name]
        subprocess.run(["ip", "link", "add", *ends], check=True, timeout=10)
        for side in sides:
            side.run("ip", "link", "set", "lo", "up")
            side.run("ip", "address", "add", f"{side.address}/24", "dev", "wire")
            side.run("ip", "link", "set", "wire", "up")
        yield one, other
