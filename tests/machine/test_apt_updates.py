"""apt's list of upgrades, as apt prints it."""

from pathlib import Path

from tests.collectors.test_cases import plant
from watchman_mcp.machine.apt_updates import LISTS, marks_security, read_upgradable
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.updates import Update


def test_each_line_names_a_package_its_suites_and_both_versions() -> None:
    lines = [
        "Listing...",
        "jq/oldstable-security 1.6-2.1+deb12u3 amd64 [upgradable from: 1.6-2.1+deb12u1]",
        "krb5-locales/jammy-updates,jammy-security,now 1.20.1-2+deb12u5 all [upgradable from: 1.20.1-2]",
        "vim/stable 2:9.0-1 i386 [upgradable from: 2:8.2-1]",
        "libc++1/now 1:14.0-1 arm64 [upgradable from: 1:13.0-1]",
    ]

    assert read_upgradable(lines, marked=True) == (
        [
            Update("jq", "amd64", "1.6-2.1+deb12u3", "oldstable-security", True),
            Update("krb5-locales", "all", "1.20.1-2+deb12u5", "jammy-updates,jammy-security", True),
            Update("vim", "i386", "2:9.0-1", "stable", False),
            Update("libc++1", "arm64", "1:14.0-1", None, False),
        ],
        0,
    )


def test_lines_that_are_no_upgrade_are_counted() -> None:
    lines = ["Listing... Done", "", "N: There is 1 additional version.", "jq/stable 1.7 amd64", "x" * 10_000]

    assert read_upgradable(lines, marked=True) == ([], 3)


def test_debian_up_to_10_does_not_mark_security_updates(tmp_path: Path) -> None:
    plant(tmp_path, {f"{LISTS}/deb.example_debian_dists_buster-updates_InRelease": ""})
    later = marks_security(Files(tmp_path))
    plant(tmp_path, {f"{LISTS}/security.example_dists_buster_updates_InRelease": ""})

    assert (later, marks_security(Files(tmp_path))) == (True, False)
    found, _ = read_upgradable(["vim/oldstable 2:9.0-1 i386 [upgradable from: 2:8.2-1]"], marked=False)
    assert [one.security for one in found] == [None]
