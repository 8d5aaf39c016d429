"""What a user installs: the wheel in an empty environment, away from the checkout, with its command line."""

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.homes import Debian, Home
from tests.rigs.installed import CHECKOUT
from watchman_mcp import __version__
from watchman_mcp.clients import CLIENTS

pytestmark = pytest.mark.real
EVERY_MODULE = """
import importlib, pkgutil, sys
import watchman_mcp
names = [one.name for one in pkgutil.walk_packages(watchman_mcp.__path__, "watchman_mcp.")]
for name in names:
    importlib.import_module(name)
print(watchman_mcp.__file__, len(names))
"""
STANDING = {
    "json": b'{\r\n\t"theme": "\xc3\xa4",\r\n\t"KEYS" : { "other": {"command": "x" ,"args": [ ] }},"z":1.50}',
    "toml": b"# mine\nmodel = \"large\"   # a remark\n\n[KEYS.other]\ncommand = 'x'\n\n[last]\nn = 1",
}
"""Files that a person wrote in an own style, which is to be there again."""


def uv(*words: str | Path) -> None:
    """Run uv from its cache, and from the registry where that does not do."""
    for more in ("--offline", "--quiet"):
        argv = [sys.executable, "-m", "uv", *words, more]
        done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=300)
        if done.returncode == 0:
            return
    raise AssertionError(done.stderr)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    place = tmp_path_factory.mktemp("wheel")
    uv("build", "--wheel", "--out-dir", place)
    [built] = place.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and what it needs, in the locked versions."""
    place = tmp_path_factory.mktemp("installed")
    uv("venv", place / "environment")
    install(wheel, place, "--python", place / "environment/bin/python")
    return place / "environment"


def install(wheel: Path, scratch: Path, *where: str | Path) -> None:
    """Install the wheel and what it needs, in the locked versions."""
    locked = scratch / "locked.txt"
    uv("export", "--locked", "--no-dev", "--no-emit-project", "--output-file", locked)
    uv("pip", "install", "--constraints", locked, *where, wheel)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home whose Watchman looks at a small Debian machine."""
    one = Home(tmp_path / "home", Debian(tmp_path / "root").settings)
    yield one
    one.finish()


def tree(path: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of everything in a home but for Watchman's own state."""
    return {
        str(one.relative_to(path)): (one.stat().st_mode, one.read_bytes() if one.is_file() else b"")
        for one in sorted(path.rglob("*"))
        if one.relative_to(path).parts[0] != ".local"
    }


def entry_of(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """Watchman's entry in a client's file."""
    found: Any = tomllib.loads(path.read_text()) if path.suffix == ".toml" else json.loads(path.read_bytes())
    for key in (*keys, "watchman"):
        found = found[key]
    return dict(found)


def test_the_wheel_brings_one_import_package_and_no_test(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert {name.split("/")[0] for name in names} == {"watchman_mcp", f"watchman_mcp-{__version__}.dist-info"}
    sources = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "watchman_mcp").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == sources
    assert f"watchman_mcp-{__version__}.dist-info/licenses/LICENSE" in names


def test_every_module_can_be_imported_without_what_developers_need(environment: Path, tmp_path: Path) -> None:
    python = str(environment / "bin/python")

    def ran(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, "-I", *words], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )

    imported = ran("-W", "error", "-c", EVERY_MODULE)

    assert imported.returncode == 0, imported.stderr
    place, count = imported.stdout.split()
    assert Path(place).is_relative_to(environment)
    assert int(count) > 40
    assert ran("-c", "import pytest").returncode == 1


def test_the_program_tells_its_version_and_converses_with_this_machine(
    environment: Path, tmp_path: Path
) -> None:
    home = Home(tmp_path / "home")
    program = (str(environment / "bin/watchman-mcp"),)
    try:
        version = home.run("--version", program=program)
        demo = home.run("demo", program=program, seconds=120)
        head = home.run("-c", '"$0" demo | head -n 2', *program, program=("/bin/sh",), seconds=120)
        stopped = home.run("stop", program=program)
    finally:
        home.finish()

    assert version.stdout == f"watchman-mcp {__version__}\n"
    assert (demo.returncode, stopped.returncode) == (0, 0), demo.stderr
    questions = [line for line in demo.stdout.split("\n") if line.startswith("> ")]
    assert len(questions) >= 6
    assert "How is this machine?" in questions[0]
    assert os.uname().release in demo.stdout
    assert head.stdout.split("\n")[1] == questions[0]
    assert (demo.stderr, head.stderr) == ("", "")


def test_a_demo_that_gets_no_answer_says_why_in_one_line(environment: Path, home: Home) -> None:
    home.configure("[store\n")

    demo = home.run("demo", program=(str(environment / "bin/watchman-mcp"),))

    assert demo.returncode == 1
    assert demo.stderr.splitlines()[-1].startswith("watchman-mcp: The configuration file")
    assert "Traceback" not in demo.stderr


def test_an_install_in_the_users_own_site_serves_from_there(wheel: Path, home: Home, tmp_path: Path) -> None:
    python = os.path.realpath(sys.executable)
    site = home.path / f".local/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    install(wheel, tmp_path, "--target", site, "--python", python)

    session = home.client((python, "-P", "-m", "watchman_mcp.cli"))

    assert session.call("overview")["found"] == "yes"
    words = Path(f"/proc/{home.pid()}/cmdline").read_text().split("\0")
    assert str(site) in words
    assert f"{site}/" in Path(f"/proc/{home.pid()}/maps").read_text()
    demo = home.run("-P", "-m", "watchman_mcp.cli", "demo", program=(python,))
    assert (demo.returncode, demo.stderr) == (0, "")


@pytest.mark.parametrize("standing", [False, True], ids=["no file", "a file of the person"])
@pytest.mark.parametrize("name", CLIENTS)
def test_setup_makes_a_client_start_watchman_and_taking_it_out_leaves_no_trace(
    environment: Path, home: Home, name: str, standing: bool
) -> None:
    client, program = CLIENTS[name], (str(environment / "bin/watchman-mcp"),)
    path = home.path / client.linux
    if standing:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(STANDING[client.kind].replace(b"KEYS", client.keys[0].encode()))
        path.chmod(0o640)
    before = tree(home.path)

    put_in = home.run("setup", name, program=program)
    entry = entry_of(path, client.keys)
    if not standing:  # once for each client is enough
        session = home.client((entry["command"], *entry["args"]))
        assert session.call("query_packages", name="base")["items"][0]["version"] == "12"
    taken_out = home.run("setup", name, "--remove", program=program)

    assert (put_in.returncode, taken_out.returncode) == (0, 0), put_in.stderr + taken_out.stderr
    assert str(path) in put_in.stdout
    assert entry["command"] == program[0]
    assert tree(home.path) == before
