"""A real Docker engine in namespaces of its own, and a machine on the other side of its cable.

Its image is one static program, made on the spot; nothing is pulled, and the network of this machine is left
alone.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.real.clients import delay_until
from tests.rigs import cache
from tests.rigs.sockets import Scene, scene

HOW = "as root: apt-get install --no-install-recommends docker.io busybox-static iptables"
HERE, AWAY, NEAR = "198.51.100.1", "203.0.113.5", "10.7.0.2"
"""Addresses of the engine's machine, and of the other one: a public one, and one of the network beside it."""
HERE6, AWAY6 = "2001:db8:7::1", "2001:db8:9::9"
PLAIN = "198.51.101.2"
"""A public address of a plain namespace behind the machine."""
INSIDE = "172.16.0.0/12"
SECONDS = 15
TRY = """
import json, select, socket, sys
found, waiting = [], {}
for number, (source, target, port) in enumerate(json.loads(sys.argv[1])):
    one = socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET)
    one.setblocking(False); one.bind((source, 0)); one.connect_ex((target, port))
    found.append(False); waiting[one.fileno()] = one, number
poll = select.poll()
for descriptor in waiting:
    poll.register(descriptor, select.POLLOUT)
while waiting and (ready := poll.poll(400)):
    for descriptor, _ in ready:
        poll.unregister(descriptor)
        one, number = waiting.pop(descriptor)
        found[number] = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
print(json.dumps(found))
"""
"""Connects from the source to each target, all at once."""


class Engine:
    """The engine, and the scene that it runs in."""

    def __init__(self, stage: Scene, tree: Path) -> None:
        self.scene, self.tree = stage, tree
        self._process: subprocess.Popen[bytes] | None = None
        self.group = f"watchman-rig-{uuid.uuid4().hex[:8]}"

    def docker(self, *argv: str, input: bytes = b"") -> str:
        """What the engine's own client prints; it must end well."""
        words = self.scene.command(_program(), *argv)
        done = subprocess.run(words, input=input, capture_output=True, timeout=60)
        assert done.returncode == 0, f"{argv}: {done.stdout!r}{done.stderr!r}"
        return done.stdout.decode().strip()

    def web(self, name: str, port: int, *options: str) -> str:
        """Run a container with a web server on this port. Returns its id."""
        # as the first process of its namespace it would not hear a milder signal
        options = ("--detach", "--name", name, "--stop-signal", "KILL", *options)
        return self.docker("run", *options, "rig", "/bin/busybox", "httpd", "-f", "-p", str(port))

    def address(self, name: str) -> str:
        """The container's address."""
        return self.docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)

    def start(self, *options: str) -> None:
        """Start the engine and wait until it answers."""
        argv = self.scene.command(
            "dockerd", "--data-root=/run/data", "--exec-root=/run/docker", "--pidfile=/run/docker.pid",
            "--host=unix:///run/docker.sock", "--exec-opt=native.cgroupdriver=cgroupfs",
            f"--cgroup-parent=/{self.group}", *options,
        )  # fmt: skip
        with open(self.tree.parent / "dockerd.log", "ab") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        delay_until(self._answers, SECONDS, "the Docker engine")

    def stop(self) -> None:
        """End the engine, and with it its containers."""
        if self._process is not None:
            inside = self.scene.run("cat", "/run/docker.pid").strip()
            self.scene.run("kill", inside)
            self._process.wait(30)

    def end(self) -> None:
        """Let go of what it leaves outside of its namespaces, once these have ended."""
        if self._process is not None:
            self._process.wait(30)
        for top in Path("/sys/fs/cgroup").glob(f"*/{self.group}"), Path("/sys/fs/cgroup").glob(self.group):
            for place in sorted((one for root in top for one in [root, *root.rglob("*")]), reverse=True):
                with contextlib.suppress(OSError):  # files of the kernel, and what is not empty
                    place.rmdir()

    def _answers(self) -> bool:
        words = self.scene.command(_program(), "ps")
        return subprocess.run(words, capture_output=True).returncode == 0


def _program() -> str:
    """Debian's client, which may not be the first on the search path."""
    return shutil.which("docker", path="/usr/bin:/bin") or "docker"


def reached(stage: Scene, tries: Iterable[tuple[str, str, int]]) -> list[bool]:
    """Whether the other machine comes through from each source to each address and port."""
    words = ("ip", "netns", "exec", "away", sys.executable, "-c", TRY, json.dumps(list(tries)))
    found: list[bool] = json.loads(stage.run(*words))
    return found


@contextlib.contextmanager
def engine(place: Path) -> Iterator[Engine]:
    """An engine that is not yet started, and the cable eth0 to the other side."""
    cache.need_programs("a Docker engine", "dockerd", "docker", "containerd", "busybox", "iptables", how=HOW)
    tree = place / "tree"
    (tree / "bin").mkdir(parents=True)
    shutil.copy(str(shutil.which("busybox")), tree / "bin" / "busybox")
    with scene() as stage:
        cable(stage)
        made = Engine(stage, tree)
        yield made
    made.end()


def load(made: Engine) -> None:
    """Make the image."""
    packed = subprocess.run(["tar", "-C", str(made.tree), "-c", "."], capture_output=True, check=True)
    made.docker("import", "-", "rig", input=packed.stdout)


def cable(stage: Scene) -> None:
    """Lay the cable eth0, where the default routes lead, to the namespace `away`."""
    away = ("ip", "netns", "exec", "away")
    stage.run("ip", "netns", "add", "away")
    stage.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", "away")
    for where, own in (((), (f"{HERE}/24", "10.7.0.1/24", f"{HERE6}/64")), (away, (AWAY, NEAR, AWAY6))):
        for name in ("lo", "eth0"):
            stage.run(*where, "ip", "link", "set", name, "up")
        for address in own:
            at_once = ("nodad",) if ":" in address else ()
            stage.run(*where, "ip", "address", "add", address, "dev", "eth0", *at_once)
    for version in ("-4", "-6"):
        stage.run("ip", version, "route", "add", "default", "dev", "eth0")
    for target in (HERE, "10.7.0.1", HERE6):
        stage.run(*away, "ip", "route", "add", target, "dev", "eth0")
    # as somebody on the same network who wants to reach what is not published
    for network in (INSIDE, f"{PLAIN}/30"):
        stage.run(
            *away, "ip", "route", "add", network.replace(".2/", ".0/"), "via", HERE, "onlink", "dev", "eth0"
        )
