"""Who owns a file, as the managers of languages list it; and changes in another user's home, at once."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import anyio
import pytest

from tests.collectors.test_cases import look_at
from tests.rigs.languages import Home, crate, gem_file, go_proxy, node_package, wheel_file
from tests.story import serving
from watchman_mcp.collectors import load
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.ownership import Owners
from watchman_mcp.schema.packages import Software
from watchman_mcp.store.sqlite import Store

pytestmark = [pytest.mark.real, pytest.mark.anyio]
GO_CACHE = os.environ.get("GOCACHE", str(Path.home() / ".cache/go-build"))
PASSWD = "root:x:0:0::/root:/bin/sh\nana:x:1000:1000::/home/ana:/bin/sh\n"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.path.mkdir()
    return made


def owners(home: Home, files: Iterable[str | Path]) -> dict[str, set[str]]:
    """The keys of the owners of these files of the home's machine; each is a package that a look brings."""
    ask = Owners(Machine(Files(home.root), Commands(), home.root), load())
    found: dict[str, set[str]] = {}
    for file in files:
        owned = ask(str(file).removeprefix(str(home.root)))
        assert owned.refused == {}
        for name, some in owned.owners.items():
            brought = {(one.manager, one.key, one.architecture, one.location) for one in brings(home, name)}
            assert set(some) <= brought, file
        found[str(file)] = {one.key for some in owned.owners.values() for one in some}
    return found


def brings(home: Home, name: str) -> list[Software]:
    (collector,) = (one for one in load() if one.name == name)
    return [one for one in collector.collect(look_at(home.root, name)) if isinstance(one, Software)]


def below(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.rglob("*")) if path.is_file() or path.is_symlink()]


def environment(home: Home, place: str) -> Path:
    prefix = home.root / place
    subprocess.run([sys.executable, "-m", "venv", prefix], check=True, timeout=120)
    return prefix


def pip(home: Home, prefix: Path, *words: str | Path) -> str:
    return home.run(prefix / "bin/python", "-m", "pip", "--disable-pip-version-check", *words)


async def test_files_of_distributions_are_owned_as_pip_shows_them(home: Home) -> None:
    prefix = environment(home, "srv/app/.venv")
    pip(home, prefix, "install", "--quiet", "--no-index", wheel_file(home, "rig_tool", "1.0"))
    expected = {str(prefix / "pyvenv.cfg"): set[str](), str(prefix / "bin/activate"): set[str]()}
    for name in ("rig-tool", "pip"):
        told = pip(home, prefix, "show", "--files", name)
        location = re.search(r"^Location: (.*)$", told, re.MULTILINE)
        assert location
        listed = told.partition("Files:\n")[2].split("\n")
        paths = [os.path.normpath(f"{location[1]}/{line.strip()}") for line in listed if line.strip()]
        expected |= {path: {name} for path in (paths if name == "rig-tool" else paths[::40])}

    assert str(prefix / "bin/rig_tool") in expected
    assert str(prefix / "share/rig_tool.txt") in expected
    assert owners(home, expected) == expected


async def test_files_of_global_packages_are_owned_as_npm_lists_them(home: Home) -> None:
    prefix = home.path / ".npm-global"
    inner = node_package(home, "rig-inner", "1.0.0")
    tool = node_package(
        home, "rig-tool", "1.0.0", bin="package.json", dependencies={"rig-inner": f"file:{inner}"}
    )
    scoped = node_package(home, "@rig/scoped", "2.0.0")
    more = {"NPM_CONFIG_PREFIX": str(prefix)}
    quiet = ("--global", "--offline", "--no-audit", "--silent")
    home.run("npm", "install", *quiet, tool, scoped, **more)
    listed = json.loads(home.run("npm", "ls", "--json", *quiet, **more))["dependencies"]
    top = Path(home.run("npm", "root", "--global", **more).strip())

    expected = {str(file): {name} for name in listed for file in below(top / name)}
    expected[str(prefix / "bin/rig-tool")] = {"rig-tool"}
    assert str(top / "rig-tool/node_modules/rig-inner/package.json") in expected
    assert listed.keys() == {"rig-tool", "@rig/scoped"}
    assert owners(home, expected) == expected


async def test_programs_are_owned_as_cargo_lists_them(home: Home) -> None:
    rustup = os.environ.get("RUSTUP_HOME", str(Path.home() / ".rustup"))
    more = {"RUSTUP_HOME": rustup, "CARGO_HOME": home.path / ".cargo"}
    for name in ("rig-one", "rig-two"):
        home.run("cargo", "install", "--offline", "--quiet", "--path", crate(home, name, "1.0.0"), **more)
    told = home.run("cargo", "install", "--list", **more)
    (home.path / ".cargo/bin/stranger").touch()

    groups = re.findall(r"^(\S+) v\S+.*:\n((?: +\S+\n)+)", told, re.MULTILINE)
    expected = {str(home.path / ".cargo/bin" / one): {name} for name, some in groups for one in some.split()}
    assert len(expected) == 2
    expected[str(home.path / ".cargo/bin/stranger")] = set()
    assert owners(home, expected) == expected


async def test_files_of_gems_are_owned_as_rubygems_lists_them(home: Home) -> None:
    place = home.path / ".gem/ruby/3.1.0"
    more = {"GEM_HOME": place, "GEM_PATH": place}
    files = [
        gem_file(home, "rig-gem", "1.0", program="rig-run"),
        gem_file(home, "rig-more", "2.0", program="more"),
    ]
    home.run("gem", "install", "--local", "--no-document", "--force", *files, **more)

    expected = {str(place / "bin/rig-run"): {"rig-gem"}, str(place / "bin/more"): {"rig-more"}}
    for name in ("rig-gem", "rig-more"):
        listed = home.run("gem", "contents", name, **more).split()
        assert len(listed) == 2
        expected |= {file: {name} for file in listed}
        expected[home.run("gem", "specification", name, "loaded_from", **more).split('"')[1]] = {name}
    assert owners(home, expected) == expected


async def test_a_program_of_go_is_owned_by_the_package_that_go_reads_in_it(home: Home) -> None:
    proxy = go_proxy(home, "example.org/rig", ["v1.0.0"])
    more = {**proxy, "GOCACHE": GO_CACHE, "GOPATH": str(home.path / "go")}
    home.run("go", "install", "example.org/rig/cmd/tool@v1.0.0", **more)
    program = home.path / "go/bin/tool"
    (package,) = re.findall(r"\tpath\t(\S+)\n", home.run("go", "version", "-m", program, **more))
    (program.parent / "stranger").write_text("#!/bin/sh\n")

    expected = {str(program): {package}, str(program.parent / "stranger"): set()}
    assert owners(home, expected) == expected


async def test_a_change_in_the_home_of_another_user_is_noticed_within_five_seconds(home: Home) -> None:
    (home.root / "etc").mkdir()
    (home.root / "etc/passwd").write_text(PASSWD)
    prefix = environment(home, "home/ana/project/.venv")
    pip(home, prefix, "install", "--quiet", "--no-index", wheel_file(home, "rig_one", "1.0"))
    for path in (home.root / "home/ana", *(home.root / "home/ana").rglob("*")):
        if os.geteuid() == 0:
            os.lchown(path, 1000, 1000)
    store = Store(None)

    def known() -> set[str]:
        rows = store.read("SELECT key FROM Software WHERE gone_at IS NULL AND location LIKE '%/.venv'", ())
        return {row["key"] for row in rows}

    collectors = [one for one in load() if one.name == "python"]
    async with serving(store, home.root, *collectors) as server:
        status = server.runner.status["python"]
        with anyio.fail_after(60):  # a path that is watched from now on is told as changed once
            while status.runs < 2:
                await anyio.sleep(0.05)
        assert known() >= {"rig-one"}
        for change, expected in [
            (("install", "--no-index", wheel_file(home, "rig_two", "1.0")), {"rig-one", "rig-two"}),
            (("uninstall", "--yes", "rig_one"), {"rig-two"}),
        ]:
            await anyio.to_thread.run_sync(lambda words=change: pip(home, prefix, *words))
            with anyio.fail_after(5):
                while {key for key in known() if key.startswith("rig-")} != expected:
                    await anyio.sleep(0.05)
    store.close()
