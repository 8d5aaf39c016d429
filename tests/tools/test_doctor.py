"""What doctor and scan answer: what can and cannot be seen, why, and looking again."""

import os
from collections.abc import Iterable
from typing import Any

import pytest

from tests.story import Story, about, package
from watchman_mcp.errors import InvalidRequest
from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools.answers import ALLOW, ALLOW_ROOT, MAX_BYTES, compact, size
from watchman_mcp.tools.doctor import areas_of, doctor, scan

pytestmark = pytest.mark.anyio


def ask(store: Store, area: str = "", **known: Any) -> dict[str, Any]:
    return compact(doctor(store, about(**known), area))


@pytest.mark.parametrize(("uid", "fix"), [(1000, ALLOW), (0, ALLOW_ROOT)])
def test_a_collector_is_told_with_its_freshness_and_what_it_cannot_see(
    store: Store, story: Story, monkeypatch: pytest.MonkeyPatch, uid: int, fix: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    story.look(30, [package("vim")], unobserved=["/var/log/apt/term.log: may not be read by uid 1000"])

    assert ask(store, "apt")["items"] == [
        {
            "area": "apt",
            "status": "partial",
            "since": story.shown(30),
            "last_look": story.shown(30),
            "took_ms": 12.5,
            "rows": 3,
            "cannot_see": ["/var/log/apt/term.log: may not be read by uid 1000"],
            "fix": fix,
        }
    ]


def test_a_collector_that_failed_says_why(store: Store, story: Story) -> None:
    story.ran("apt", 1, "failed", error="/var/lib/dpkg/status: half a record")

    [check] = ask(store, "packages")["items"]

    assert (check["area"], check["status"], check["why"]) == (
        "apt",
        "failed",
        "/var/lib/dpkg/status: half a record",
    )


def test_the_newest_way_it_fares_is_told_not_an_older_one(store: Store, story: Story) -> None:
    story.ran("apt", 60, "failed", error="busy")
    story.ran("apt", 5, "ok")

    assert [(check["status"], check["since"]) for check in ask(store, "apt")["items"]] == [
        ("ok", story.shown(5))
    ]


def test_without_an_area_daemon_store_and_every_collector_are_told(store: Store, story: Story) -> None:
    story.look(30, [package("vim")])
    store.notes.append("Kept in memory only: the state directory cannot be written.")

    answer = ask(store, work=lambda: ["apt: looking"])

    assert [check["area"] for check in answer["items"]] == ["apt", "host"]
    assert answer["daemon"]["rights"] == "uid 1000; files that only root may read are not seen"
    assert (answer["daemon"]["clients"], answer["daemon"]["config"]) == (2, "none: defaults")
    assert answer["storage"]["rows_Software"] == 1
    assert answer["storage"]["database"].endswith("watchman.db")
    assert answer["problems"] == ["Kept in memory only: the state directory cannot be written."]
    assert answer["work"] == ["apt: looking"]


@pytest.mark.parametrize(
    ("area", "shown"),
    [("work", {"work"}), ("store", {"work", "storage"}), ("daemon", {"work", "daemon"}), ("host", {"work"})],
)
def test_an_area_narrows_to_its_part(store: Store, story: Story, area: str, shown: set[str]) -> None:
    answer = ask(store, area, work=lambda: ["apt: looking"])

    assert answer.keys() & {"work", "storage", "daemon"} == shown
    assert bool(answer["items"]) == (area == "host")


@pytest.mark.parametrize(
    ("area", "names"),
    [
        ("", ["apt", "host", "python", "resources"]),
        ("ALL", ["apt", "host", "python", "resources"]),
        (" Apt ", ["apt"]),
        ("packages", ["apt", "python"]),
        ("load", ["resources"]),
    ],
)
def test_an_area_is_known_by_people_s_words(area: str, names: list[str]) -> None:
    assert areas_of(area, about()) == names


def test_an_unknown_area_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(
        InvalidRequest, match=r"area 'firewall' is not known; areas: apt, daemon, disks, host"
    ):
        areas_of("Firewall", about())


def test_many_places_that_cannot_be_seen_stay_within_the_bound(store: Store, story: Story) -> None:
    for collector in ("apt", "python", "resources"):
        unseen = [f"{collector}:/{n}{'é' * 3000}: permission denied" for n in range(300)]
        story.ran(collector, 1, unobserved=unseen)

    answer = ask(store)

    assert answer["items"][0]["cannot_see"][-1] == "and 280 more"
    assert size(answer) <= MAX_BYTES


async def test_a_scan_looks_again_at_what_it_is_asked_for_and_tells_what_came_of_it(
    store: Store, story: Story
) -> None:
    looked: list[str] = []

    async def look(names: Iterable[str]) -> None:
        looked.extend(names)
        story.look(0, [package("vim")])
        story.ran("python", 0, "unavailable", error="no Python here")

    answer = compact(await scan(store, about(), look, "packages"))

    assert looked == ["apt", "python"]
    assert answer["looked"] == {"apt": "ok, 3 rows in 12 ms", "python": "unavailable, 3 rows in 12 ms"}


async def test_a_scan_of_an_unknown_area_looks_at_nothing(store: Store) -> None:
    async def look(_names: Iterable[str]) -> None:
        raise AssertionError("nothing was to be looked at")

    with pytest.raises(InvalidRequest, match="areas: "):
        await scan(store, about(), look, "moon")
