"""What dnf 5, dnf 4 and zypper answer and keep, as it is recorded, and answers that nobody should believe."""

from pathlib import Path

import pytest

from tests.collectors.test_cases import graph, look_at, plant
from tests.rigs.rpm import Rpm, pretend
from watchman_mcp.errors import Broken
from watchman_mcp.machine import dnf_updates, rpm_locks, zypp_updates
from watchman_mcp.machine.commands import SEARCH_PATH, Commands
from watchman_mcp.machine.dnf_updates import read_upgrades
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.rpm import Package
from watchman_mcp.machine.rpm_files import read_brought
from watchman_mcp.machine.rpm_locks import match_locklist, match_zypp
from watchman_mcp.machine.rpm_managers import updates_of
from watchman_mcp.machine.updates import Update
from watchman_mcp.machine.zypp_updates import Fix, read_document, read_fixes, read_needed, read_updates

# As `dnf5 --quiet --cacheonly check-upgrade` of dnf 5.2 on Fedora 41 prints its table.
DNF5_TABLE = """
kernel-core.x86_64         6.12.4-200.fc41             updates
libstdc++.i686             14.2.1-6.fc41               updates
vim-data.noarch            2:9.1.906-1.fc41            updates
Obsoleting packages
new.noarch                 2.0-1                       updates
    old.noarch             1.0-1                       fedora
"""
DNF5_LOCKS = """
version = "1.0"
[[packages]]
name = "kern*"
comment = "Added by 'versionlock add' command on 2024-12-01 10:00:00"
[[packages.conditions]]
key = "evr"
comparator = "="
value = "6.12.1-200"
[[packages]]
name = "refused"
[[packages.conditions]]
key = "evr"
comparator = "!="
value = "2.0-1"
[[packages]]
name = "arch"
[[packages.conditions]]
key = "arch"
comparator = "="
value = "x86_64"
[[packages]]
name = "wrong"
[[packages.conditions]]
key = "evr"
comparator = "~"
value = "1"
[[packages]]
name = "without"
"""


def test_the_table_of_dnf_5_is_read_up_to_what_obsoletes() -> None:
    assert read_upgrades(DNF5_TABLE) == (
        [
            Update("kernel-core", "x86_64", "6.12.4-200.fc41", "updates"),
            Update("libstdc++", "i686", "14.2.1-6.fc41", "updates"),
            Update("vim-data", "noarch", "2:9.1.906-1.fc41", "updates"),
        ],
        0,
    )


def test_a_row_of_dnf_that_is_broken_over_lines_is_one_and_an_odd_line_is_counted() -> None:
    text = "\na-long-name.noarch\n      0:1.0-1\n      updates\nwhat is this\napp.x86_64 1.1-1 updates\n"

    assert read_upgrades(text) == (
        [Update("a-long-name", "noarch", "1.0-1", "updates"), Update("app", "x86_64", "1.1-1", "updates")],
        1,
    )


@pytest.mark.parametrize(
    ("links", "files", "program"),
    [
        ({}, {}, None),
        ({}, {"/usr/bin/dnf": ""}, "dnf"),
        ({"/usr/bin/dnf": "dnf-3"}, {"/usr/bin/dnf-3": "", "/usr/bin/dnf5": ""}, "dnf"),
        ({"/usr/bin/dnf": "dnf5"}, {"/usr/bin/dnf5": ""}, "dnf5"),
        ({}, {"/usr/bin/dnf5": ""}, "dnf5"),
    ],
)
def test_the_dnf_to_ask_is_the_one_that_is_called_so(
    tmp_path: Path, links: dict[str, str], files: dict[str, str], program: str | None
) -> None:
    plant(tmp_path, files, links)

    assert dnf_updates.program(Files(tmp_path)) == program


def stand_in(folder: Path, name: str, script: str) -> Commands:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return Commands(f"{folder}:{SEARCH_PATH}")


def test_dnf_5_is_asked_by_its_own_name_and_says_nothing_where_nothing_is_to_be_done(tmp_path: Path) -> None:
    table = tmp_path / "table"
    table.write_text(DNF5_TABLE)
    script = 'case "$*" in *--security) echo "No security updates needed, but 3 updates available";;'
    commands = stand_in(tmp_path, "dnf5", f"{script} *) cat {table}; exit 100;; esac")

    found, unreadable = dnf_updates.ask(commands, "dnf5", frozenset({"updates"}))

    assert unreadable == 0
    assert [(one.name, one.security) for one in found] == [
        ("kernel-core", False),
        ("libstdc++", False),
        ("vim-data", False),
    ]
    failing = stand_in(tmp_path, "dnf5", "echo 'Cache-only enabled but no cache' >&2; exit 1")
    with pytest.raises(Broken, match="no cache"):
        dnf_updates.ask(failing, "dnf5", frozenset())


def test_locks_of_dnf_5_hold_what_has_a_bound_above(tmp_path: Path) -> None:
    plant(tmp_path, {"/usr/bin/dnf5": "", "/etc/dnf/versionlock.toml": DNF5_LOCKS})
    names = ("kernel", "kernel-core", "refused", "arch", "wrong", "without", "free")
    pretend(tmp_path, [Rpm(name, "1-1") for name in names])

    told = graph("rpm", look_at(tmp_path, "rpm"))

    assert {one["key"] for one in told["nodes"] if one["held"]} == {"kernel", "kernel-core"}
    assert told["unobserved"] == ["rpm:locks"]


@pytest.mark.parametrize("text", ["version = 1", "[[[", 'version = "2.0"', "a = [" * 5000])
def test_locks_of_dnf_5_that_cannot_be_read_cost_nothing_but_themselves(tmp_path: Path, text: str) -> None:
    plant(tmp_path, {"/usr/bin/dnf5": "", "/etc/dnf/versionlock.toml": text})
    pretend(tmp_path, [Rpm("app", "1-1")])

    told = graph("rpm", look_at(tmp_path, "rpm"))

    assert [(one["key"], one.get("held")) for one in told["nodes"]] == [("app", None)]
    assert told["unobserved"] == ["rpm:locks"]


def test_a_machine_without_a_manager_does_not_tell_what_is_held_or_new(tmp_path: Path) -> None:
    pretend(tmp_path, [Rpm("app", "1-1")])

    told = graph("rpm", look_at(tmp_path, "rpm"))

    assert [one.get("held") for one in told["nodes"]] == [None]
    assert [one["label"] for one in told["nodes"]] == ["Software"]
    assert "unobserved" not in told


@pytest.mark.parametrize(
    ("cache", "files"),
    [
        ("/var/cache/dnf/updates-0123456789abcdef", {"/usr/bin/dnf": ""}),
        ("/var/cache/libdnf5/updates-0123456789abcdef", {"/usr/bin/dnf5": ""}),
        ("/var/cache/zypp/raw/updates", {"/usr/bin/zypper": "", "/etc/zypp/": ""}),
    ],
)
def test_a_manager_with_metadata_has_an_index_of_its_age_that_is_watched(
    tmp_path: Path, cache: str, files: dict[str, str]
) -> None:
    index = f"{cache}/repodata/repomd.xml"
    plant(tmp_path, {**files, index: "", f"{cache}/repodata/0ff-updateinfo.xml.zst": "", f"{cache}2/a": ""})
    pretend(tmp_path, [Rpm("app", "1-1")])
    look = look_at(tmp_path, "rpm")

    told = graph("rpm", look)

    manager = "zypper" if "zypp" in cache else "dnf"
    assert [one for one in told["nodes"] if one["label"] == "PackageIndex"] == [
        {
            "label": "PackageIndex",
            "scope": "rpm:metadata",
            "manager": manager,
            "refreshed_at": "2026-01-01T00:00:00+00:00",
        }
    ]
    assert look.watched == {index}
    kept = zypp_updates.metadata(Files(tmp_path)) if "zypp" in cache else None
    marking = kept.marking if kept else dnf_updates.metadata(Files(tmp_path), [*files][0][9:]).marking
    assert marking == {"updates"}


def test_an_update_is_of_the_package_whose_architecture_it_has_or_leaves() -> None:
    packages = [Package("two", "1-1", arch) for arch in ("x86_64", "i686")]
    packages += [Package("moved", "1-1", "x86_64"), Package("kernel", "6.10-1", "x86_64")]
    packages += [Package("kernel", "6.9-1", "x86_64"), Package("other", "1-1", "i686")]
    updates = [
        Update("two", "x86_64", "2-1"),
        Update("moved", "noarch", "2-1"),
        Update("kernel", "x86_64", "7-1"),
    ]
    updates += [Update("other", "x86_64", "2-1")]

    found = updates_of(packages, {(one.name, one.architecture): one for one in updates})

    assert {key: one.version for key, one in found.items()} == {
        ("two", "x86_64", "1-1"): "2-1",
        ("moved", "x86_64", "1-1"): "2-1",
        ("kernel", "x86_64", "6.10-1"): "7-1",
    }


def test_an_answer_of_zypper_with_a_document_type_is_refused() -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;">]><stream>&c;</stream>'

    with pytest.raises(Broken, match="document type"):
        read_document(bomb)
    with pytest.raises(Broken, match="no XML"):
        read_document("<stream><update")


def test_complaints_of_zypper_and_updates_without_name_are_counted() -> None:
    document = read_document(
        '<stream><message type="error">Repository &apos;a&apos; is invalid.</message>'
        '<update kind="package" name="app" edition="0:2-1" arch="noarch" edition-old="1-1">'
        '<source alias="updates"/><source alias="other"/></update>'
        '<source alias="elsewhere"/><update kind="package" name=""/><update kind="patch" name="P"/></stream>'
    )

    assert read_updates(document) == ([(Update("app", "noarch", "2-1", "updates"), "1-1")], 2)
    assert read_needed(document) == ["P"]


def test_what_a_patch_is_about_is_told_by_its_conflicts_and_not_by_its_description() -> None:
    text = (
        "Name        : SUSE-2024-1\nDescription :\n    Conflicts   : evil &lt; 3\n"
        "Provides    : patch:S = 1\n"
        "Conflicts   : [4]\n    app &lt; 1:0.9-1\n    lib.x86_64 &lt; 1.1-1\n"
        "    srcpackage:app &lt; 3\n    odd\n"
    )
    document = read_document(f'<stream><message type="info">{text}</message></stream>')

    assert read_fixes(document) == ([Fix("app", "1:0.9-1"), Fix("lib.x86_64", "1.1-1")], 1)


PACKAGES = [Package("Lib-One", "1.0-1", "x86_64"), Package("lib", "2:1.0-1", "noarch")]


@pytest.mark.parametrize(
    ("lock", "names"),
    [
        ("solvable_name: lib\nmatch_type: exact\ncase_sensitive: on\n", {"lib"}),
        ("solvable_name: LIB\nmatch_type: exact\n", {"lib"}),
        ("solvable_name: lib\nmatch_type: substring\n", {"lib", "Lib-One"}),
        ("solvable_name: one\nmatch_type: word\n", {"Lib-One"}),
        ("type: package\nsolvable_name: l?b\nmatch_type: glob\ncase_sensitive: on\n", {"lib"}),
        ("solvable_name: li*\nmatch_type: glob\nversion: < 1:0\n", {"Lib-One"}),
        ("solvable_name: lib\nmatch_type: exact\nversion: 2:1.0\n", {"lib"}),
        ("type: pattern\nsolvable_name: lib\nmatch_type: exact\n", set()),
        ("repo: updates\nsolvable_name: lib\nmatch_type: exact\n", set()),
        ("# solvable_name: lib\n\n\n", set()),
    ],
)
def test_a_lock_of_zypper_holds_what_its_rule_says(lock: str, names: set[str]) -> None:
    told = match_zypp(f"\n{lock}\n\ntype: package\nmatch_type: glob\nsolvable_name: none\n", PACKAGES)

    assert {name for name, _, _ in told.packages} == names
    assert told.unreadable == 0


@pytest.mark.parametrize(
    ("lock", "names"),
    [
        ("lib-2:1.0-1.*", {"lib"}),
        ("lib-1.0", {"lib"}),
        ("lib-3:1.0-1.noarch", {"lib"}),
        ("lib", set()),
        ("lib.noarch", set()),
        ("lib.i686", {"lib"}),
        ("Lib-One-1*", {"Lib-One"}),
        ("!lib-2:1.0-1", set()),
        ("#lib-2:1.0-1", set()),
    ],
)
def test_a_lock_of_the_plugin_versionlock_holds_what_its_rule_says(lock: str, names: set[str]) -> None:
    assert {name for name, _, _ in match_locklist([lock], PACKAGES).packages} == names


def test_a_line_of_a_lock_of_zypper_that_says_nothing_is_counted() -> None:
    told = match_zypp("odd\n# none\n \nsolvable_name: lib\nmatch_type: exact\nodd too\n", PACKAGES)

    assert {name for name, _, _ in told.packages} == {"lib"}
    assert told.unreadable == 2


def test_a_complaint_about_the_settings_of_versionlock_is_short(tmp_path: Path) -> None:
    plant(tmp_path, {rpm_locks.VERSIONLOCK: "[main]\n" + "odd " * 10_000 + "\n"})

    with pytest.raises(Broken, match="versionlock list") as raised:
        rpm_locks.locked_by_dnf(Files(tmp_path), PACKAGES)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("line", ["F 'a.service'", "F 0 0", f"F {'1' * 11} 0 'a'", "F (none) 0 'a'"])
def test_a_file_of_rpms_answer_that_is_half_told_is_broken(line: str) -> None:
    answer = f"N 'a' '1' '1' '1' 'x'\nD '/usr/lib/systemd/system/'\n{line}\n"

    with pytest.raises(Broken, match="qal"):
        list(read_brought(answer))
