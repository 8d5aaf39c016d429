"""What dnf and zypper would update, and what they keep, as they tell it of roots of their own."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.collectors.test_cases import graph, look_at
from tests.rigs.dnf_plugins import LOCKLIST, versionlock
from tests.rigs.rpm import Advisory, Repository, Rpm
from watchman_mcp.errors import Broken
from watchman_mcp.machine import Machine, dnf_updates, zypp_updates
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.rpm import INSTALL_ONLY, install_only, newest
from watchman_mcp.machine.rpm_database import read_database
from watchman_mcp.machine.rpm_locks import match_zypp
from watchman_mcp.machine.rpm_managers import updates_of
from watchman_mcp.machine.updates import Update

pytestmark = pytest.mark.real

KERNEL = ("installonlypkg(kernel)", "multiversion(kernel)")
LONG = "a-package-whose-name-is-so-long-that-no-table-of-a-narrow-terminal-has-room-for-it-and-its-version"
FIXED = (Rpm("app", "1:0.9-1"), Rpm("middle", "1.1-1"), Rpm("done", "1.0-1"), Rpm("absent", "2.0-1"))
OLD = [
    *(Rpm(name, "1.0-1") for name in ("app", "lib", "middle", "done", "kept", LONG)),
    Rpm("moving", "1.0-1"),
    Rpm("same", "1.0-1"),
    Rpm("kernel", "6.1-1", provides=KERNEL),
    Rpm("kernel", "6.2-1", provides=KERNEL),
]
NEW = [
    Rpm("app", "1:0.9-1"),
    Rpm("lib", "1.1~rc1-1"),
    Rpm("middle", "1.1-1"),
    Rpm("middle", "1.2-1"),
    Rpm("done", "1.1-1"),
    Rpm("kept", "1.1-1"),
    Rpm(LONG, "1.0.0+git.20270101.abcdef-1.1"),
    Rpm("moving", "1.1-1", arch="x86_64"),
    Rpm("kernel", "6.3-1", provides=KERNEL),
]
NAMES = [f"{rpm.name}-{rpm.parts[1]}" for rpm in OLD]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    made = Repository(tmp_path_factory.mktemp("rpm"))
    made.build(*OLD, *NEW)
    made.advise(Advisory("SEC-1", "security", FIXED), Advisory("BUG-1", "bugfix", (Rpm("lib", "1.1~rc1-1"),)))
    return made


@pytest.fixture
def dnf_root(repository: Repository, tmp_path: Path) -> Path:
    root = tmp_path / "root"
    repository.dnf(root, "install", *NAMES)
    return root


@pytest.fixture
def zypp_root(repository: Repository, tmp_path: Path) -> Path:
    root = tmp_path / "root"
    repository.zypper(root, "install", *(f"{rpm.name}={rpm.parts[1]}" for rpm in OLD))
    return root


def dnf_told(repository: Repository, root: Path, *words: str) -> set[tuple[str, str]]:
    """Packages and versions as a query of dnf for them says it."""
    form = "%{name}.%{arch}|%{evr}\n"
    told = repository.dnf(root, "--cacheonly", "repoquery", "--latest-limit=1", *words, "--queryformat", form)
    return {(line.split("|")[0], line.split("|")[1]) for line in told.splitlines() if line}


def brief(updates: list[Update]) -> set[tuple[str, str]]:
    return {(f"{one.name}.{one.architecture}", one.version) for one in updates}


def ask_dnf(repository: Repository, root: Path) -> tuple[list[Update], int]:
    commands = repository.commands("dnf", *repository.dnf_options(root))
    return dnf_updates.ask(commands, "dnf", dnf_updates.metadata(Files(root), "dnf").marking)


def ask_zypper(repository: Repository, root: Path) -> tuple[list[Update], int]:
    commands = repository.commands("zypper", "--root", str(root), "--no-gpg-checks")
    return zypp_updates.ask(commands, zypp_updates.metadata(Files(root)).marking)


def test_the_updates_of_dnf_are_those_that_dnf_tells(repository: Repository, dnf_root: Path) -> None:
    log = dnf_root / "var/log/dnf.log"
    size = log.stat().st_size

    found, unreadable = ask_dnf(repository, dnf_root)

    assert unreadable == 0
    assert log.stat().st_size == size, "dnf's log was told of a question"
    assert brief(found) == dnf_told(repository, dnf_root, "--upgrades")
    assert {one.origin for one in found} == {"tests"}
    listed = repository.dnf(dnf_root, "--cacheonly", "updateinfo", "list", "--security", "--updates")
    names = {line.split()[-1].rsplit("-", 2)[0] for line in listed.splitlines()}
    assert names == {"app", "middle"}
    assert {one.name for one in found if one.security} == names
    assert {one.security for one in found} == {True, False}
    assert {one.version for one in found if one.name == "middle"} == {"1.2-1"}


def test_an_update_belongs_to_the_newest_of_several_versions(repository: Repository, dnf_root: Path) -> None:
    found, _ = ask_dnf(repository, dnf_root)
    packages = read_database(Machine(Files(dnf_root), Commands(), dnf_root)).packages

    told = updates_of(
        newest(packages, install_only(packages, INSTALL_ONLY)),
        {(one.name, one.architecture): one for one in found},
    )

    assert {key: one.version for key, one in told.items() if key[0] in ("kernel", "moving", "app")} == {
        ("kernel", "noarch", "6.2-1"): "6.3-1",
        ("moving", "noarch", "1.0-1"): "1.1-1",
        ("app", "noarch", "1.0-1"): "1:0.9-1",
    }
    assert len(told) == len(found)


def test_a_repository_without_advisories_does_not_tell_what_is_for_security(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "rpm")
    repository.build(Rpm("app", "1.0-1"), Rpm("app", "1.1-1"))
    repository.dnf(tmp_path / "dnf", "install", "app-1.0")
    repository.zypper(tmp_path / "zypp", "install", "app=1.0")

    for found, unreadable in (
        ask_dnf(repository, tmp_path / "dnf"),
        ask_zypper(repository, tmp_path / "zypp"),
    ):
        assert (found, unreadable) == ([Update("app", "noarch", "1.1-1", "tests", None)], 0)


def test_without_updates_dnf_tells_none_and_without_metadata_it_cannot_tell(
    repository: Repository, dnf_root: Path
) -> None:
    repository.dnf(dnf_root, "upgrade")
    assert ask_dnf(repository, dnf_root) == ([], 0)

    repository.dnf(dnf_root, "clean", "all")
    with pytest.raises(Broken, match="no cache"):
        ask_dnf(repository, dnf_root)
    assert dnf_updates.metadata(Files(dnf_root), "dnf").indexes == ()


def test_the_updates_of_zypper_are_those_that_zypper_tells(repository: Repository, zypp_root: Path) -> None:
    log = Path("/var/log/zypper.log")
    size = log.stat().st_size if log.exists() else 0

    found, unreadable = ask_zypper(repository, zypp_root)

    assert unreadable == 0
    assert (log.stat().st_size if log.exists() else 0) == size, "zypper's log was told of a question"
    table = repository.zypper(zypp_root, "--no-refresh", "--terse", "list-updates")
    rows = [
        [cell.strip() for cell in line.split("|")] for line in table.splitlines() if line.startswith("v ")
    ]
    assert {(one.origin, one.name, one.version, one.architecture) for one in found} == {
        (row[1], row[2], row[4], row[5]) for row in rows
    }
    assert rows
    patches = repository.zypper(zypp_root, "--no-refresh", "list-patches", "--category", "security")
    assert re.findall(r"\| (\w+-\d) \| security", patches) == ["SEC-1"]
    assert {one.name for one in found if one.security} == {"app", "middle"}
    assert {one.security for one in found} == {True, False}


def test_a_question_to_zypper_locks_nobody_out(repository: Repository, zypp_root: Path) -> None:
    lock = zypp_root / "run/zypp.pid"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(f"{os.getpid()}\n")

    found, _ = ask_zypper(repository, zypp_root)

    assert found
    assert lock.read_text() == f"{os.getpid()}\n"


def test_what_the_plugin_versionlock_keeps_is_held(
    repository: Repository, dnf_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, options = versionlock(dnf_root, tmp_path / "plugin")
    for name, value in environment.items():
        monkeypatch.setitem(repository.environment, name, value)
    (dnf_root / "usr/bin").mkdir(parents=True, exist_ok=True)
    (dnf_root / "usr/bin/dnf").touch()
    unlocked, _ = ask_dnf(repository, dnf_root)
    for words in (["add", "kept"], ["add", "--raw", "kern*"], ["exclude", "app-1:0.9-1"]):
        repository.dnf(dnf_root, *options, "versionlock", *words)
    with (dnf_root / LOCKLIST).open("a") as locks:
        locks.write("# a note\nlib-0:1.0-*\nmoving.noarch\nmiddle-9-*\n(no name)\n")

    told = graph("rpm", look_at(dnf_root, "rpm"))

    commands = repository.commands("dnf", *repository.dnf_options(dnf_root), *options)
    locked, _ = dnf_updates.ask(commands, "dnf", frozenset())
    held = {one["key"] for one in packages_of(told) if one["held"]}
    vanished = {one.name for one in unlocked} - {one.name for one in locked}
    # One version of app is refused, and another architecture of moving: neither is kept where it is.
    assert held == vanished - {"app", "moving"} == {"kept", "lib", "middle"}
    assert told["unobserved"] == ["rpm:updates", "rpm:locks"], "the root is not the running machine"


LOCKS = [
    ["addlock", "kept"],
    ["addlock", "kern*"],
    ["addlock", "app < 1.0"],
    ["addlock", "lib <= 1.0"],
    ["addlock", "done > 0.9"],
    ["addlock", "--repo", "tests", "middle"],
    ["addlock", "--type", "patch", "same"],
    ["addlock", "absent"],
]


def test_what_zypper_locks_is_held(repository: Repository, zypp_root: Path) -> None:
    for words in LOCKS:
        repository.zypper(zypp_root, *words)

    told = graph("rpm", look_at(zypp_root, "rpm"))

    kept = repository.zypper(zypp_root, "--no-refresh", "--xmlout", "locks", "--solvables")
    wanted = set(re.findall(r'<match kind="package" name="([^"]+)"[^>]* installed="true"', kept))
    assert (
        {one["key"] for one in packages_of(told) if one["held"]}
        == wanted
        == {"kept", "kernel", "lib", "done"}
    )
    assert {one["held"] for one in packages_of(told)} == {True, False}
    assert not told.get("unobserved")
    found, _ = ask_zypper(repository, zypp_root)
    assert not wanted & {one.name for one in found}


def test_a_lock_of_zypper_by_a_rule_that_is_not_known_is_said(
    repository: Repository, zypp_root: Path
) -> None:
    lock = "type: package\nmatch_type: regex\nsolvable_name: (a+)+$\n"
    (zypp_root / "etc/zypp/locks").write_text(lock)

    told = graph("rpm", look_at(zypp_root, "rpm"))

    assert told["unobserved"] == ["rpm:locks"]
    assert match_zypp(lock, []).unreadable == 1


def packages_of(told: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in told["nodes"] if one["label"] == "Software"]
