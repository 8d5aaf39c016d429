"""A machine with a kernel of its own, under QEMU, for what this one's may lack: vlans, bonds, ESP.

It has no disk: the tree of `machine.base_tree`, Debian's cloud kernel and some packages are packed for its
memory. It runs one Python program, which tells by its second serial port, and ends.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import stat
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from tests.rigs import cache
from tests.rigs.installed import CHECKOUT, dependency_wheels
from tests.rigs.machine import base_tree

RECIPE_VERSION = "1"
HOW = "as root: apt-get install qemu-system-x86, and apt-get update"
KERNEL = "linux-image-cloud-amd64"
PACKAGES = (
    *("kmod", "libkmod2", "iputils-ping", "wireguard-tools"),
    *("libstrongswan", "libstrongswan-standard-plugins", "strongswan-libcharon", "strongswan-swanctl"),
    *("charon-systemd", "libgmp10"),
)
MODULES = ("arch", "crypto", "lib", "net", "drivers/net")
LEFT_OUT = (
    *("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/zoneinfo", "usr/share/perl"),
    *("usr/share/info", "usr/share/i18n", "usr/share/fonts", "usr/lib/x86_64-linux-gnu/perl", "var/cache"),
    *("var/lib/dpkg", "var/lib/apt", "usr/lib/systemd", "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/locale"),
    *("boot", "dev/*", "proc/*", "sys/*", "run/*"),
)
SITE = "opt/site"
INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ip link set lo up
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
export PYTHONPATH=/opt/site:/opt/checkout PYTHONDONTWRITEBYTECODE=1
cd /opt/checkout && python3 -m {module} >/run/told 2>/run/complaints
status=$?
stty -F /dev/ttyS1 raw -echo
{ cat /run/told; echo; tail -c 6000 /run/complaints; echo; echo "ended $status"; } >/dev/ttyS1
sync
echo b >/proc/sysrq-trigger
"""
COMMAND_LINE = "console=ttyS0 panic=-1 quiet mitigations=off tsc=unstable rdinit=/init"


class VmError(AssertionError):
    """The machine did not come to its end, or its program failed; the message ends with what was printed."""


def told_by(module: str, seconds: float = 400) -> Any:
    """The JSON that a module of this checkout prints when it is run as root of the machine.

    Raises: VmError.
    """
    kept = packed()
    with tempfile.TemporaryDirectory() as scratch:
        memory, answer, console = (Path(scratch, name) for name in ("memory", "answer", "console"))
        with memory.open("wb") as into:
            with (kept / "tree.cpio").open("rb") as tree:
                shutil.copyfileobj(tree, into, 1 << 20)
            _pack(into, _checkout(module))
        command = [
            *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-accel", "tcg"),
            *("-cpu", "max", "-m", "1536", "-nodefaults", "-no-user-config", "-no-reboot"),
            *("-kernel", str(kept / "vmlinuz"), "-initrd", str(memory), "-append", COMMAND_LINE),
            *("-display", "none", "-serial", f"file:{console}", "-serial", f"file:{answer}"),
        ]
        try:
            subprocess.run(command, check=True, timeout=seconds, capture_output=True)
        except subprocess.SubprocessError as error:
            shown = console.read_bytes() if console.exists() else b""
            raise VmError(f"{error}\n{shown[-3000:].decode(errors='replace')}") from error
        text = answer.read_text(errors="backslashreplace")
        if not text.endswith("ended 0\n"):
            shown = console.read_text(errors="backslashreplace")
            raise VmError(f"{module} failed\n{text[-6000:]}\n{shown[-2000:]}")
        return json.loads(text.partition("\n")[0])


def packed() -> Path:
    """The kernel, and the tree for its memory, made when no run made it yet (a minute, 250 MB)."""
    if platform.machine() != "x86_64":
        cache.missing("a machine of its own (of this processor)", "run it on x86-64")
    cache.need_programs("a machine of its own", "qemu-system-x86_64", "apt-get", "setpriv", how=HOW)
    tree, wheels = base_tree(), dependency_wheels()
    recipe = f"{RECIPE_VERSION} {tree.name} {wheels.name} {KERNEL} {PACKAGES} {MODULES} {LEFT_OUT}"
    return cache.once("vm", recipe, lambda into: _make(into, tree, wheels))


def _make(into: Path, base: Path, wheels: Path) -> None:
    with tempfile.TemporaryDirectory(dir=into) as scratch:
        tree, debs, kernel = (Path(scratch, name) for name in ("tree", "debs", "kernel"))
        for folder in (tree, debs, kernel):
            folder.mkdir()
        without = [f"--exclude=./{path}" for path in LEFT_OUT]
        _extract(["tar", "-C", str(base), *without, "-c", "."], tree)
        _download(debs, *PACKAGES, _kernel_package())
        for deb in debs.glob("*.deb"):
            _extract(["dpkg-deb", "--fsys-tarfile", str(deb)], kernel if "linux-image" in deb.name else tree)
        [image] = (kernel / "boot").glob("vmlinuz-*")
        shutil.copy(image, into / "vmlinuz")
        release = image.name.removeprefix("vmlinuz-")
        for part in MODULES:
            there = tree / "usr/lib/modules" / release / "kernel" / part
            shutil.copytree(kernel / "lib/modules" / release / "kernel" / part, there)
        for listing in (kernel / "lib/modules" / release).glob("modules.*"):
            shutil.copy(listing, tree / "usr/lib/modules" / release)
        subprocess.run(["chroot", tree, "/sbin/depmod", "-a", release], check=True, timeout=120)
        for wheel in wheels.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(tree / SITE)
        subprocess.run(
            ["chroot", tree, "python3", "-m", "compileall", "-q", f"/{SITE}"], check=False, timeout=300
        )
        with (into / "tree.cpio").open("wb") as memory:
            _pack(memory, _files(tree))


def _kernel_package() -> str:
    """The package of the kernel that the one without a version depends on."""
    shown = _apt("apt-cache", "depends", "--important", KERNEL)
    return next(word for word in shown.split() if word.startswith("linux-image-") and word != KERNEL)


def _download(into: Path, *packages: str) -> None:
    _apt("apt-get", "download", *packages, cwd=into)


def _apt(*words: str, cwd: Path | None = None) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        cache.missing(f"{words[-1]} ({done.stderr.strip()[-300:]})", HOW)
    return done.stdout


def _extract(archive: Sequence[str], tree: Path) -> None:
    """Unpack what a command writes; a link to a directory, as /lib is one, stays."""
    with subprocess.Popen(archive, stdout=subprocess.PIPE) as made:
        subprocess.run(
            ["tar", "-C", tree, "--keep-directory-symlink", "-x"], stdin=made.stdout, check=True, timeout=120
        )
    assert made.returncode == 0, archive


Packed = tuple[str, int, bytes | Path]
"""A path, its type and mode, and what it holds."""


def _files(tree: Path) -> Iterator[Packed]:
    for folder, folders, files in os.walk(tree):
        for name in sorted([*folders, *files]):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            content: bytes | Path = b""
            if stat.S_ISLNK(mode):
                content = os.readlink(path).encode()
            elif stat.S_ISREG(mode):
                content = path
            elif not stat.S_ISDIR(mode):
                continue
            yield str(path.relative_to(tree)), mode, content


def _checkout(module: str) -> Iterator[Packed]:
    """The package and the rigs as they are here, and what starts."""
    yield "init", stat.S_IFREG | 0o755, INIT.replace("{module}", module).encode()
    yield "opt/checkout", stat.S_IFDIR | 0o755, b""
    found = [*CHECKOUT.glob("watchman_mcp/**/*.py"), *CHECKOUT.glob("tests/rigs/*.py")]
    found += [CHECKOUT / "tests/__init__.py"]
    known = {CHECKOUT}
    for path in found:
        for folder in reversed(path.relative_to(CHECKOUT).parents):
            if CHECKOUT / folder not in known:
                known.add(CHECKOUT / folder)
                yield f"opt/checkout/{folder}", stat.S_IFDIR | 0o755, b""
        yield f"opt/checkout/{path.relative_to(CHECKOUT)}", stat.S_IFREG | 0o644, path


def _pack(into: IO[bytes], files: Iterator[Packed]) -> None:
    """Write an archive as the kernel unpacks it into its memory (cpio, "newc")."""
    for number, (name, mode, content) in enumerate([*files, ("TRAILER!!!", 0, b"")], 1):
        data = content.read_bytes() if isinstance(content, Path) else content
        path = name.encode() + b"\0"
        numbers = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        into.write(b"070701" + b"".join(b"%08X" % one for one in numbers) + path)
        into.write(bytes(-into.tell() % 4) + data)
        into.write(bytes(-into.tell() % 4))
