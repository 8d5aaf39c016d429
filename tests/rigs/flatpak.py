"""A root directory that real flatpak installs into, and a repository of its own; it needs no network."""

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.rigs import cache

HOW = "as root: apt-get install flatpak"
APP, PLATFORM = "org.example.RigApp", "org.example.RigPlatform"


class Flatpak:
    """flatpak with a system installation in a root directory of its own."""

    def __init__(self, path: Path) -> None:
        if os.geteuid():
            cache.missing("a root for flatpak (root)", HOW)
        cache.need_programs("flatpak", "flatpak", how=HOW)
        self.root = path / "root"
        self.system = self.root / "var/lib/flatpak"
        self._path, self._repository = path, path / "repository"
        self._environment = {
            **{"HOME": str(path / "home"), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            **{"FLATPAK_SYSTEM_DIR": str(self.system), "FLATPAK_USER_DIR": str(path / "home/flatpak")},
        }
        self._builds = 0
        self.system.mkdir(parents=True)
        self.offer(PLATFORM, "1", "1")
        self.run("remote-add", "--no-gpg-verify", "rig", str(self._repository))

    def offer(self, name: str, branch: str, version: str) -> str:
        """Put a build into the repository; its commit."""
        tree = self._path / name / version
        (tree / "files/bin").mkdir(parents=True)
        (tree / "files/bin/program").write_text(version)
        (tree / "export").mkdir()
        (tree / "usr").mkdir()
        kind = "Runtime" if name == PLATFORM else "Application"
        runtime = f"{PLATFORM}/{self.arch}/1"
        (tree / "metadata").write_text(f"[{kind}]\nname={name}\nruntime={runtime}\nsdk={runtime}\n")
        self._builds += 1  # those of one second would be of the same age
        options = ["--disable-sandbox", f"--timestamp=2026-01-01T10:{self._builds:02}:00Z"]
        options += ["--runtime"] if name == PLATFORM else []
        self.run("build-export", *options, str(self._repository), str(tree), branch, where=())
        self.run("build-update-repo", str(self._repository), where=())
        refs = f"{'runtime' if name == PLATFORM else 'app'}/{name}/{self.arch}/{branch}"
        return (self._repository / "refs/heads" / refs).read_text().strip()

    @contextmanager
    def served(self) -> Iterator[list[str]]:
        """The repository on this machine's own network, since flatpak keeps no list of one in a directory.

        It tells what was asked for.
        """
        asked: list[str] = []

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                asked.append(str(args[0]))

        with ThreadingHTTPServer(
            ("127.0.0.1", 0), partial(Handler, directory=str(self._repository))
        ) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.run("remote-modify", f"--url=http://127.0.0.1:{server.server_port}/", "rig")
            yield asked
            server.shutdown()

    def updates(self) -> set[tuple[str, ...]]:
        """What flatpak itself would update by what it last fetched: reference, commit, and remote."""
        words = ("remote-ls", "--updates", "--cached", "--all", "--columns=ref,commit,origin")
        return {tuple(line.split("\t")) for line in self.run(*words).splitlines() if line}

    @property
    def arch(self) -> str:
        """The architecture that flatpak builds for."""
        return self.run("--default-arch", where=()).strip()

    def run(self, *words: str, where: tuple[str, ...] = ("--system",)) -> str:
        """What flatpak printed."""
        command = ["flatpak", *words[:1], *where, *words[1:]]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def listing(self) -> set[tuple[str, ...]]:
        """What flatpak itself says is installed: reference, the beginning of its commit, and origin."""
        lines = self.run("list", "--columns=ref,active,origin").splitlines()
        return {tuple(line.split("\t")) for line in lines if line}
