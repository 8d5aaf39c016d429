"""Real flatpak in a root of its own: what it deploys is told as it tells it, and each change once."""

from pathlib import Path

import anyio
import pytest

from tests.rigs.flatpak import APP, PLATFORM, Flatpak
from tests.story import serving
from watchman_mcp.collectors import load
from watchman_mcp.store.sqlite import Store

pytestmark = [pytest.mark.real, pytest.mark.anyio]


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

    async with serving(store, rig.root, *[one for one in load() if one.name == "flatpak"]) as server:
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
