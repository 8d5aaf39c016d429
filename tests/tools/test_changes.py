"""What what_changed answers: events, states of the past, differences, and likely causes."""

from pathlib import Path
from typing import Any, get_args

import pytest

from tests.story import Story, busy_week, package
from watchman_mcp.errors import InvalidRequest
from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools.answers import MAX_BYTES, compact, size
from watchman_mcp.tools.changes import what_changed
from watchman_mcp.tools.changes.source import Kind


@pytest.fixture
def story(store: Store) -> Story:
    """Vim is updated, nano removed and nginx with libc6 installed: one run of the manager after the other."""
    told = Story(store)
    told.host(1440)
    told.look(1440, [package("vim"), package("nano"), package("libc6")])
    told.look(
        600,
        [package("vim", "2.0"), package("nano"), package("libc6")],
        records=[told.event("package_update", "vim", 605, "2.0", previous="1.0")],
    )
    told.look(
        300, [package("vim", "2.0"), package("libc6")], records=[told.event("package_remove", "nano", 305)]
    )
    run = {"transaction_id": "t1", "command": "apt-get install nginx", "by": "operator (1000)"}
    told.look(
        60,
        [package("vim", "2.0"), package("nginx", "1.22"), package("libc6", "1.1")],
        records=[
            told.event("package_install", "nginx", 65, "1.22", **run),
            told.event("package_update", "libc6", 65, "1.1", previous="1.0", **run),
        ],
        needs=[("nginx", "libc6")],
    )
    return told


def ask(store: Store, **arguments: Any) -> dict[str, Any]:
    return compact(what_changed(store, **arguments))


def lines(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(item["type"], item["subject"]) for item in answer["items"]]


# Events


def test_changes_are_the_last_day_s_unless_a_time_is_given(store: Store, story: Story) -> None:
    story.look(30, [], records=[story.event("package_remove", "ancient", 60 * 30)])

    assert "ancient" not in [subject for _, subject in lines(ask(store))]
    assert "ancient" in [subject for _, subject in lines(ask(store, since="7d"))]


def test_changes_are_told_newest_first_and_by_whom(store: Store, story: Story) -> None:
    assert ask(store, since=story.shown(720), until=story.shown(0)) == {
        "found": "yes",
        "host": "box",
        "observed_at": story.shown(60),
        "source": "the machine's logs, and comparing looks",
        "window": {
            "since": story.shown(720),
            "until": story.shown(0),
            "covered": f"watching since {story.shown(1440)}",
        },
        "totals": {"items": 4, "package_update": 2, "package_install": 1, "package_remove": 1},
        "items": [
            {
                "ts": story.shown(65),
                "type": "package_install",
                "subject": "nginx",
                "what": "1.22",
                "by": "operator (1000)",
                "command": "apt-get install nginx",
                "source": "apt",
            },
            {
                "ts": story.shown(65),
                "type": "package_update",
                "subject": "libc6",
                "what": "1.0 -> 1.1",
                "by": "operator (1000)",
                "command": "apt-get install nginx",
                "source": "apt",
            },
            {
                "ts": story.shown(305),
                "type": "package_remove",
                "subject": "nano",
                "what": "1.0",
                "source": "apt",
            },
            {
                "ts": story.shown(605),
                "type": "package_update",
                "subject": "vim",
                "what": "1.0 -> 2.0",
                "source": "apt",
            },
        ],
    }


def test_many_alike_changes_of_one_run_are_one_line_with_a_count(store: Store, story: Story) -> None:
    records = [story.event("package_install", f"font-{n:02}", 20, transaction_id="t2") for n in range(12)]
    story.look(10, [package("vim", "2.0")], records=records)

    item = ask(store, since="30m")["items"][0]

    assert item["count"] == 12
    assert (
        item["subject"] == "font-00, font-01, font-02, font-03, font-04, font-05, font-06, font-07 and 4 more"
    )


@pytest.mark.parametrize(
    ("subject", "found"), [("vim", ["vim"]), ("VIM", ["vim"]), (" vim ", ["vim"]), ("*n*", ["nginx", "nano"])]
)
def test_a_subject_narrows_to_one_thing_or_a_glob(
    store: Store, story: Story, subject: str, found: list[str]
) -> None:
    assert [name for _, name in lines(ask(store, subject=subject))] == found


def test_a_kind_narrows_to_a_domain(store: Store, story: Story) -> None:
    story.host(20, kernel="6.1.0-14-amd64")
    story.host(10, kernel="6.1.0-14-amd64")

    assert {kind.split("_")[0] for kind, _ in lines(ask(store, kind="package"))} == {"package"}
    assert lines(ask(store, kind="host")) == [("host_changed", "box")]


def test_a_thing_that_did_not_change_is_another_answer_than_an_unknown_one(
    store: Store, story: Story
) -> None:
    known, unknown = ask(store, subject="libc6", since="30m"), ask(store, subject="ngnix")

    assert (known["found"], known["note"]) == ("none", "libc6 did not change in this time")
    assert (unknown["found"], unknown["note"]) == (
        "none",
        "Nothing of this name is known. Nearest names: nginx",
    )


def test_nothing_changed_is_another_answer_than_nothing_was_watched(
    store: Store, story: Story, tmp_path: Path
) -> None:
    blind = Store(None)

    assert ask(store, since="10m")["found"] == "none"
    assert ask(blind)["found"] == "cannot_tell"
    blind.close()


def test_pages_hold_every_change_once_while_new_ones_arrive(store: Store, story: Story) -> None:
    there = [package("vim", "2.0"), package("nginx", "1.22"), package("libc6", "1.1")]
    records = [story.event("package_install", f"p{n:02}", 50 - n, transaction_id=f"t{n}") for n in range(30)]
    story.look(20, there, records=records)
    found: list[str] = []
    cursor = ""
    for page in range(40):
        answer = ask(store, since="55m", limit=4, cursor=cursor)
        found += [subject for _, subject in lines(answer)]
        if not (cursor := answer.get("next_cursor", "")):
            break
        assert answer["cut"].endswith("narrow with kind, subject or since")
        assert answer["totals"]["items"] == 30
        if page == 1:
            story.look(
                3,
                there,
                records=[
                    story.event("package_install", f"late{n}", 5 - n, transaction_id=f"l{n}")
                    for n in range(3)
                ],
            )

    assert sorted(found) == [f"p{n:02}" for n in range(30)]


# States of the past


def test_a_thing_is_told_as_it_was_at_a_time_with_the_looks_around_it(store: Store, story: Story) -> None:
    answer = ask(store, subject="vim", at=story.shown(700))

    assert (answer["found"], answer["source"], answer["totals"]) == (
        "yes",
        "the journal of changes",
        {"items": 1},
    )
    state = answer["items"][0]
    assert (state["label"], state["name"], state["values"]["version"]) == ("Software", "vim", "1.0")
    assert (state["seen_at"], state["next_look"]) == (story.shown(1440), story.shown(600))


def test_the_state_is_that_of_the_last_look_not_after_the_time(store: Store, story: Story) -> None:
    versions = [
        ask(store, subject="vim", at=story.shown(minutes))["items"][0]["values"]["version"]
        for minutes in (1440, 601, 600, 1)
    ]

    assert versions == ["1.0", "1.0", "2.0", "2.0"]


def test_a_thing_that_was_not_there_then_is_not_installed_and_one_gone_since_was(
    store: Store, story: Story
) -> None:
    assert ask(store, subject="nginx", at=story.shown(700))["found"] == "not_installed"
    assert ask(store, subject="nano", at=story.shown(700))["found"] == "yes"
    assert ask(store, subject="nano", at=story.shown(200))["found"] == "not_installed"


def test_dependencies_are_those_of_that_time(store: Store, story: Story) -> None:
    assert ask(store, subject="nginx", at=story.shown(30))["items"][0]["depends_on"] == ["libc6"]
    assert "depends_on" not in ask(store, subject="vim", at=story.shown(30))["items"][0]


def test_the_time_before_the_first_look_is_not_known(store: Store, story: Story) -> None:
    answer = ask(store, at=story.shown(5000))

    assert (answer["found"], answer["items"]) == ("cannot_tell", [])
    assert answer["note"].startswith("Not known: the first look was later than this")


def test_everything_at_a_time_is_listed_short_and_in_pages(store: Store, story: Story) -> None:
    answer = ask(store, at=story.shown(30), limit=2)

    assert [item["name"] for item in answer["items"]] == ["box", "libc6"]
    assert (answer["totals"], answer["cut"]) == ({"items": 4}, "2 of 4; narrow with subject")
    rest = ask(store, at=story.shown(30), limit=2, cursor=answer["next_cursor"])
    assert [item["name"] for item in rest["items"]] == ["nginx", "vim"]
    assert "cut" not in rest


# Differences


def test_the_net_difference_leaves_out_what_came_and_went(store: Store, story: Story) -> None:
    story.look(
        40, [package("vim", "2.0"), package("nginx", "1.22"), package("libc6", "1.1"), package("brief")]
    )
    story.look(20, [package("vim", "2.0"), package("nginx", "1.22"), package("libc6", "1.1")])

    answer = ask(store, net=True, since=story.shown(700), until=story.shown(0))

    assert answer["items"] == [
        {"name": "libc6", "was": "version 1.0", "is": "version 1.1"},
        {"name": "nano", "was": "1.0", "is": "not there"},
        {"name": "nginx", "was": "not there", "is": "1.22"},
        {"name": "vim", "was": "version 1.0", "is": "version 2.0"},
    ]
    assert ask(store, net=True, since=story.shown(700), subject="Vim")["totals"] == {"items": 1}
    assert ask(store, net=True, since="10m")["found"] == "none"


def test_the_net_difference_to_a_time_before_the_first_look_is_not_known(store: Store, story: Story) -> None:
    answer = ask(store, net=True, since="90d")

    assert answer["found"] == "cannot_tell"
    assert answer["note"].startswith("Not known: nothing was watched at the beginning of this time")


# Causes


def test_causes_of_a_symptom_begin_with_the_thing_itself_and_what_it_needs(
    store: Store, story: Story
) -> None:
    story.look(
        50,
        [package("vim", "3.0"), package("nginx", "1.22"), package("libc6", "1.1")],
        needs=[("nginx", "libc6")],
        records=[
            story.event("package_update", "vim", 55, "3.0", previous="2.0"),
        ],
    )

    answer = ask(store, before=story.shown(45), subject="nginx")

    assert lines(answer)[:3] == [
        ("package_install", "nginx"),
        ("package_update", "libc6"),
        ("package_update", "vim"),
    ]
    assert [item["lead"] for item in answer["items"][:3]] == [
        "20 min before; concerns the subject",
        "20 min before; concerns the subject",
        "10 min before",
    ]
    assert answer["note"].endswith("being earlier does not make it the cause")


def test_without_changes_before_a_symptom_there_is_no_cause(store: Store, story: Story) -> None:
    answer = ask(store, before=story.shown(1300))

    assert (answer["found"], answer["items"]) == ("none", [])


@pytest.mark.parametrize("argument", ["at", "before"])
def test_a_moment_that_is_none_is_refused_with_the_accepted_forms(
    store: Store, story: Story, argument: str
) -> None:
    with pytest.raises(InvalidRequest, match="accepted: "):
        ask(store, **{argument: "when it broke"})


def test_an_answer_about_a_busy_week_is_short(store: Store) -> None:
    busy_week(store)

    answer = ask(store, since="7d")

    print(f"\na week of changes: {size(answer)} bytes")
    assert len(answer["items"]) == 10
    assert size(answer) <= 3_000


def test_long_texts_of_strangers_do_not_make_an_answer_too_long(store: Store) -> None:
    story = Story(store)
    long = "é" * 4000
    story.host(1440)
    story.look(1440, [package(f"p{n}", "1") for n in range(20)])
    records = [
        story.event("package_update", f"p{n}", 90 + n, long, previous=long, command=long, by=long)
        for n in range(20)
    ]
    story.look(60, [package(f"p{n}", long, summary=long, location=None) for n in range(20)], records=records)

    for arguments in (
        {},
        {"subject": "p1"},
        {"at": story.shown(0)},
        {"at": story.shown(0), "subject": "p1"},
        {"net": True},
        {"before": story.shown(0)},
    ):
        answer = ask(store, **arguments)
        assert answer["items"], arguments
        assert size(answer) <= MAX_BYTES, arguments


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_that_is_offered_is_answered(store: Store, story: Story, kind: str) -> None:
    totals = ask(store, kind=kind).get("totals", {})

    assert {name.partition("_")[0] for name in totals.keys() - {"items"}} <= {kind} or kind == "any"
