"""What query_packages answers: names, managers, history, pages, and the kinds of nothing."""

import json
import os
from typing import Any

import pytest

from tests.story import Story, busy_week, package
from watchman_mcp.errors import InvalidRequest
from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools.answers import MAX_BYTES, compact, size
from watchman_mcp.tools.packages import query_packages


def ask(store: Store, **arguments: Any) -> dict[str, Any]:
    return compact(query_packages(store, **arguments))


def names(answer: dict[str, Any]) -> list[str]:
    return [item["name"] for item in answer["items"]]


def changes(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(change["action"], change["name"]) for item in answer["items"] for change in item["changes"]]


# What is found


def test_a_package_of_an_exact_name_is_answered_whole(store: Store, story: Story) -> None:
    libc = package("libc6", "2.36-9")
    nginx = package(
        "nginx",
        "1.22.1-9",
        installed_at=story.ago(600),
        requested=True,
        size_bytes=3 << 20,
        summary="small web server",
        source_package="nginx",
    )
    story.look(60, [libc, nginx, package("nginx-common", "1.22.1-9")], needs=[("nginx", "libc6")])

    assert ask(store, name="nginx") == {
        "found": "yes",
        "host": "box",
        "observed_at": story.shown(60),
        "source": "package databases",
        "matched": "exact: nginx",
        "totals": {"items": 1, "apt": 1},
        "items": [
            {
                "name": "nginx",
                "version": "1.22.1-9",
                "manager": "apt",
                "architecture": "amd64",
                "installed_at": story.shown(600),
                "requested": True,
                "size_mb": 3.0,
                "summary": "small web server",
                "depends_on": ["libc6"],
                "history": [f"no update since {story.shown(600)}"],
            }
        ],
    }


def test_a_package_names_what_needs_it(store: Store, story: Story) -> None:
    story.look(60, [package("libc6"), package("a"), package("b")], needs=[("a", "libc6"), ("b", "libc6")])

    assert ask(store, name="libc6")["items"][0]["needed_by"] == ["a", "b"]


def test_an_exact_name_comes_before_a_part_and_a_part_before_nothing(store: Store, story: Story) -> None:
    story.look(60, [package("vim"), package("vim-tiny"), package("neovim"), package("nano")])

    assert names(ask(store, name="VIM")) == ["vim"]
    assert names(ask(store, name="vi")) == ["neovim", "vim", "vim-tiny"]
    assert ask(store, name="vi")["matched"] == "3 names like *vi*"


def test_a_name_with_capitals_is_found_however_it_is_written(store: Store, story: Story) -> None:
    story.look(60, [package("NetworkManager"), package("NetworkManager-wifi"), package("nano")])

    for word in ("NetworkManager", "networkmanager", "NETWORKMANAGER"):
        assert names(ask(store, name=word)) == ["NetworkManager"]
    assert names(ask(store, name="networkm")) == ["NetworkManager", "NetworkManager-wifi"]
    assert names(ask(store, name="networkmanager-*")) == ["NetworkManager-wifi"]
    assert ask(store, name="networkmanger")["note"] == "Nearest names: NetworkManager, NetworkManager-wifi"


def test_a_glob_is_taken_as_one(store: Store, story: Story) -> None:
    story.look(60, [package("vim"), package("vim-tiny"), package("neovim")])

    assert names(ask(store, name="vim*")) == ["vim", "vim-tiny"]
    assert names(ask(store, name="?im")) == ["vim"]


def test_a_python_name_is_found_however_it_is_written(store: Store, story: Story) -> None:
    story.look(60, [package("ruamel-yaml", manager="pip")], collector="python", scope="python:/venv")

    assert names(ask(store, name="Ruamel.YAML")) == names(ask(store, name="ruamel_yaml")) == ["ruamel-yaml"]


def test_a_name_that_was_never_seen_is_not_installed_and_the_nearest_are_named(
    store: Store, story: Story
) -> None:
    story.look(60, [package("nginx"), package("vim")])

    answer = ask(store, name="ngnix")

    assert (answer["found"], answer["items"], answer["note"]) == ("not_installed", [], "Nearest names: nginx")


def test_a_package_that_only_its_log_has_yet_may_be_on_its_way(store: Store, story: Story) -> None:
    story.look(60, [package("vim")], records=[story.event("package_install", "nginx", 60)])

    answer = ask(store, name="nginx")

    assert answer["found"] == "not_installed"
    assert "may just be going on" in answer["note"]


def test_a_removed_package_is_not_installed_and_was_there_before(store: Store, story: Story) -> None:
    story.look(120, [package("nginx"), package("vim")])
    story.look(60, [package("vim")], records=[story.event("package_remove", "nginx", 90)])

    answer = ask(store, name="nginx")

    assert (answer["found"], answer["note"]) == ("not_installed", "Not installed now; it was before.")
    assert answer["items"][0]["removed_at"] == story.shown(90)
    assert answer["items"][0]["history"][0].startswith(f"{story.shown(90)} remove 1.0")


def test_before_any_look_nothing_can_be_told(store: Store, story: Story) -> None:
    for arguments in ({}, {"name": "nginx"}, {"since": "7d"}, {"manager": "apt"}):
        assert ask(store, **arguments)["found"] == "cannot_tell", arguments


def test_a_collector_that_only_ever_failed_cannot_tell_and_says_why(
    store: Store, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    story.ran("apt", 5, "failed", error="/var/lib/dpkg/status may not be read by uid 1000")

    answer = ask(store, name="nginx")

    assert answer["found"] == "cannot_tell"
    assert answer["unobserved"] == [
        {
            "what": "apt",
            "why": "/var/lib/dpkg/status may not be read by uid 1000",
            "fix": "Run Watchman as a user who may read this, or as root: `sudo watchman-mcp serve`.",
        }
    ]


def test_no_package_of_a_watched_manager_is_none_and_of_an_unwatched_one_cannot_be_told(
    store: Store, story: Story
) -> None:
    story.look(60, [package("vim")])
    story.look(60, collector="python", scope="python:/venv")

    assert ask(store, manager="uv")["found"] == "none"
    assert ask(store, manager="brew")["found"] == "cannot_tell"
    assert ask(store, manager="brew")["note"] == "Packages here are of: apt"


def test_three_places_that_cannot_be_seen_are_named_and_the_rest_counted(store: Store, story: Story) -> None:
    story.look(60, [package("vim")], unobserved=[f"python:/root/{n}: permission denied" for n in range(5)])

    answer = ask(store, name="vim")

    assert [seen["what"] for seen in answer["unobserved"]] == [
        "python:/root/0",
        "python:/root/1",
        "python:/root/2",
    ]
    assert answer["unobserved_more"] == "2 more; doctor lists them"


# Managers


def test_python_means_every_python_manager_and_the_distribution_s_python_packages(
    store: Store, story: Story
) -> None:
    story.look(60, [package("python3-yaml"), package("vim")])
    story.look(
        60,
        [package("requests", manager="pip"), package("ruff", manager="uv")],
        collector="python",
        scope="python:/venv",
    )

    assert sorted(names(ask(store, manager="Python"))) == ["python3-yaml", "requests", "ruff"]
    assert ask(store, manager="python")["totals"] == {"items": 3, "apt": 1, "pip": 1, "uv": 1}


@pytest.mark.parametrize(
    ("word", "found"),
    [("PIP", "requests"), ("pip3", "requests"), ("dpkg", "vim"), ("apt-get", "vim"), (" apt ", "vim")],
)
def test_a_manager_is_known_by_its_other_names(store: Store, story: Story, word: str, found: str) -> None:
    story.look(60, [package("vim")])
    story.look(60, [package("requests", manager="pip")], collector="python", scope="python:/venv")

    assert names(ask(store, manager=word)) == [found]


# History


def test_changes_of_one_run_of_a_manager_are_one_transaction(store: Store, story: Story) -> None:
    run = {"transaction_id": "apt-1", "command": "apt-get install nginx", "by": "operator (1000)"}
    story.look(240, [package("vim")])
    story.look(
        60,
        [package("vim"), package("nginx"), package("nginx-common")],
        records=[story.event("package_install", name, 90, **run) for name in ("nginx", "nginx-common")],
    )

    answer = ask(store, since="3h", until=story.shown(0))

    assert answer == {
        "found": "yes",
        "host": "box",
        "observed_at": story.shown(60),
        "source": "package logs and databases",
        "window": {
            "since": answer["window"]["since"],
            "until": story.shown(0),
            "covered": f"package logs since {story.shown(90)}; watching since {story.shown(240)}",
        },
        "totals": {"items": 2, "install": 2, "apt": 2},
        "items": [
            {
                "ts": story.shown(90),
                "manager": "apt",
                "command": "apt-get install nginx",
                "by": "operator (1000)",
                "changes": [
                    {"action": "install", "name": "nginx-common", "version": "1.0"},
                    {"action": "install", "name": "nginx", "version": "1.0"},
                ],
            }
        ],
    }


def test_history_is_meant_when_a_time_or_an_action_is_given(store: Store, story: Story) -> None:
    story.look(240, [package("vim")])
    story.look(
        60, [package("vim", "2.0")], records=[story.event("package_update", "vim", 90, "2.0", previous="1.0")]
    )

    for arguments in ({"since": "1d"}, {"action": "update"}, {"view": "history"}):
        assert changes(ask(store, **arguments)) == [("update", "vim")], arguments
    assert names(ask(store, view="installed", since="1d")) == ["vim"]


def test_a_removal_covers_a_purge_and_an_installation_a_new_one(store: Store, story: Story) -> None:
    story.look(240, [package("a"), package("b"), package("c")])
    records = [
        story.event("package_remove", "a", 90),
        story.event("package_purge", "b", 89),
        story.event("package_reinstall", "c", 88),
    ]
    story.look(60, [package("c")], records=records)

    assert changes(ask(store, action="remove")) == [("purge", "b"), ("remove", "a")]
    assert changes(ask(store, action="install")) == [("reinstall", "c")]


def test_totals_count_every_page_by_action_and_by_manager(store: Store, story: Story) -> None:
    story.look(240, [])
    records = [story.event("package_install", f"p{n}", 100 - n) for n in range(5)]
    records += [
        story.event("package_remove", "old", 50),
        story.event("package_install", "wheel", 40, manager="pip", architecture=None),
    ]
    story.look(30, [package(f"p{n}") for n in range(5)], records=records)

    answer = ask(store, since="1d", limit=2)

    assert answer["totals"] == {"items": 7, "install": 6, "remove": 1, "apt": 6, "pip": 1}
    assert answer["cut"] == "2 of 7 changes; narrow with name, manager, action or since"


def test_a_package_that_was_never_updated_answers_with_its_installation(store: Store, story: Story) -> None:
    story.look(60, [package("docker-ce", installed_at=story.ago(6000))])

    answer = ask(store, name="docker-ce", action="update")

    assert (answer["found"], answer["items"]) == ("none", [])
    assert answer["note"] == f"docker-ce is installed (since {story.shown(6000)}); no update is known"


def test_a_package_that_only_its_files_date_is_part_of_the_history(store: Store, story: Story) -> None:
    story.look(
        60,
        [package("requests", manager="pip", location="/venv", installed_at=story.ago(300))],
        collector="python",
        scope="python:/venv",
    )

    answer = ask(store, since="1d")

    assert changes(answer) == [("install", "requests")]
    assert (answer["items"][0]["source"], answer["items"][0]["location"]) == ("files", "/venv")


def test_a_change_that_no_log_tells_says_between_which_looks_it_happened(store: Store, story: Story) -> None:
    story.look(240, [package("vim")])
    story.look(120, [package("vim", "2.0")])
    story.look(60, [package("vim", "2.0")])

    item = ask(store, since="1d")["items"][0]

    assert (item["source"], item["earliest"], item["ts"]) == ("observed", story.shown(240), story.shown(120))
    assert item["changes"] == [{"action": "update", "name": "vim", "version": "2.0", "previous": "1.0"}]


@pytest.mark.parametrize(
    ("since", "until", "found"),
    [
        ("24h", "", ["new"]),
        ("7d", "", ["new", "middle"]),
        ("7d", "2d", ["middle"]),
        ("this month", "", None),
        ("1000d", "30d", ["old"]),
        ("0d", "", []),
    ],
)
def test_times_are_taken_in_the_accepted_forms(
    store: Store, story: Story, since: str, until: str, found: list[str] | None
) -> None:
    story.look(60 * 24 * 100, [])
    records = [
        story.event("package_install", name, 60 * 24 * days)
        for name, days in (("old", 90), ("middle", 3), ("new", 0.5))
    ]
    story.look(60, [package(name) for name in ("old", "middle", "new")], records=records)

    answer = ask(store, since=since, until=until, view="history")

    assert found is None or [name for _, name in changes(answer)] == found


def test_a_time_that_is_none_is_refused_with_the_forms_that_are_accepted(store: Store, story: Story) -> None:
    with pytest.raises(InvalidRequest, match="'sometime' is not a time; accepted: .*yesterday 18:00"):
        ask(store, since="sometime")


# Pages and sizes


def walk(store: Store, between: Any = None, **arguments: Any) -> list[str]:
    """Every item over all pages; `between` runs once after the first page."""
    found: list[str] = []
    cursor = ""
    for _ in range(200):
        answer = ask(store, cursor=cursor, **arguments)
        found += (
            [change["name"] for item in answer["items"] for change in item["changes"]]
            if "since" in arguments
            else names(answer)
        )
        if not (cursor := answer.get("next_cursor", "")):
            assert "cut" not in answer
            return found
        assert answer["cut"]
        if between:
            between()
            between = None
    raise AssertionError("the pages do not end")


def test_pages_hold_every_package_once(store: Store, story: Story) -> None:
    story.look(60, [package(f"p{n:03}") for n in range(120)])

    assert walk(store, limit=7) == [f"p{n:03}" for n in range(120)]


def test_pages_of_history_stay_whole_while_new_events_arrive(store: Store, story: Story) -> None:
    story.look(600, [])
    there = [package(f"p{n:03}") for n in range(60)]
    records = [
        story.event("package_install", f"p{n:03}", 500 - n, transaction_id=f"t{n // 7}") for n in range(60)
    ]
    story.look(300, there, records=records)

    def meanwhile() -> None:
        story.look(5, [*there, package("late")], records=[story.event("package_install", "late", 6)])

    found = walk(store, meanwhile, since="1d", limit=7)

    assert sorted(found) == [f"p{n:03}" for n in range(60)]


@pytest.mark.parametrize("limit", [-5, 0, 1, 500, 10**9])
def test_a_limit_is_brought_within_bounds(store: Store, story: Story, limit: int) -> None:
    story.look(60, [package(f"p{n:04}") for n in range(700)])

    answer = ask(store, limit=limit)

    assert 1 <= len(answer["items"]) <= 500
    assert size(answer) <= MAX_BYTES


def test_a_cursor_of_another_tool_is_refused(store: Store, story: Story) -> None:
    story.look(60, [package("vim")])

    for cursor in ("x", "WzFd" * 30, "bnVsbA", "W10", "!!", "WzEsMl0"):
        with pytest.raises(InvalidRequest, match="pass next_cursor of the last answer unchanged"):
            ask(store, cursor=cursor)


def test_a_long_command_is_cut(store: Store, story: Story) -> None:
    story.look(240, [])
    story.look(
        60, [package("vim")], records=[story.event("package_install", "vim", 90, command="apt " + "x" * 3000)]
    )

    command = ask(store, since="1d")["items"][0]["command"]

    assert command.endswith("…")
    assert len(command) < 200


def test_a_busy_week_of_history_takes_at_most_125_bytes_a_change(store: Store) -> None:
    busy_week(store)

    answer = ask(store, since="7d")

    assert answer["totals"]["update"] == 40
    assert len(answer["items"]) == 10
    assert "cut" not in answer
    print(f"\na week of package history: {size(answer)} bytes")
    assert size(answer) <= 40 * 125


def test_long_texts_of_strangers_do_not_make_an_answer_too_long(store: Store, story: Story) -> None:
    long = "é" * 4000
    packages = [
        package(f"p{n}", long, location=long, summary=long, source_package=long, state=long) for n in range(3)
    ]
    story.look(240, [])
    records = [
        story.event(
            "package_install",
            f"p{n}",
            90,
            long,
            location=long,
            by=long,
            error=long,
            command=long,
            previous=long,
            transaction_id=f"t{n}",
        )
        for n in range(3)
    ]
    story.look(60, packages, records=records, unobserved=[f"{long}: {long}"] * 3)

    for arguments in ({}, {"name": "p1"}, {"since": "1d"}, {"name": "p9"}, {"name": "*"}):
        text = json.dumps(ask(store, **arguments), ensure_ascii=False, separators=(",", ":"))
        assert len(text.encode()) <= MAX_BYTES, arguments
