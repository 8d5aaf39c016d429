"""Who owns a file, and what packages of rpm brought, as rpm tells it, with rpm and without it."""

import json
import os
from pathlib import Path

import pytest

from tests.collectors.test_cases import graph, look_at
from tests.rigs.rpm import DATABASE, Repository, Rpm
from tests.story import serving
from watchman_mcp.collectors import load
from watchman_mcp.collectors.rpm import owner
from watchman_mcp.errors import Broken
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.rpm_database import ask_rpm, query, read_sqlite
from watchman_mcp.machine.rpm_files import FORMAT, Brought, asked, brought, owners, read_brought
from watchman_mcp.ownership import Owners
from watchman_mcp.schema import path_of
from watchman_mcp.schema.configs import ConfigFile
from watchman_mcp.schema.packages import Owner
from watchman_mcp.schema.services import Service
from watchman_mcp.store.sqlite import Store

pytestmark = [pytest.mark.real, pytest.mark.anyio]

KERNEL = ("installonlypkg(kernel)", "multiversion(kernel)")
UNIT = "/usr/lib/systemd/system/web.service"
LEFT_OUT = "/usr/lib/web"
"""A file of a package that was installed without it."""
RPMS = [
    Rpm(
        "web",
        "1:2.0-1",
        files=(UNIT, "/usr/lib/systemd/system/web.socket", "/usr/share/web/it's odd", "/usr/bin/shared"),
        configs=("/etc/web/web.conf", "/etc/web/it's odd", "/usr/share/web/default.conf"),
    ),
    Rpm("web", "1:2.0-1", files=("/usr/bin/shared", LEFT_OUT), arch="x86_64"),
    Rpm("tool", "1.0-1", files=("/usr/bin/tool",), module="tools:1.x:20260101:abcd"),
    Rpm("kernel", "6.1-1", provides=KERNEL, files=("/boot/vmlinuz-6.1",)),
    Rpm("kernel", "6.2-1", provides=KERNEL, files=("/boot/vmlinuz-6.2",)),
    Rpm("empty", "1.0-1"),
]
PATHS = [
    *("/usr/bin/shared", "/usr/share/web/it's odd", "/boot/vmlinuz-6.1", "/etc/web/web.conf"),
    *("/usr/share", LEFT_OUT),
]
ASK = "%{NAME} %{ARCH} %{VERSION}\n"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    made = Repository(tmp_path_factory.mktemp("rpm"))
    made.build(*RPMS)
    return made


@pytest.fixture(scope="module")
def root(repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files") / "root"
    packages = [str(path) for path in sorted(repository.packages.glob("*.rpm"))]
    root.mkdir()
    repository.run(
        "rpm", "--root", str(root), "--install", "--nodeps", f"--excludepath={LEFT_OUT}", *packages
    )
    return root


def machine_of(root: Path) -> Machine:
    return Machine(Files(root), Commands(), root)


def test_the_owners_of_a_file_are_those_that_rpm_tells(repository: Repository, root: Path) -> None:
    machine = machine_of(root)

    for path in PATHS:
        told = repository.run("rpm", "--root", str(root), "-qf", "--queryformat", ASK, path, fails=True)
        wanted = {tuple(line.split()[:2]) for line in told.splitlines() if "not owned" not in line}
        found = list(owner(machine, {path}))
        assert {(one.key, one.architecture) for one in found} == wanted, path
    shared = {("web", "noarch"), ("web", "x86_64")}
    assert {(one.key, one.architecture) for one in owner(machine, {"/usr/bin/shared"})} == shared
    assert list(owner(machine, {"/boot/vmlinuz-6.1"})) == [Owner("dnf", "kernel", "noarch", "6.1-1")]
    assert list(owner(machine, {"/nowhere/shared"})) == list(owner(machine, {LEFT_OUT})) == []


def test_rpm_itself_is_asked_for_owners_where_it_may_be(root: Path) -> None:
    directory = str((root / DATABASE.lstrip("/")).parent)

    for path in PATHS:
        by_rpm = {(one.name, one.arch, one.version) for one in asked(Commands(), directory, path)}
        by_itself = {(one.name, one.arch, one.version) for one in owners(machine_of(root), {path})}
        assert by_rpm == by_itself, path
    assert asked(Commands(), directory, "/nowhere/shared") == []
    assert asked(Commands(), directory, "/nowhere\nN 'fake' '1' '1'") == []
    with pytest.raises(Broken):
        asked(Commands(), str(root / "usr/bin/tool"), "/usr/bin/tool")


def test_an_owner_is_found_by_the_name_that_the_file_has_after_links(root: Path) -> None:
    (root / "usr/bin/alias").symlink_to("tool")
    (root / "bin").symlink_to("usr/bin")

    asking = Owners(machine_of(root), [one for one in load() if one.name == "rpm"])

    tool = {"rpm": [Owner("dnf", "tool", "noarch")]}
    assert (
        asking("/usr/bin/alias").owners == asking("/bin/tool").owners == asking("/bin/alias").owners == tool
    )
    assert asking("/usr/bin/nothing").owners == {}


def test_what_packages_brought_is_what_rpm_lists_as_configuration(repository: Repository, root: Path) -> None:
    told = graph("rpm", look_at(root, "rpm"))

    listed = repository.run("rpm", "--root", str(root), "-qac").splitlines()
    edges = [edge.split(" OWNS ConfigFile/") for edge in told["edges"] if " OWNS " in edge]
    wanted = {path_of(ConfigFile, path) for path in listed if path.startswith("/etc/")}
    assert {f"ConfigFile/{path}" for _, path in edges} == wanted
    assert {start for start, _ in edges} == {"Software/dnf/web/noarch/"}
    assert len(wanted) == 2
    units = [edge for edge in told["edges"] if " PROVIDES " in edge]
    assert units == ["Software/dnf/web/noarch/ PROVIDES Service/systemd/web"]
    by_rpm = query(Commands(), str((root / DATABASE.lstrip("/")).parent), "-qa", "--queryformat", FORMAT)
    assert sorted(read_brought(by_rpm)) == sorted(brought(machine_of(root))) == [
        Brought("web", "noarch", "1:2.0-1", ["web"], ["/etc/web/it's odd", "/etc/web/web.conf"])
    ]  # fmt: skip


def test_the_stream_of_a_module_is_told_with_rpm_and_without_it(root: Path) -> None:
    told = graph("rpm", look_at(root, "rpm"))

    assert {one["key"]: one.get("stream") for one in told["nodes"]} == {
        "tool": "tools:1.x", "web": None, "kernel": None, "empty": None
    }  # fmt: skip
    by_rpm = ask_rpm(Commands(), str((root / DATABASE.lstrip("/")).parent))
    by_itself = read_sqlite(Files(root), DATABASE)
    assert {(p.name, p.stream) for p in by_rpm.packages} == {(p.name, p.stream) for p in by_itself.packages}


def test_files_are_read_again_only_when_the_database_changed(root: Path) -> None:
    first = look_at(root, "rpm")
    before = graph("rpm", first)["edges"]
    kept = first.marks["brought"]

    second = look_at(root, "rpm", marks=json.loads(json.dumps({**first.marks, "brought": [kept[0], []]})))
    assert "edges" not in graph("rpm", second)

    os.utime(root / DATABASE.lstrip("/"), (1, 1))
    third = look_at(root, "rpm", marks=json.loads(json.dumps(second.marks)))
    assert graph("rpm", third)["edges"] == before


async def test_a_service_in_the_store_is_provided_by_its_package(root: Path) -> None:
    store = Store(None)
    async with serving(store, root, *load()) as server:
        await server.runner.scan(["services", "configs", "rpm"])
        rows = store.read("SELECT type, start, end FROM _edges WHERE gone_at IS NULL ORDER BY type, end", ())
    found = [(row["type"], row["end"]) for row in rows if row["start"].startswith("Software/")]

    assert [one for one in found if one[0] == "PROVIDES"] == [
        ("PROVIDES", path_of(Service, "systemd", "web"))
    ]
    assert len([one for one in found if one[0] == "OWNS"]) == 2
    store.close()
