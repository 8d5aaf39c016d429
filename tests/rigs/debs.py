"""Real Debian packages of no consequence, and an apt repository of them that needs no network."""

import hashlib
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.rigs.machine import Machine

REPOSITORY = "/srv/repository"


@dataclass(frozen=True)
class Deb:
    """A package to build; files under /etc become its conffiles, as with real packages."""

    name: str
    version: str
    depends: str = ""
    arch: str = "all"
    section: str = "misc"
    summary: str = "package made for a test"
    files: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)
    """Maintainer scripts by name (`postinst`, `prerm`, ...); one without a #! line becomes a shell script."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Further control fields (`Essential`, `Provides`, `Source`, ...)."""

    def control(self) -> str:
        """The text of the control file."""
        fields = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": self.arch,
            "Maintainer": "Tests <tests@example.org>",
            "Depends": self.depends,
            "Section": self.section,
            "Priority": "optional",
            **self.fields,
            "Description": self.summary,
        }
        return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)


def build(deb: Deb, into: Path) -> Path:
    """The .deb file of this package, built into a directory in some milliseconds."""
    into.mkdir(parents=True, exist_ok=True)
    target = into / f"{deb.name}_{deb.version.replace(':', '%3a')}_{deb.arch}.deb"
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch, "tree")
        for path, text in deb.files.items():
            _write(tree / path.lstrip("/"), text, executable="/bin/" in path or "/sbin/" in path)
        _write(tree / "DEBIAN/control", deb.control())
        conffiles = [path for path in deb.files if path.startswith("/etc/")]
        if conffiles:
            _write(tree / "DEBIAN/conffiles", "".join(f"{path}\n" for path in conffiles))
        for name, text in deb.scripts.items():
            shebang = "" if text.startswith("#!") else "#!/bin/sh\nset -e\n"
            _write(tree / "DEBIAN" / name, shebang + text, executable=True)
        tree.chmod(0o755)
        command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(target)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    return target


def _write(path: Path, text: str, *, executable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755 if executable else 0o644)
    for parent in list(path.parents)[:8]:
        if parent.name == "tree":
            break
        parent.chmod(0o755)


class Repository:
    """An apt repository in a directory, in which all versions of a package stay side by side."""

    def __init__(self, path: Path, suite: str = "stable") -> None:
        self.path, self.suite = path, suite
        self._stanzas: list[str] = []
        path.mkdir(parents=True, exist_ok=True)

    def add(self, *debs: Deb) -> None:
        """Build these packages and list them in the index."""
        for deb in debs:
            package = build(deb, self.path)
            content = package.read_bytes()
            self._stanzas.append(
                f"{deb.control()}Filename: ./{package.name}\nSize: {len(content)}\n"
                f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
            )
        index = "\n".join(self._stanzas)
        (self.path / "Packages").write_text(index)
        digest = hashlib.sha256(index.encode()).hexdigest()
        (self.path / "Release").write_text(
            f"Origin: Tests\nLabel: Tests\nSuite: {self.suite}\nCodename: tests\n"
            f"SHA256:\n {digest} {len(index.encode())} Packages\n"
        )

    def publish(self, machine: Machine) -> None:
        """Bring the repository into the machine and let its apt read it."""
        place = REPOSITORY if self.suite == "stable" else f"{REPOSITORY}-{self.suite}"
        machine.copy_in(self.path, place)
        source = f"/etc/apt/sources.list.d/tests-{self.suite}.list"
        machine.write(source, f"deb [trusted=yes] file:{place} ./\n")
        machine.run(["apt-get", "update", "--quiet"])


def apt_get(machine: Machine, *words: str) -> str:
    """Run apt-get inside as a person would, without questions; what it printed."""
    return machine.run(
        ["apt-get", "--yes", "--quiet", *words], timeout=120, env={"DEBIAN_FRONTEND": "noninteractive"}
    ).stdout
