"""What query_packages answers about newer versions and about the owner of a file."""

from pathlib import Path
from typing import Any

import pytest

from tests.collectors.test_cases import plant
from tests.story import Story, package
from watchman_mcp.collectors import load
from watchman_mcp.errors import InvalidRequest
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.ownership import Owners
from watchman_mcp.schema.packages import PackageIndex
from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools.answers import compact
from watchman_mcp.tools.packages import query_packages


def ask(store: Store, **arguments: Any) -> dict[str, Any]:
    return compact(query_packages(store, **arguments))


def newer(name: str, available: str, *, security: bool | None = None, **more: Any) -> Any:
    return package(name, available=available, available_from="stable", security_update=security, **more)


def test_security_updates_come_first_and_totals_count_them(store: Store, story: Story) -> None:
    index = PackageIndex(manager="apt", refreshed_at=story.ago(300))
    found = [
        newer("bash", "5.3", security=False),
        newer("jq", "1.7", security=True),
        newer("zlib", "1.4", security=True, held=True),
        package("same"),
        index,
    ]
    story.look(60, found)
    story.look(60, [package("requests", manager="pip")], collector="python")

    answer = ask(store, view="updates")

    assert [(item["name"], item["available"], item.get("security")) for item in answer["items"]] == [
        ("jq", "1.7", True),
        ("zlib", "1.4", True),
        ("bash", "5.3", None),
    ]
    assert answer["items"][1]["held"] is True
    assert answer["totals"] == {"items": 3, "security": 2, "apt": 3}
    assert answer["source"] == f"the managers' own caches: apt of {story.shown(300)}"
    assert answer["note"].startswith("Cannot tell for pip:")
    assert ask(store, view="updates", name="jq")["totals"]["items"] == 1
    assert ask(store, view="updates", manager="pip")["found"] == "cannot_tell"


def test_pages_of_updates_hold_each_once(store: Store, story: Story) -> None:
    story.look(60, [newer(f"p{n:02}", "2", security=n % 3 == 0) for n in range(25)])

    first = ask(store, view="updates", limit=20)
    rest = ask(store, view="updates", limit=20, cursor=first["next_cursor"])

    assert first["cut"].startswith("20 of 25")
    assert len({item["name"] for item in first["items"] + rest["items"]}) == 25


def test_no_update_is_none_only_where_a_manager_could_know(store: Store, story: Story) -> None:
    story.look(60, [package("bash")])
    assert ask(store, view="updates")["found"] == "cannot_tell"

    story.look(50, [package("bash"), PackageIndex(manager="apt", refreshed_at=story.ago(90_000))])
    answer = ask(store, view="updates")

    assert answer["found"] == "none"
    assert story.shown(90_000) in answer["source"]


def test_a_manager_that_was_not_asked_yet_is_not_taken_for_one_without_updates(
    store: Store, story: Story
) -> None:
    story.look(60, [package("bash"), PackageIndex(manager="apt")], unobserved=["apt:updates: not asked yet"])

    assert ask(store, view="updates")["found"] == "cannot_tell"


def test_one_package_tells_its_newer_version(store: Store, story: Story) -> None:
    story.look(60, [newer("jq", "1.7", security=True)])

    (item,) = ask(store, name="jq")["items"]

    assert (item["available"], item["security"]) == ("1.7", True)


@pytest.mark.parametrize(
    "arguments",
    [
        {"view": "updates", "since": "7d"},
        {"view": "updates", "action": "install"},
        {"view": "updates", "owner_of": "/bin/ls"},
        {"owner_of": "/bin/ls", "name": "coreutils"},
        {"owner_of": "/bin/ls", "since": "7d"},
    ],
)
def test_what_cannot_be_asked_together_is_refused(
    store: Store, story: Story, arguments: dict[str, str]
) -> None:
    with pytest.raises(InvalidRequest):
        ask(store, **arguments)


# Owners


@pytest.fixture
def owners(tmp_path: Path) -> Owners:
    root = tmp_path / "root"
    plant(
        root,
        {
            "/var/lib/dpkg/info/nginx.list": "/.\n/usr/sbin/nginx\n/etc/nginx\n",
            "/var/lib/dpkg/info/other.list": "/.\n/etc/nginx\n",
            "/usr/sbin/nginx": "",
        },
    )
    return Owners(Machine(Files(root), Commands(), root), load())


def test_the_owner_of_a_file_is_answered_whole(store: Store, story: Story, owners: Owners) -> None:
    story.look(60, [package("nginx", "1.22", summary="web server"), package("other")])

    answer = ask(store, owner_of="/usr/sbin/nginx", owners=owners)

    assert (answer["found"], answer["matched"]) == ("yes", "owner of /usr/sbin/nginx")
    assert [(item["name"], item["summary"]) for item in answer["items"]] == [("nginx", "web server")]
    assert answer["totals"] == {"items": 1, "apt": 1}


def test_a_shared_directory_has_several_owners(store: Store, story: Story, owners: Owners) -> None:
    story.look(60, [package("nginx"), package("other")])

    answer = ask(store, owner_of="/etc/nginx", owners=owners)

    assert [item["name"] for item in answer["items"]] == ["nginx", "other"]
    assert ask(store, owner_of="/etc/nginx", manager="dpkg", owners=owners)["totals"]["items"] == 2
    assert ask(store, owner_of="/etc/nginx", manager="npm", owners=owners)["found"] == "none"


def test_a_file_of_nobody_and_no_file_at_all_are_told_apart(
    store: Store, story: Story, owners: Owners, tmp_path: Path
) -> None:
    story.look(60, [package("nginx")])
    plant(tmp_path / "root", {"/opt/own": ""})

    assert ask(store, owner_of="/opt/own", owners=owners)["note"] == (
        "No package manager says that it owns this file."
    )
    assert "there is no such file" in ask(store, owner_of="/opt/none", owners=owners)["note"]


def test_an_owner_that_the_last_look_did_not_see_is_named(store: Store, story: Story, owners: Owners) -> None:
    story.look(60, [package("other")])

    answer = ask(store, owner_of="/usr/sbin/nginx", owners=owners)

    assert answer["note"].startswith("Owned by apt nginx, which the last look did not see")


@pytest.mark.parametrize("path", ["nginx", "./x", "/a\0b", "/" + "x" * 5000])
def test_what_is_no_full_path_is_refused(store: Store, story: Story, owners: Owners, path: str) -> None:
    with pytest.raises(InvalidRequest, match="full path"):
        ask(store, owner_of=path, owners=owners)
