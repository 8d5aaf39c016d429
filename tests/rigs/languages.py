"""Packages of no consequence for the managers of languages, made on the spot and without a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.rigs.cache import missing, need_programs


@dataclass(frozen=True)
class Home:
    """A person's home in a root of its own, in which managers install; their programs are the machine's."""

    root: Path

    @property
    def path(self) -> Path:
        """Where it is, which is `/root` of that machine."""
        return self.root / "root"

    def run(self, *words: str | Path, cwd: Path | None = None, **variables: str | Path) -> str:
        """What a program prints when it runs with this home and these variables."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.path), "LC_ALL": "C.UTF-8"}
        environment |= {"YARN_CACHE_FOLDER": str(self.root / "yarn-cache")}
        environment |= {name: str(value) for name, value in variables.items()}
        done = subprocess.run(
            [str(word) for word in words],
            cwd=cwd or self.path, env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout


def write(directory: Path, files: Mapping[str, str]) -> Path:
    """Put these files into a directory."""
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


def node_package(home: Home, name: str, version: str, **more: object) -> Path:
    """A tarball that npm installs."""
    need_programs("npm", "npm", "node", how="apt-get install npm")
    place = home.root / "made" / f"{name.replace('/', '-')}-{version}"
    write(place, {"package.json": json.dumps({"name": name, "version": version, **more})})
    packed = home.run("npm", "pack", "--silent", "--offline", cwd=place)
    return place / packed.strip().splitlines()[-1]


def from_npm(home: Home, name: str, version: str) -> Path:
    """The directory of the programs of a manager that npm brings, which needs its registry once."""
    need_programs("npm", "npm", "node", how="apt-get install npm")
    prefix = home.root / "tools"
    done = subprocess.run(
        ["npm", "install", "--global", "--prefix", prefix, "--silent", f"{name}@{version}"],
        env={**os.environ, "HOME": str(home.root)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    if done.returncode:
        missing(f"{name} {version}", "npm must reach its registry")
    return prefix / "bin"


def gem_file(
    home: Home, name: str, version: str, *needs: str, platform: str = "ruby", program: str = ""
) -> Path:
    """A gem, with this program and a library if it is named."""
    need_programs("RubyGems", "gem", "ruby", how="apt-get install ruby")
    files = {f"exe/{program}": "#!/usr/bin/env ruby\n", f"lib/{program}.rb": ""} if program else {}
    lines = [
        f"s.name = {name!r}; s.version = {version!r}; s.authors = ['Tests']",
        "s.summary = 'made for a \"test\"'",
        f"s.files = {list(files)}; s.executables = {[program] if program else []}; s.bindir = 'exe'",
        f"s.platform = {platform!r}; s.homepage = 'https://example.org'; s.license = 'MIT'",
        *(f"s.add_dependency {need!r}" for need in needs),
        "s.add_development_dependency 'minitest'",
    ]
    place = write(
        home.root / "made" / f"{name}-{version}",
        {**files, "it.gemspec": "Gem::Specification.new do |s|\n" + "\n".join(lines) + "\nend\n"},
    )
    for file in place.glob("exe/*"):
        file.chmod(0o755)
    home.run("gem", "build", "--silent", "it.gemspec", cwd=place)
    (made,) = place.glob("*.gem")
    return made


def wheel_file(home: Home, name: str, version: str) -> Path:
    """A wheel with a module, a program and a file beside both."""
    place = home.root / "made" / f"{name}-{version}-py3-none-any.whl"
    place.parent.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": "def main(): pass\n",
        f"{name}-{version}.data/data/share/{name}.txt": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: rig\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    with zipfile.ZipFile(place, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"]))
    return place


def crate(home: Home, name: str, version: str) -> Path:
    """A crate with one program, in a directory."""
    if shutil.which("cargo") is None:
        missing("cargo", "apt-get install cargo")
    manifest = f'[package]\nname = "{name}"\nversion = "{version}"\nedition = "2021"\n'
    return write(
        home.root / "made" / f"{name}-{version}", {"Cargo.toml": manifest, "src/main.rs": "fn main() {}\n"}
    )


def go_proxy(home: Home, module: str, versions: list[str]) -> dict[str, str]:
    """A proxy in files that offers a module with a program `cmd/tool`, and the variables that name it."""
    need_programs("Go", "go", how="install Go, such as apt-get install golang")
    place = home.root / "proxy" / module / "@v"
    place.mkdir(parents=True)
    for version in versions:
        mod = f"module {module}\n\ngo 1.16\n"
        (place / f"{version}.info").write_text(json.dumps({"Version": version}))
        (place / f"{version}.mod").write_text(mod)
        with zipfile.ZipFile(place / f"{version}.zip", "w") as archive:
            archive.writestr(f"{module}@{version}/go.mod", mod)
            archive.writestr(f"{module}@{version}/cmd/tool/main.go", "package main\n\nfunc main() {}\n")
    (place / "list").write_text("".join(f"{version}\n" for version in versions))
    return {
        "GOPROXY": f"file://{home.root}/proxy",
        "GOSUMDB": "off",
        "GOFLAGS": "-modcacherw",
        "GOTOOLCHAIN": "local",
    }
