"""What becomes of snaps, look by look; state.json as snapd's change.go, task.go and snapstate write it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.collectors.test_cases import look_at, plant
from tests.story import serving
from watchman_mcp.collectors import load, snap
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.snap import DONE, read_meta, read_state
from watchman_mcp.machine.versions.snap import compare
from watchman_mcp.ownership import Owners
from watchman_mcp.schema.packages import Software
from watchman_mcp.store.sqlite import Store

FULL = os.environ.get("WATCHMAN_TEST_SOAK") == "full"


def state(current: str | None, *links: tuple[str, str, str]) -> dict[str, str | None]:
    """snapd's state with one snap, and finished changes: the kind of task, its revision, the one before."""
    changes, tasks = {}, {}
    for number, (kind, revision, before) in enumerate(links):
        change = "remove-snap" if kind == "unlink-snap" else "refresh-snap"
        begun = f"2026-01-0{number + 1}T10:00:00.5Z"
        changes[str(number)] = {"kind": change, "task-ids": [str(number)], "spawn-time": begun}
        setup = {"side-info": {"name": "hello", "revision": revision}}
        tasks[str(number)] = {
            "kind": kind,
            "status": DONE,
            "ready-time": begun,
            "data": {"snap-setup": setup},
        }
        tasks[str(number)]["data"] |= {"old-current": before}
    snaps = {"hello": {"type": "app", "current": current, "active": True}} if current else {}
    text = json.dumps({"data": {"snaps": snaps}, "changes": changes, "tasks": tasks})
    metas = {f"/snap/hello/{n}/meta/snap.yaml": f"version: '2.{n}'\n" for n in (1, 2)}
    return {snap.STATE: text, **metas}


@pytest.mark.anyio
async def test_each_change_of_snapd_is_told_once_though_its_state_is_read_again_and_again(
    tmp_path: Path,
) -> None:
    store = Store(None)
    steps = [
        ("link-snap", "1", "unset"),
        ("link-snap", "2", "1"),
        ("link-snap", "1", "2"),
        ("unlink-snap", "1", ""),
    ]
    plant(tmp_path, state(None))
    async with serving(store, tmp_path, *[one for one in load() if one.name == "snap"]) as server:
        await server.runner.scan(["snap"])
        for count, current in enumerate(("1", "2", "1", None), 1):
            plant(tmp_path, state(current, *steps[:count]))
            for _ in range(2):  # what nothing explained would be told by the second look
                await server.runner.scan(["snap"])
        rows = store.read("SELECT type, previous, version, source, ts FROM Event ORDER BY seq")

    assert [tuple(row) for row in rows] == [
        ("package_install", None, "2.1 (1)", "snap", "2026-01-01T10:00:00.000000Z"),
        ("package_update", "2.1 (1)", "2.2 (2)", "snap", "2026-01-02T10:00:00.000000Z"),
        ("package_downgrade", "2.2 (2)", "2.1 (1)", "snap", "2026-01-03T10:00:00.000000Z"),
        ("package_remove", None, "2.1 (1)", "snap", "2026-01-04T10:00:00.000000Z"),
    ]
    store.close()


WORDS = st.sampled_from(
    [
        "data",
        "snaps",
        "current",
        "type",
        "active",
        "snaps-hold",
        "system",
        "changes",
        "tasks",
        "task-ids",
        "1",
        "2",
    ]
    + ["kind", "status", "spawn-time", "ready-time", "snap-setup", "side-info", "name", "revision", "log"]
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10) | st.text(max_size=5) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
)


def held(**data: object) -> tuple[list[bool | None], str]:
    """Whether snapd's state says that its two snaps are held, and the day on which it asked its store."""
    snaps = {"a": {"current": "1"}, "b": {"current": "2"}}
    found = read_state(json.dumps({"data": {"snaps": snaps, **data}}), "state.json")
    return [snap.held for snap in found.snaps], str(found.refreshed_at)[:10]


def test_a_hold_that_was_over_when_snapd_last_asked_is_none() -> None:
    ends = {"a": "2024-05-01T00:00:00Z", "b": "2314-01-01T00:00:00Z"}
    holds = {name: {"system": {"hold-until": at}} for name, at in ends.items()}

    for day, expected in (("2024-04-20", [True, True]), ("2024-05-02", [False, True])):
        assert held(**{"snaps-hold": holds, "last-refresh": f"{day}T10:00:00Z"}) == (expected, day)


def test_all_snaps_may_be_held_and_snapd_asks_its_store_all_the_same() -> None:
    config = {"core": {"refresh": {"hold": "forever"}}}
    times = {"last-refresh": "2024-01-01T10:00:00Z", "last-refresh-hints": "2024-06-01T10:00:00Z"}

    assert held(config=config, **times) == ([True, True], "2024-06-01")
    assert held(**{"last-refresh-hints": "2024-06-01T10:00:00Z"}) == ([False, False], "None")


def test_fields_of_a_snap_may_be_written_in_each_way_of_yaml() -> None:
    lines = (
        "name: tool # short",
        'version: "1.10"',
        "summary: 'One''s own",
        "  tool #1'",
        "title: >-",
        "  A",
    )
    told = {"name": "tool", "version": "1.10", "summary": "One's own tool #1", "title": "A"}

    assert read_meta("\n".join([*lines, "description: |", "  name: other"])) == told


def test_a_snap_that_others_use_and_nobody_runs_may_have_come_with_them(tmp_path: Path) -> None:
    snaps = {name: {"current": "7", "type": "app", "active": True} for name in ("themes", "editor")}
    plant(
        tmp_path,
        {
            "/var/lib/snapd/state.json": json.dumps({"data": {"snaps": snaps}}),
            "/snap/themes/7/meta/snap.yaml": "name: themes\nslots:\n  x:\n    interface: content\n",
            "/snap/editor/7/meta/snap.yaml": "name: editor\nversion: 1\napps:\n  editor:\n    command: e\n",
        },
    )

    found = [seen for seen in snap.collect(look_at(tmp_path, "snap")) if isinstance(seen, Software)]

    assert {one.key: one.requested for one in found} == {"themes": None, "editor": True}


def test_versions_of_snaps_are_sorted_by_their_revisions() -> None:
    assert compare("2.1 (9)", "1.0 (10)") == -1
    assert compare("(x2)", "7 (x1)") == 1
    assert compare("a (3)", "b (3)") == 0
    for other in ("1.0 (x1)", "1.0", "1.0 (0x1)"):
        with pytest.raises(ValueError, match="later"):
            compare("1.0 (1)", other)


def test_a_file_belongs_to_the_snap_whose_revision_or_unit_it_is(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "/snap/hello/41/bin/x": "",
            "/snap/hello/40/bin/x": "",
            "/snap/broken/1/bin/x": "",
            "/snap/bin/1/x": "",
            "/etc/systemd/system/snap.hello.daemon.service": "",
            "/etc/systemd/system/snap.none.daemon.service": "",
            "/etc/systemd/system/snap-hello-41.mount": "",
        },
        {"/snap/hello/current": "41"},
    )
    (collector,) = (one for one in load() if one.name == "snap")
    owners = Owners(Machine(Files(tmp_path), Commands(), tmp_path), [collector])

    found = {
        path: [one.key for one in owners(path).owners.get("snap", [])]
        for path in (
            "/snap/hello/current/bin/x",
            "/snap/hello/40/bin/x",
            "/snap/hello/41/bin/none",
            "/snap/broken/1/bin/x",
            "/snap/bin/1/x",
            "/etc/systemd/system/snap.hello.daemon.service",
            "/etc/systemd/system/snap.none.daemon.service",
            "/etc/systemd/system/snap-hello-41.mount",
        )
    }

    assert {path: keys for path, keys in found.items() if keys} == {
        "/snap/hello/current/bin/x": ["hello"],
        "/snap/hello/40/bin/x": ["hello"],
        "/etc/systemd/system/snap.hello.daemon.service": ["hello"],
    }
