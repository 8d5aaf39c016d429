"""A whole Debian machine, booted in a container from a cached tree; what is changed in it ends with it."""

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.rigs import cache

SUITE = "bookworm"
PACKAGES = (
    "ca-certificates,dbus,iproute2,nftables,nginx-light,openssh-server,procps,python3,python3-venv,sudo,"
    "systemd,systemd-sysv"
)
RECIPE_VERSION = "1"
BOOT_SECONDS = 20.0
HOW = "as root: apt-get install debootstrap systemd-container"
PROGRAMS = ("debootstrap", "systemd-nspawn", "nsenter", "setpriv")


class MachineError(AssertionError):
    """The machine did not boot, or a command in it failed; the message ends with what was printed."""


class Machine:
    """A running machine; every path and process named to it is one inside."""

    def __init__(self, leader: int) -> None:
        self.leader = leader
        self.root = Path(f"/proc/{leader}/root")

    def command(
        self, argv: Sequence[str], *, user: str = "root", env: dict[str, str] | None = None
    ) -> list[str]:
        """The host's command line that runs argv inside in a fresh environment and ends with its starter."""
        variables = [f"{name}={value}" for name, value in (env or {}).items()]
        return [
            *("nsenter", "--target", str(self.leader), "--all"),
            *("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--reset-env"),
            *("--pdeathsig", "KILL", "env", "--chdir=/", "LANG=C.UTF-8", *variables, *argv),
        ]

    def popen(
        self, argv: Sequence[str], *, user: str = "root", env: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start argv inside with pipes for its three streams; killing it kills argv."""
        pipe, command = subprocess.PIPE, self.command(argv, user=user, env=env)
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float = 60,
        check: bool = True,
        input: bytes = b"",
        user: str = "root",
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run argv inside to its end.

        Raises: MachineError where it exits with anything but 0 and `check` is set, or outlives the timeout.
        """
        # everything it starts inside is in its process group, and ends with it at the timeout
        with self.popen(argv, user=user, env=env) as process:
            try:
                printed, complained = process.communicate(input, timeout)
            except subprocess.TimeoutExpired as e:
                os.killpg(process.pid, signal.SIGKILL)
                out, err = map(_text, process.communicate())
                raise MachineError(f"{argv} took more than {timeout} s\n{out[-3000:]}{err[-3000:]}") from e
        out, err = _text(printed), _text(complained)
        if check and process.returncode != 0:
            raise MachineError(f"{argv} ended with {process.returncode}\n{out[-3000:]}{err[-3000:]}")
        return subprocess.CompletedProcess(list(argv), process.returncode, out, err)

    def copy_in(self, path: Path, dest: str) -> None:
        """Copy a file to the path dest, or what a directory holds into the directory dest."""
        if path.is_dir():
            archive = subprocess.run(
                ["tar", "-C", path, "--owner=0", "--group=0", "-c", "."], capture_output=True, check=True
            ).stdout
            self.run(["mkdir", "-p", dest])
            self.run(["tar", "-C", dest, "--no-overwrite-dir", "-x"], input=archive)
        else:
            mode = f"{path.stat().st_mode & 0o777:o}"
            self.run(["install", "-D", "-m", mode, "/dev/stdin", dest], input=path.read_bytes())

    def write(self, dest: str, text: str, mode: str = "644") -> None:
        """Write a file of this text."""
        self.run(["install", "-D", "-m", mode, "/dev/stdin", dest], input=text.encode())

    def read(self, path: str) -> str:
        """The text of a file."""
        return self.run(["cat", path]).stdout


def _text(printed: bytes) -> str:
    return printed.decode(errors="backslashreplace")


def base_tree() -> Path:
    """The tree that machines boot from, made by debootstrap (a minute, 340 MB) when no run made it yet."""
    if os.geteuid() != 0:
        cache.missing("a booted machine (root)", HOW)
    cache.need_programs("a booted machine", *PROGRAMS, how=HOW)
    return cache.once(SUITE, f"{RECIPE_VERSION} {SUITE} {PACKAGES} {platform.machine()}", _debootstrap)


def _debootstrap(tree: Path) -> None:
    mirror = os.environ.get("WATCHMAN_RIG_MIRROR")
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(tree)]
    done = subprocess.run(
        command + ([mirror] if mirror else []), capture_output=True, stdin=subprocess.DEVNULL, timeout=900
    )
    if done.returncode != 0:
        raise MachineError(
            f"debootstrap ended with {done.returncode}\n{_text(done.stdout + done.stderr)[-3000:]}"
        )
    _settle(tree)


def _settle(tree: Path) -> None:
    """Make a fresh tree a machine of its own: no name, address or network source of the host that made it."""
    (tree / "etc/hostname").write_text("rig\n")
    (tree / "etc/resolv.conf").write_text("nameserver 192.0.2.53\n")
    (tree / "etc/machine-id").write_text("")  # empty: each boot takes the id that nspawn hands it
    (tree / "var/lib/dbus/machine-id").unlink(missing_ok=True)
    (tree / "etc/apt/sources.list").write_text("")
    shutil.rmtree(tree / "var/cache/apt/archives", ignore_errors=True)
    (tree / "var/cache/apt/archives/partial").mkdir(parents=True)
    for listing in (tree / "var/lib/apt/lists").glob("*_*"):
        listing.unlink()
    subprocess.run(
        ["chroot", tree, "useradd", "--create-home", "--shell", "/bin/bash", "user"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip


@contextlib.contextmanager
def booted() -> Iterator[Machine]:
    """A machine from power on to power off. Any number may run at once.

    Raises: MachineError where it is not up after 20 seconds; the message ends with its console.
    """
    tree = base_tree()
    with tempfile.TemporaryFile() as console:
        nspawn = _power_on(tree, console.fileno())
        try:
            machine = _wait_until_up(nspawn, time.monotonic() + BOOT_SECONDS)
        except MachineError as e:
            _end(nspawn)
            console.seek(0)
            raise MachineError(f"{e}\n{_text(console.read())[-3000:]}") from e
        try:
            yield machine
        finally:
            # SIGTERM to nspawn asks the init inside to power off
            _end(nspawn)


def _power_on(tree: Path, console: int) -> subprocess.Popen[bytes]:
    name = f"rig-{os.getpid()}-{time.monotonic_ns() % 10**6}"
    return subprocess.Popen(
        [
            # a test run that is killed takes its machine with it
            *("setpriv", "--pdeathsig", "KILL", "systemd-nspawn", f"--directory={tree}", f"--machine={name}"),
            *("--hostname=rig", f"--uuid={uuid.uuid4()}", "--boot", "--volatile=overlay", "--register=no"),
            *("--keep-unit", "--private-network", "--resolv-conf=off", "--timezone=off", "--link-journal=no"),
        ],
        stdin=subprocess.DEVNULL, stdout=console, stderr=console,
        start_new_session=True,
    )  # fmt: skip


def _wait_until_up(nspawn: subprocess.Popen[bytes], deadline: float) -> Machine:
    leader = None
    while time.monotonic() < deadline:
        if nspawn.poll() is not None:
            raise MachineError(f"the machine ended with {nspawn.returncode} while it booted")
        leader = leader or _leader(nspawn.pid)
        if leader:
            machine = Machine(leader)
            asked = machine.run(["systemctl", "is-system-running"], check=False)
            if asked.stdout.strip() in ("running", "degraded"):
                return machine
        time.sleep(0.05)
    raise MachineError(f"the machine was not up after {BOOT_SECONDS:g} s")


def _leader(nspawn: int) -> int | None:
    """The pid, as the host sees it, of the process that is number 1 inside."""
    children = Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split()
    for child in children:
        with contextlib.suppress(OSError):
            status = dict(
                line.split(":\t", 1) for line in Path(f"/proc/{child}/status").read_text().splitlines()
            )
            if status["NSpid"].split()[1:] == ["1"] and status["Name"] in ("systemd", "init"):
                return int(child)
    return None


def _end(nspawn: subprocess.Popen[bytes]) -> None:
    if nspawn.poll() is None:
        nspawn.send_signal(signal.SIGTERM)
        try:
            nspawn.wait(timeout=15)
        except subprocess.TimeoutExpired:
            nspawn.kill()
            nspawn.wait(timeout=15)
