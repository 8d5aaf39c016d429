"""dnf and zypper do things in roots of their own; what is told of it is compared with what they tell."""

import json
import re
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.collectors.test_cases import graph, look_at
from tests.rigs.rpm import DATABASE, Repository, Rpm
from tests.story import serving
from watchman_mcp.collectors import load
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.rpm_database import ask_rpm, read_sqlite
from watchman_mcp.store.sqlite import Store

pytestmark = [pytest.mark.real, pytest.mark.anyio]

KERNEL = ("installonlypkg(kernel)", "multiversion(kernel)")
RPMS = [
    Rpm("app", "1.0-1", ("lib >= 1", "/usr/bin/tool", "(absent or data)"), summary='it\'s | an "app"'),
    Rpm("app", "1:0.9-1", ("lib >= 1",)),
    Rpm("lib", "1.0-1"),
    Rpm("lib", "1.1~rc1-1"),
    Rpm("tool", "1.0-1", files=("/usr/bin/tool",)),
    Rpm("data", "1.0-1"),
    Rpm("old", "1.0-1"),
    Rpm("new", "1.0-1", obsoletes=("old < 2",)),
    Rpm("careless", "1.0-1", scripts={"post": "error('nobody is at home')"}),
    Rpm("refusing", "1.0-1", scripts={"pre": "error('no')"}),
    Rpm("kernel", "6.1-1", provides=KERNEL),
    Rpm("kernel", "6.2-1", provides=KERNEL),
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    made = Repository(tmp_path_factory.mktemp("rpm"))
    made.build(*RPMS)
    return made


def listed(repository: Repository, root: Path) -> Counter[str]:
    form = "%{NAME} %|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE} %{ARCH} %{INSTALLTIME}\n"
    return Counter(repository.run("rpm", "--root", str(root), "-qa", "--queryformat", form).splitlines())


def found(nodes: list[dict[str, Any]]) -> Counter[str]:
    return Counter(
        f"{one['key']} {one['version']} {one['architecture']} "
        f"{datetime.fromisoformat(one['installed_at']).timestamp():.0f}"
        for one in nodes
    )


def brief(records: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [
        (one["type"].removeprefix("package_"), one["package_name"], one.get("previous"), one.get("version"))
        for one in records
    ]


def test_what_dnf_does_is_told_as_dnf_tells_it(repository: Repository, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for words in (
        ["install", "app-1.0", "lib-1.0", "old-1.0", "kernel-6.1", "--setopt=obsoletes=0"],
        ["install", "kernel-6.2", "lib", "--setopt=obsoletes=0"],
        ["upgrade"],
        ["downgrade", "lib-1.0"],
        ["reinstall", "lib"],
        ["install", "careless"],
        ["install", "refusing"],
        ["install", "lib"],
        ["remove", "tool"],
    ):
        repository.dnf(root, *words, fails="refusing" in words)

    told = graph("rpm", look_at(root, "rpm"))

    assert found(told["nodes"]) == listed(repository, root)
    wanted = {
        line.rsplit("-", 2)[0] for line in repository.dnf(root, "history", "userinstalled").splitlines()[1:]
    }
    assert {one["key"] for one in told["nodes"] if one["requested"]} == wanted
    assert [one["key"] for one in told["nodes"] if not one["requested"]] == ["data"]
    changes = brief(told["records"])
    first = {
        "app": "1.0-1",
        "lib": "1.0-1",
        "old": "1.0-1",
        "kernel": "6.1-1",
        "tool": "1.0-1",
        "data": "1.0-1",
    }
    assert Counter(changes[:6]) == Counter(
        ("install", name, None, version) for name, version in first.items()
    )
    assert Counter(changes[6:]) == Counter(
        [
            ("install", "kernel", None, "6.2-1"),
            ("update", "lib", "1.0-1", "1.1~rc1-1"),
            ("update", "app", "1.0-1", "1:0.9-1"),
            ("install", "new", None, "1.0-1"),
            ("remove", "old", None, "1.0-1"),
            ("downgrade", "lib", "1.1~rc1-1", "1.0-1"),
            ("reinstall", "lib", "1.0-1", "1.0-1"),
            ("install", "careless", None, "1.0-1"),
            ("remove", "tool", None, "1.0-1"),
        ]
    )
    by_run = {one["transaction_id"].rpartition(":")[2]: one for one in told["records"]}
    for number, one in by_run.items():
        info = repository.dnf(root, "history", "info", number)
        line = next(line for line in info.splitlines() if line.startswith("Command Line"))
        assert one["command"] == f"dnf {line.partition(': ')[2].strip()}"
    assert ["nobody is at home" in one.get("error", "") for one in told["records"]].count(True) == 1


def test_what_zypper_does_is_told_as_its_history_tells_it(repository: Repository, tmp_path: Path) -> None:
    root = tmp_path / "root"
    marks: dict[str, object] = {}
    records: dict[str, dict[str, Any]] = {}
    for words in (
        ["install", "app=1.0", "lib=1.0", "kernel=6.1"],
        ["install", "kernel=6.2", "lib"],
        ["install", "--oldpackage", "lib=1.0"],
        ["install", "--force", "lib=1.0"],
        ["install", "careless"],
        ["install", "refusing"],
        ["remove", "--clean-deps", "app"],
    ):
        repository.zypper(root, *words, fails="refusing" in words)
        look = look_at(root, "rpm", marks=json.loads(json.dumps(marks)))
        told = graph("rpm", look)
        marks = look.marks
        for one in told["records"]:
            records.setdefault(json.dumps({**one, "error": None}, sort_keys=True), one)
        assert found(told["nodes"]) == listed(repository, root)

    assert not look.unobserved
    history = (root / "var/log/zypp/history").read_text()
    lines = re.findall(r"^[^#|]+\|(install|remove) *\|([^|]+)\|([^|]+)\|", history, re.MULTILINE)
    assert Counter(
        ("remove" if kind == "remove" else "install", name, version)
        for kind, name, _, version in brief([*records.values()])
    ) == Counter(lines)
    changes = brief([*records.values()])
    assert Counter(one for one in changes if one[2]) == Counter(
        [
            ("update", "lib", "1.0-1", "1.1~rc1-1"),
            ("downgrade", "lib", "1.1~rc1-1", "1.0-1"),
            ("reinstall", "lib", "1.0-1", "1.0-1"),
        ]
    )
    assert {one["command"].split()[6] for one in records.values()} <= {"install", "remove"}


async def test_a_root_of_dnf_is_in_the_store_with_what_needs_what(
    repository: Repository, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    repository.dnf(root, "install", "app-1.0", "kernel-6.1", "kernel-6.2", "--exclude=new")
    store = Store(None)

    async with serving(store, root, *load()) as server:
        await server.runner.scan(["rpm"])
        repository.dnf(root, "remove", "kernel-6.1")
        await server.runner.scan(["rpm"])
        rows = store.read("SELECT key, location FROM Software WHERE gone_at IS NULL ORDER BY key", ())
        edges = store.read("SELECT start, end FROM _edges WHERE gone_at IS NULL AND type = 'DEPENDS_ON'", ())
        told = store.read("SELECT type, package_name, version, source, acted_on FROM Event ORDER BY seq", ())

    assert [(row["key"], row["location"]) for row in rows] == [
        ("app", None), ("data", None), ("kernel", "6.2-1"), ("lib", None), ("tool", None)
    ]  # fmt: skip
    assert {(row["start"], row["end"]) for row in edges} == {
        ("Software/dnf/app/noarch/", f"Software/dnf/{name}/noarch/") for name in ("lib", "tool", "data")
    }
    assert [(row["type"], row["package_name"], row["version"], row["source"]) for row in told][-1:] == [
        ("package_remove", "kernel", "6.1-1", "dnf")
    ]
    assert {row["source"] for row in told} == {"dnf"}
    assert told[-1]["acted_on"] == "Software/dnf/kernel/noarch/6.1-1"
    store.close()


def test_rpm_and_the_reader_without_it_tell_the_same(repository: Repository, tmp_path: Path) -> None:
    root = tmp_path / "root"
    repository.dnf(root, "install", "app-1.0", "kernel-6.1", "--exclude=new")

    by_rpm = ask_rpm(Commands(), str((root / DATABASE.lstrip("/")).parent))
    by_itself = read_sqlite(Files(root), DATABASE)

    def order(database: Any) -> list[str]:
        return sorted(repr(package) for package in database.packages)

    assert order(by_rpm) == order(by_itself)
    assert by_rpm.owners == by_itself.owners == {"/usr/bin/tool": [("tool", "noarch")]}
