"""Real rpm packages of no consequence with a repository of them, and databases of rpm made by hand."""

import os
import shlex
import shutil
import sqlite3
import struct
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.rigs.cache import need_programs
from watchman_mcp.machine.commands import SEARCH_PATH, Commands

DATABASE = "/usr/lib/sysimage/rpm/rpmdb.sqlite"


@dataclass(frozen=True)
class Rpm:
    """A package to build, or to pretend: `version` is EPOCH:VERSION-RELEASE, `requires` may name versions."""

    name: str
    version: str
    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    obsoletes: tuple[str, ...] = ()
    scripts: Mapping[str, str] = field(default_factory=dict)
    """Scripts in rpm's own Lua by the section of a spec: pre, post, preun."""
    files: tuple[str, ...] = ()
    configs: tuple[str, ...] = ()
    """Files that are configuration."""
    module: str = ""
    """Label of the module that it is built in: NAME:STREAM:VERSION:CONTEXT."""
    arch: str = "noarch"
    installed_at: int = 1_767_225_600
    source: str = ""
    summary: str = "package made for a test"

    @property
    def parts(self) -> tuple[str, str, str]:
        """Epoch, version and release."""
        epoch, _, rest = self.version.rpartition(":")
        version, _, release = rest.partition("-")
        return epoch, version, release

    def spec(self) -> str:
        """The text of the spec file."""
        epoch, version, release = self.parts
        lines = [
            f"Name: {self.name}",
            f"Version: {version}",
            f"Release: {release}",
            f"Summary: {self.summary}",
        ]
        lines += [f"Epoch: {epoch}"] if epoch else []
        lines += ["License: none", f"BuildArch: {self.arch}"]
        lines += [f"ModularityLabel: {self.module}"] if self.module else []
        lines += [f"Requires: {one}" for one in self.requires] + [f"Provides: {one}" for one in self.provides]
        lines += [f"Obsoletes: {one}" for one in self.obsoletes] + ["%description", self.summary, "%install"]
        lines += [
            f'mkdir -p "%{{buildroot}}{Path(one).parent}"; echo > "%{{buildroot}}{one}"'
            for one in (*self.files, *self.configs)
        ]
        for name, script in self.scripts.items():
            lines += [f"%{name} -p <lua>", script]
        listed = [f'"{one}"' for one in self.files] + [f'%config "{one}"' for one in self.configs]
        return "\n".join([*lines, "%files", *listed]) + "\n"


@dataclass(frozen=True)
class Advisory:
    """What a repository says of an update: these packages of it fix something."""

    id: str
    type: str
    packages: tuple[Rpm, ...]

    def xml(self) -> str:
        """The advisory as `updateinfo` has it."""
        rows = ""
        for rpm in self.packages:
            epoch, version, release = rpm.parts
            rows += (
                f'<package name="{rpm.name}" epoch="{epoch or 0}" version="{version}" release="{release}"'
                f' arch="{rpm.arch}"><filename>{rpm.name}.rpm</filename></package>'
            )
        return (
            f'<update from="a@example.org" status="final" type="{self.type}" version="1"><id>{self.id}</id>'
            "<title>an advisory of a test</title>"
            '<issued date="2026-01-01 00:00:00"/><updated date="2026-01-01 00:00:00"/>'
            "<description>Conflicts   : nothing &lt; 1</description><references/>"
            f'<pkglist><collection short="tests"><name>tests</name>{rows}</collection></pkglist></update>'
        )


def header(values: Mapping[int, list[str] | list[int]]) -> bytes:
    """A header as rpm's database holds it: texts are lists of texts, numbers have 32 bits."""
    index, store = b"", b""
    for tag, told in values.items():
        if isinstance(told[0], str):
            kind, content = 8, b"".join(str(one).encode("utf-8", "surrogateescape") + b"\0" for one in told)
        else:
            store += bytes(-len(store) % 4)
            kind, content = 4, struct.pack(f">{len(told)}I", *told)
        index += struct.pack(">4I", tag, kind, len(store), len(told))
        store += content
    return struct.pack(">2I", len(values), len(store)) + index + store


def header_of(rpm: Rpm) -> bytes:
    """The header of a pretended package."""
    epoch, version, release = rpm.parts
    values: dict[int, list[str] | list[int]] = {1000: [rpm.name], 1001: [version], 1002: [release]}
    values |= {1004: [rpm.summary], 1008: [rpm.installed_at], 1009: [1024], 1022: [rpm.arch]}
    values |= {1003: [int(epoch)]} if epoch else {}
    values |= {1044: [rpm.source]} if rpm.source else {}
    evr = rpm.version
    relations = ((1047, 1112, 1113, (f"{rpm.name} = {evr}", *rpm.provides)), (1049, 1048, 1050, rpm.requires))
    for names, flags, versions, told in relations:
        if told:
            words = [[one] if one.startswith("(") else one.split() for one in told]
            values[names] = [word[0] for word in words]
            values[flags] = [_flags(word[1]) if len(word) == 3 else 0 for word in words]
            values[versions] = [word[2] if len(word) == 3 else "" for word in words]
    values |= {5096: [rpm.module]} if rpm.module else {}
    if files := (*rpm.files, *rpm.configs):
        values[1118] = [f"{Path(one).parent}/" for one in files]
        values[1117] = [Path(one).name for one in files]
        values[1116] = list(range(len(files)))
        values[1037] = [int(one in rpm.configs) for one in files]
    return header(values)


def _flags(sense: str) -> int:
    return sum({"<": 2, ">": 4, "=": 8}[letter] for letter in sense)


def pretend(root: Path, packages: Iterable[Rpm] | Iterable[bytes]) -> None:
    """Make rpm's database of a machine, with these packages or headers."""
    path = root / DATABASE.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(
            "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)"
        )
        blobs = ((one if isinstance(one, bytes) else header_of(one),) for one in packages)
        connection.executemany("INSERT INTO Packages (blob) VALUES (?)", blobs)


class Repository:
    """A repository of built packages in a directory, and roots in which dnf and zypper install them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.packages = path / "repository"
        home = path / "home"
        home.mkdir(parents=True)
        # Debian's rpm keeps its database at home.
        (home / ".rpmmacros").write_text(f"%_dbpath {Path(DATABASE).parent}\n")
        self.environment = {**os.environ, "HOME": str(home), "LC_ALL": "C.UTF-8"}

    def build(self, *rpms: Rpm) -> None:
        """Build these packages and list them."""
        need_programs("rpm's tools", "rpmbuild", "createrepo_c", how="apt-get install rpm createrepo-c")
        self.packages.mkdir(exist_ok=True)
        specs = []
        for number, rpm in enumerate(rpms):
            specs.append(self.path / f"{number}.spec")
            specs[-1].write_text(rpm.spec())
        names = "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm"
        places = [f"_topdir {self.path}/build", f"_rpmdir {self.packages}", f"_rpmfilename {names}"]
        # rpmbuild asks, and makes, a database too: not that of the machine that the tests run on.
        places += [f"_dbpath {self.path}/nothing"]
        defined = [word for place in places for word in ("--define", place)]
        self.run("rpmbuild", "-bb", "--quiet", *defined, *map(str, specs))
        self.run("createrepo_c", "--quiet", str(self.packages))

    def advise(self, *advisories: Advisory) -> None:
        """Publish advisories about its packages."""
        need_programs("rpm's tools", "modifyrepo_c", how="apt-get install createrepo-c")
        path = self.path / "updateinfo.xml"
        path.write_text(f"<updates>{''.join(one.xml() for one in advisories)}</updates>")
        self.run("modifyrepo_c", str(path), str(self.packages / "repodata"))

    def commands(self, *words: str) -> Commands:
        """Commands of a machine whose program of the first word acts with these words on a root."""
        program = shutil.which(words[0])
        folder = self.path / f"{words[0]}-{len(list(self.path.iterdir()))}"
        folder.mkdir()
        quoted = shlex.join([str(program), *words[1:]])
        names = ("HOME", "PYTHONPATH")
        given = " ".join(f"{n}={shlex.quote(self.environment[n])}" for n in names if n in self.environment)
        (folder / words[0]).write_text(f'#!/bin/sh\n{given} exec {quoted} "$@"\n')
        (folder / words[0]).chmod(0o755)
        return Commands(f"{folder}:{SEARCH_PATH}")

    def run(self, *words: str, fails: bool = False) -> str:
        """Run a program; what it printed."""
        done = subprocess.run(
            words, check=False, capture_output=True, text=True, timeout=120, env=self.environment
        )
        assert fails or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def dnf(self, root: Path, *words: str, fails: bool = False) -> str:
        """Run dnf 4 on this root, without questions."""
        need_programs("dnf 4", "dnf", how="apt-get install dnf")
        settings = self.path / "dnf.conf"
        settings.write_text(
            "[main]\ngpgcheck=0\nplugins=0\nreposdir=/nonexistent\nmodule_platform_id=platform:tests\n"
            f"[tests]\nname=tests\nbaseurl=file://{self.packages}\nmetadata_expire=0\n"
        )
        return self.run("dnf", "-y", "-q", *self.dnf_options(root), *words, fails=fails)

    def dnf_options(self, root: Path) -> list[str]:
        """What makes dnf act on this root."""
        return ["-c", str(self.path / "dnf.conf"), f"--installroot={root}", "--releasever=1"]

    def zypper(self, root: Path, *words: str, fails: bool = False) -> str:
        """Run zypper on this root, without questions; kernels are kept beside one another."""
        need_programs("zypper", "zypper", how="apt-get install zypper")
        base = ["zypper", "--non-interactive", "--quiet", "--root", str(root), "--no-gpg-checks"]
        if not (root / "etc/zypp").exists():
            (root / "etc/zypp").mkdir(parents=True)
            (root / "etc/zypp/zypp.conf").write_text("[main]\nmultiversion = provides:multiversion(kernel)\n")
            self.run(*base, "addrepo", "--no-gpgcheck", f"file://{self.packages}", "tests")
        return self.run(*base, *words, fails=fails)
