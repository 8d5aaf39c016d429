"""Real flatpak in a root of its own: what it deploys is told as it tells it, and each change once."""

from pathlib import Path

import anyio
import pytest

from tests.rigs.flatpak import APP, PLATFORM, Flatpak
from tests.story import serving
from watchman_mcp.collectors import load
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.ownership import Owners
from watchman_mcp.store.sqlite import Store

pytestmark = [pytest.mark.real, pytest.mark.anyio]
FLATPAK = [one for one in load() if one.name == "flatpak"]


async def test_every_change_by_flatpak_is_told_once(tmp_path: Path) -> None:
    rig, store = Flatpak(tmp_path), Store(None)
    first = rig.offer(APP, "stable", "1.0")
    options = ("--noninteractive", "--assumeyes")
    told: list[tuple[str, str]] = []

    def events() -> list[tuple[str, str]]:
        rows = store.read("SELECT type, subject FROM Event WHERE type GLOB 'package_*' ORDER BY seq")
        return [(row["type"], row["subject"]) for row in rows]

    def known() -> set[tuple[str, ...]]:
        rows = store.read("SELECT * FROM Software WHERE gone_at IS NULL")
        return {
            (
                "/".join(row["location"].split("/")[-3:]),
                row["version"].strip("()"),
                row["source_package"].partition("/")[0],
            )
            for row in rows
        }

    async with serving(store, rig.root, *FLATPAK) as server:
        await server.runner.scan(["flatpak"])
        rig.run("install", *options, "rig", PLATFORM)
        await server.runner.scan(["flatpak"])
        for words, kind in (
            (("install", *options, "rig", APP), "package_install"),
            (("update", *options, APP), "package_update"),
            (("update", *options, f"--commit={first}", APP), "package_downgrade"),
            (("uninstall", *options, APP), "package_remove"),
        ):
            if kind == "package_update":
                rig.offer(APP, "stable", "2.0")
            rig.run(*words)
            told.append((kind, APP.lower()))
            with anyio.move_on_after(10):
                while events()[1:] != told or known() != rig.listing():
                    await anyio.sleep(0.05)
            assert events() == [("package_install", PLATFORM.lower()), *told]
            assert known() == rig.listing()
        for _ in range(2):
            await server.runner.scan(["flatpak"])

    assert events() == [("package_install", PLATFORM.lower()), *told]
    edges = store.read("SELECT start, end FROM _edges")
    assert [(row["start"].split("/")[2], row["end"].split("/")[2]) for row in edges] == [
        (APP.lower(), PLATFORM.lower())
    ]
    store.close()


async def test_newer_builds_are_those_that_flatpak_lists(tmp_path: Path) -> None:
    rig, store = Flatpak(tmp_path), Store(None)
    rig.offer(APP, "stable", "1.0")
    for number in range(20):  # so many that the list needs wider places
        rig.offer(f"{APP}{number}", "stable", f"{number}")

    def offered() -> set[tuple[str, ...]]:
        sql = "SELECT * FROM Software WHERE gone_at IS NULL AND available IS NOT NULL"
        return {
            (
                "/".join(row["location"].split("/")[-4:]),
                row["available"].strip("()"),
                row["available_from"],
            )
            for row in store.read(sql)
        }

    with rig.served() as asked:
        async with serving(store, rig.root, *FLATPAK) as server:
            await server.runner.scan(["flatpak"])
            assert not store.read("SELECT * FROM PackageIndex")
            rig.run("install", "--noninteractive", "--assumeyes", "rig", APP)
            commit = rig.offer(APP, "stable", "2.0")
            await server.runner.scan(["flatpak"])
            assert offered() == rig.updates() == set()
            rig.run("remote-ls", "--updates")
            requests = len(asked)
            with anyio.move_on_after(10):
                while not offered():
                    await anyio.sleep(0.05)

            assert offered() == rig.updates() == {(f"app/{APP}/{rig.arch}/stable", commit[:12], "rig")}
            (index,) = store.read("SELECT * FROM PackageIndex WHERE gone_at IS NULL")
            assert (index["location"], bool(index["refreshed_at"])) == ("/var/lib/flatpak", True)
            streams = store.read("SELECT stream FROM Software WHERE name = ?", (APP,))
            assert [row["stream"] for row in streams] == ["stable"]
            assert len(asked) == requests
            rig.run("update", "--noninteractive", "--assumeyes", APP)
            rig.run("remote-ls", "--updates")  # an update may leave no list behind
            await server.runner.scan(["flatpak"])
            assert offered() == rig.updates() == set()
    store.close()


async def test_who_owns_a_deployed_file_is_told(tmp_path: Path) -> None:
    rig = Flatpak(tmp_path)
    rig.offer(APP, "stable", "1.0")
    rig.run("install", "--noninteractive", "--assumeyes", "rig", APP)
    owners = Owners(Machine(Files(rig.root), Commands(), rig.root), FLATPAK)
    app = f"/var/lib/flatpak/app/{APP}/{rig.arch}/stable"

    found = {
        path: [(one.key, one.location) for one in owners(f"{app}/{path}").owners.get("flatpak", [])]
        for path in ("active/files/bin/program", "active/files/bin/none", "active")
    }
    elsewhere = owners("/var/lib/flatpak/repo/config").owners

    assert found.pop("active/files/bin/program") == [(APP.lower(), app)]
    assert not any(found.values()) and not elsewhere
