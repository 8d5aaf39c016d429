"""A root directory that real pacman works in, and real packages of no consequence for it."""

import io
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.rigs import cache

HOW = "as root: apt-get install pacman-package-manager makepkg libarchive-tools"


@dataclass(frozen=True)
class Package:
    """A package to build; files under etc are kept when they were changed, as with real packages."""

    name: str
    version: str
    depends: Sequence[str] = ()
    provides: Sequence[str] = ()
    scriptlet: str = ""
    """Shell functions named post_install, post_upgrade, ..."""
    files: Mapping[str, str] = field(default_factory=dict)

    def build(self, into: Path) -> Path:
        """The package's file, made in some milliseconds."""
        files = {f"usr/share/{self.name}": self.version, **self.files}
        lines = [
            f"pkgname = {self.name}",
            f"pkgbase = {self.name}",
            f"pkgver = {self.version}",
            "pkgdesc = package made for a test",
            f"builddate = {int(time.time())}",
            "size = 4096",
            "arch = any",
            *[f"depend = {one}" for one in self.depends],
            *[f"provides = {one}" for one in self.provides],
            *[f"backup = {path}" for path in files if path.startswith("etc/")],
        ]
        members = {".PKGINFO": "".join(f"{line}\n" for line in lines), **files}
        if self.scriptlet:
            members[".INSTALL"] = self.scriptlet
        target = into / f"{self.name}-{self.version}-any.pkg.tar.gz"
        with tarfile.open(target, "w:gz") as archive:
            for path, text in sorted(members.items()):
                member = tarfile.TarInfo(path)
                member.size, member.mtime = len(text.encode()), int(time.time())
                archive.addfile(member, io.BytesIO(text.encode()))
        return target


class Pacman:
    """pacman in a root directory of its own, with a repository beside it; needs root and no network."""

    def __init__(self, path: Path) -> None:
        if os.geteuid():
            cache.missing("a root for pacman (root)", HOW)
        cache.need_programs("pacman", "pacman", "repo-add", how=HOW)
        self.root = path / "root"
        self.log = self.root / "var/log/pacman.log"
        self._repository = path / "repository"
        self._configuration = self.root / "etc/pacman.conf"
        for directory in (
            self._repository,
            self.root / "var/lib/pacman",
            self.log.parent,
            path / "cache",
            self.root / "etc",
        ):
            directory.mkdir(parents=True)
        self.configure()
        self._options = [
            *("--config", str(self._configuration), "--root", str(self.root)),
            *("--dbpath", str(self.root / "var/lib/pacman"), "--cachedir", str(path / "cache")),
            *("--logfile", str(self.log), "--noconfirm", "--color", "never"),
        ]
        _copy_shell(self.root)

    def configure(self, ignored: str = "", more: str = "") -> None:
        """Write what pacman is told: the packages that it leaves alone, and more repositories."""
        server = f"Server = file://{self._repository}\n"
        other = f"{more}{server}" if more else ""
        self._configuration.write_text(
            "[options]\nArchitecture = auto\nSigLevel = Never\n"
            f"IgnorePkg = {ignored}\n{other}[tests]\n{server}"
        )

    def offer(self, *packages: Package, repository: str = "tests") -> None:
        """Put these packages into a repository, which pacman knows at its next -y."""
        built = [str(package.build(self._repository)) for package in packages]
        database = str(self._repository / f"{repository}.db.tar.gz")
        subprocess.run(["repo-add", "--quiet", database, *built], check=True, capture_output=True, timeout=60)

    def run(self, *words: str, check: bool = True) -> str:
        """What pacman printed."""
        done = subprocess.run(["pacman", *self._options, *words], capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def install(self, package: Package, *words: str) -> str:
        """Install a package from its file."""
        return self.run("-U", *words, str(package.build(self._repository)))

    def command(self, *words: str) -> str:
        """A command line as pacman logs it."""
        return " ".join(["pacman", *self._options, *words])

    def owners(self, path: Path) -> list[str]:
        """The packages that pacman itself says own a file."""
        return self.run("-Qqo", str(path), check=False).split()

    def listing(self, *words: str) -> dict[str, str]:
        """What pacman itself says is installed, by name."""
        return dict(line.split() for line in self.run("-Q", *words, check=False).splitlines())


def _copy_shell(root: Path) -> None:
    """Scriptlets are run by the shell of the root."""
    linked = subprocess.run(["ldd", "/bin/sh"], check=True, capture_output=True, text=True, timeout=60).stdout
    for path in ["/bin/sh", *[word for word in linked.split() if word.startswith("/")]]:
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
