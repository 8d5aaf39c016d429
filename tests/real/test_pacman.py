"""Real pacman in a root of its own: every change is told once, soon, and as pacman itself tells it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.rigs.pacman import Package, Pacman
from tests.story import serving
from watchman_mcp.collectors import load
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.ownership import Owners
from watchman_mcp.server import Server
from watchman_mcp.store.sqlite import Store

pytestmark = [pytest.mark.real, pytest.mark.anyio]
PACMAN = [one for one in load() if one.name == "pacman"]
FORGED = """post_install() {
 echo "[2020-01-01T00:00:00+0000] [ALPM] installed rig-evil (6.6-6)"
 printf 'x\\r[2020-01-01T00:00:00+0000] [ALPM] installed rig-evil (6.6-6)\\n'
 echo "transaction failed"
 exit 3
}
post_upgrade() { post_install; }
"""
Events = list[tuple[str, str, str | None, str | None]]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Pacman]:
    yield Pacman(tmp_path)


@asynccontextmanager
async def watching(rig: Pacman) -> AsyncIterator[tuple[Store, Server]]:
    """A daemon that watches the root of a rig, and has seen it once."""
    store = Store(None)
    try:
        async with serving(store, rig.root, *PACMAN) as server:
            await server.runner.scan(["pacman"])
            yield store, server
    finally:
        store.close()


def rows(store: Store, sql: str) -> list[dict[str, Any]]:
    return [dict(row) for row in store.read(sql)]


def told(store: Store) -> Events:
    """All changes of packages, in their order."""
    found = rows(store, "SELECT * FROM Event WHERE type GLOB 'package_*' ORDER BY seq")
    return [(one["type"], one["subject"], one["previous"], one["version"]) for one in found]


async def settled(store: Store, rig: Pacman, events: Events) -> None:
    """Wait until exactly these changes are told and the packages are those that pacman lists."""
    with anyio.move_on_after(5):
        while told(store) != events or known(store) != rig.listing():
            await anyio.sleep(0.05)
    assert told(store) == events
    assert known(store) == rig.listing()


def install(name: str) -> tuple[str, str, str | None, str | None]:
    return "package_install", name, None, "1.0-1"


def known(store: Store) -> dict[str, str]:
    return {row["key"]: row["version"] for row in rows(store, "SELECT * FROM Software WHERE gone_at IS NULL")}


async def test_every_change_by_pacman_is_told_once_and_soon(rig: Pacman) -> None:
    lib, app = Package("rig-lib", "1.0-1", provides=["librig.so=1-64"]), Package("rig-app", "1.0-1")
    rig.offer(lib, Package("rig-app", "1.0-1", depends=["rig-lib>=1.0", "librig.so=1-64"], scriptlet=FORGED))
    old, new = (Package("rig-app", v, files={"etc/rig-app.conf": v}) for v in ("1:0.5-1", "1:0.6-1"))
    steps: list[tuple[tuple[str, ...] | Package, Events]] = [
        (("-Sy", "rig-app"), [install("rig-lib"), install("rig-app")]),
        (("-S", "rig-nothing"), []),
        (old, [("package_update", "rig-app", "1.0-1", "1:0.5-1")]),
        (new, [("package_update", "rig-app", "1:0.5-1", "1:0.6-1")]),
        (app, [("package_downgrade", "rig-app", "1:0.6-1", "1.0-1")]),
        (app, [("package_reinstall", "rig-app", "1.0-1", "1.0-1")]),
        (("-R", "rig-app"), [("package_remove", "rig-app", None, "1.0-1")]),
        (("-Rns", "rig-lib"), [("package_remove", "rig-lib", None, "1.0-1")]),
    ]
    expected: Events = []
    async with watching(rig) as (store, server):
        for step, events in steps:
            if isinstance(step, Package):
                rig.install(step)
            else:
                rig.run(*step, check=False)
            expected += events
            await settled(store, rig, expected)
            if step is old:
                (rig.root / "etc/rig-app.conf").write_text("changed by hand")
        for _ in range(2):  # what nothing explained would now be told as observed
            await server.runner.scan(["pacman"])
        answer = await server.answer(server.tools["query_packages"], {"name": "rig-app", "view": "history"})
        first = rows(store, "SELECT command, by FROM Event WHERE subject = 'rig-app' ORDER BY seq LIMIT 1")

        assert told(store) == expected
        assert first == [{"command": rig.command("-Sy", "rig-app"), "by": None}]
        assert answer["totals"]["pacman"] == 6
        kept = rows(store, "SELECT subject, package_name FROM Event WHERE type = 'config_pacnew'")
        assert kept == [{"subject": str(rig.root / "etc/rig-app.conf.pacnew"), "package_name": "rig-app"}]


async def test_the_packages_of_a_root_are_as_pacman_lists_them(rig: Pacman) -> None:
    rig.offer(
        Package("rig-lib", "2:1.0-1", provides=["rig-virtual=1.0"]),
        Package("rig-app", "1.0-1", depends=["rig-virtual>=1.0", "rig-tool"]),
        Package("rig-tool", "1.0_rc1-3"),
    )
    rig.run("-Sy", "rig-app")
    rig.run("-S", "--asdeps", "rig-tool")

    async with watching(rig) as (store, _):
        found = rows(store, "SELECT key, version, requested, size_bytes, summary FROM Software")
        edges = rows(store, "SELECT start, end FROM _edges WHERE gone_at IS NULL")

    assert {one["key"]: one["version"] for one in found} == rig.listing()
    assert {one["key"]: one["version"] for one in found if one["requested"]} == rig.listing("-e")
    assert {(one["size_bytes"], one["summary"]) for one in found} == {(4096, "package made for a test")}
    assert {(row["start"].split("/")[2], row["end"].split("/")[2]) for row in edges} == {
        ("rig-app", "rig-lib"),
        ("rig-app", "rig-tool"),
    }


async def test_a_log_that_was_there_before_tells_the_same_as_one_that_was_followed(rig: Pacman) -> None:
    async with watching(rig) as (followed, server):
        for number in range(3):
            rig.install(Package("rig-app", f"1.{number}-1"))
            await server.runner.scan(["pacman"])
        rig.run("-R", "rig-app")
        await server.runner.scan(["pacman"])
        live = told(followed)

    async with watching(rig) as (afterwards, _):
        assert told(afterwards) == live
    assert [kind for kind, *_ in live] == ["package_install", *["package_update"] * 2, "package_remove"]


async def test_newer_versions_are_those_that_pacman_lists(rig: Pacman) -> None:
    rig.configure(ignored="rig-ignored", more="[other]\nUsage = Sync Search Install\n")
    for package in ("rig-app", "rig-same", "rig-older", "rig-ignored", "rig-foreign", "rig-elsewhere"):
        rig.install(Package(package, "1.0-1"))
    async with watching(rig) as (store, server):
        assert rows(store, "SELECT * FROM PackageIndex WHERE gone_at IS NULL") == []
        long = "1." + "1" * 180 + "-1"  # more than an archive has room for in one header
        rig.offer(*[Package(f"rig-{name}", "0.9-1") for name in ("older", "elsewhere")])
        rig.offer(Package("rig-app", "1:0.5-1"), Package("rig-same", "1.0-1"), Package("rig-ignored", long))
        rig.offer(*[Package(f"rig-filler{n:03}", "2.0-1") for n in range(100)])
        rig.offer(Package("rig-elsewhere", "2.0-1"), repository="other")
        rig.run("-Sy")

        with anyio.move_on_after(5):
            while not rows(store, "SELECT * FROM Software WHERE available IS NOT NULL"):
                await anyio.sleep(0.05)

        sql = "SELECT name, version, available, held FROM Software WHERE available IS NOT NULL"
        found = {
            f"{row['name']} {row['version']} -> {row['available']}": row["held"] for row in rows(store, sql)
        }
        # One from where no upgrades may come is listed too, but would not be installed.
        lines = [line for line in rig.run("-Qu").splitlines() if not line.startswith("rig-elsewhere")]
        assert found == {line.removesuffix(" [ignored]"): line.endswith(" [ignored]") for line in lines}
        assert set(found) == {"rig-app 1.0-1 -> 1:0.5-1", f"rig-ignored 1.0-1 -> {long}"}
        (index,) = rows(store, "SELECT * FROM PackageIndex WHERE gone_at IS NULL")
        database = rig.root / "var/lib/pacman/sync"
        fetched = datetime.fromtimestamp(database.stat().st_mtime, UTC)
        assert abs(datetime.fromisoformat(index["refreshed_at"]) - fetched) < timedelta(seconds=1)

        rig.run("-Su")
        await server.runner.scan(["pacman"])
        assert [row["name"] for row in rows(store, sql)] == ["rig-ignored"]


async def test_who_owns_a_file_is_as_pacman_tells_it(rig: Pacman) -> None:
    config = {"etc/rig.conf": "x", "usr/lib/systemd/system/rig.service": "[Install]\nWantedBy=x\n"}
    rig.install(Package("rig-App", "1.0-1", files=config))
    rig.install(
        Package("rig-app-data", "1.0-1", files={"usr/share/a b\t%BACKUP%": "", "etc/rig.conf.d/x": ""})
    )
    (rig.root / "etc/nobody").write_text("")
    (rig.root / "etc/link").symlink_to("rig.conf")
    owners = PACMAN[0].owner
    assert owners is not None
    machine = Machine(Files(rig.root), Commands(), rig.root)
    paths = [path for path in rig.root.rglob("*") if path.is_file() and "var" not in path.parts]

    for path in paths:
        here = f"/{path.relative_to(rig.root)}"
        told = Owners(machine, PACMAN)(here).owners.get("pacman", [])
        assert [one.key for one in told] == [name.lower() for name in rig.owners(path.resolve())], here


async def test_what_packages_bring_is_what_pacman_lists(rig: Pacman) -> None:
    unit = {"usr/lib/systemd/system/rig.service": "[Install]\nWantedBy=x\n", "etc/rig.conf": "", "usr/x": ""}
    rig.install(Package("rig-app", "1.0-1", files=unit))
    wanted = [one for one in load() if one.name in ("pacman", "services", "configs")]
    store = Store(None)
    async with serving(store, rig.root, *wanted) as server:
        for _ in range(2):
            await server.runner.scan(["services", "configs", "pacman"])
    found = rows(store, "SELECT type, end FROM _edges WHERE gone_at IS NULL AND type <> 'DEPENDS_ON'")
    configs = [row["path"] for row in rows(store, "SELECT * FROM ConfigFile")]
    store.close()

    _, _, backups = rig.run("-Qii", "rig-app").partition("Backup Files")
    lines = rig.run("-Ql", "rig-app").splitlines()
    units = [line for line in lines if "/systemd/system/" in line and line.endswith(".service")]
    kept = [word.removeprefix(str(rig.root)) for word in backups.split() if word.startswith("/")]
    assert (len(units), kept) == (1, ["/etc/rig.conf"]) and "/etc/rig.conf" in configs
    assert {(row["type"], row["end"].split("/", 1)[1]) for row in found} == {
        ("PROVIDES", "systemd/rig"),
        ("OWNS", "%2Fetc%2Frig.conf"),
    }
