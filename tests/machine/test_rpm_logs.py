"""What the logs of dnf and yum say in the forms that they had in the course of the years."""

import os
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.collectors.test_cases import plant
from watchman_mcp.machine.dnf_logs import DnfLog, read_commands
from watchman_mcp.machine.dpkg import Clock
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.log_years import LocalTimes, written_at
from watchman_mcp.machine.logs import Line, Origin, read_log
from watchman_mcp.machine.rpm_changes import Told
from watchman_mcp.machine.yum_logs import YUM_LOG, YumLog

ZONE = ZoneInfo("Europe/Berlin")
WRITTEN = {(1, 1): datetime(2016, 1, 3)}


def lines(text: str) -> list[Line]:
    origin = Origin(1, 1, "", 0, None)
    return [Line(line, number, origin) for number, line in enumerate(text.split("\n"))]


def of_dnf(text: str) -> tuple[list[Told], int]:
    log = DnfLog("dnf", {}, frozenset({"kernel"}), LocalTimes(ZONE, WRITTEN))
    end = "\n2018-01-01T00:00:00Z INFO --- logging initialized ---"
    return list(log.told(lines(text + end))), log.unreadable


def brief(told: list[Told]) -> list[tuple[str | None, ...]]:
    return [(one.change.type, one.change.name, one.change.previous, one.change.version) for one in told]


def test_dnf_2_calls_what_comes_upgraded_and_what_it_replaces_cleanup() -> None:
    told, unreadable = of_dnf(
        "2017-10-02T08:00:00Z INFO --- logging initialized ---\n"
        "2017-10-02T08:00:05Z INFO Upgraded: app-1:2.0-1.fc27.x86_64\n"
        "2017-10-02T08:00:05Z INFO Downgraded: tool-1.0-1.fc27.noarch\n"
        "2017-10-02T08:00:06Z INFO Reinstalled: lib-1.0-1.fc27.x86_64\n"
        "2017-10-02T08:00:06Z INFO Installed: kernel-4.14.1-1.fc27.x86_64\n"
        "2017-10-02T08:00:06Z INFO Obsoleted: old-1.0-1.fc27.x86_64\n"
        "2017-10-02T08:00:07Z INFO Cleanup: app-1:1.0-1.fc27.x86_64\n"
        "2017-10-02T08:00:07Z INFO Erased: tool-2.0-1.fc27.noarch\n"
        "2017-10-02T08:00:08Z INFO Erased: lib-1.0-1.fc27.x86_64\n"
        "2017-10-02T08:00:08Z INFO Erased: kernel-4.11.1-1.fc27.x86_64"
    )

    assert unreadable == 0
    assert brief(told) == [
        ("update", "app", "1:1.0-1.fc27", "1:2.0-1.fc27"),
        ("downgrade", "tool", "2.0-1.fc27", "1.0-1.fc27"),
        ("reinstall", "lib", "1.0-1.fc27", "1.0-1.fc27"),
        ("install", "kernel", None, "4.14.1-1.fc27"),
        ("remove", "old", None, "1.0-1.fc27"),
        ("remove", "kernel", None, "4.11.1-1.fc27"),
    ]


def test_dnf_1_writes_local_times_without_a_year_which_the_lines_after_them_tell() -> None:
    text = (
        "Dec 31 23:59:58 INFO --- logging initialized ---\n"
        "Dec 31 23:59:59 INFO Installed: app-1.0-1.fc23.x86_64\n"
        "said by a script\n"
        "Jan 01 00:30:00 INFO --- logging initialized ---\n"
        "Jan 01 00:30:01 INFO Upgraded: app-2.0-1.fc23.x86_64\n"
        "Jan 01 00:30:02 INFO Cleanup: app-1.0-1.fc23.x86_64"
    )
    told, unreadable = of_dnf(text)
    later = of_dnf(f"Nov 30 10:00:00 INFO Installed: tool-1-1.noarch\n2015-12-24T00:00:00Z INFO x\n{text}")[0]

    assert unreadable == 0
    assert brief(told) == [
        ("install", "app", None, "1.0-1.fc23"),
        ("update", "app", "1.0-1.fc23", "2.0-1.fc23"),
    ]
    assert [one.at for one in told] == [
        datetime(2015, 12, 31, 22, 59, 59, tzinfo=UTC),
        datetime(2015, 12, 31, 23, 30, 1, tzinfo=UTC),
    ]
    assert later[0].at == datetime(2015, 11, 30, 9, tzinfo=UTC)
    called = lines("Nov 30 10:00:00 DDEBUG Command: dnf install app ")
    assert read_commands(called, LocalTimes(ZONE, WRITTEN)) == [
        (datetime(2015, 11, 30, 9, tzinfo=UTC), "dnf install app")
    ]


def test_a_line_of_dnf_1_without_a_possible_time_is_counted() -> None:
    told, unreadable = of_dnf(
        "Nov 31 10:00:00 INFO Installed: app-1-1.noarch\nFoo 01 10:00:00 INFO x\nNov 30 10:00:00 of a script"
    )

    assert (told, unreadable) == ([], 2)


def test_what_failed_is_found_by_either_name() -> None:
    text = "2019-06-01T08:00:00Z INFO --- logging initialized ---\n" + "".join(
        f"2019-06-01T08:00:05Z SUBDEBUG Installed: app{n}-1:1.0-1.el8.x86_64\n" for n in range(5)
    )
    told, _ = of_dnf(
        f"{text}2019-06-01T08:00:06Z INFO error: app1-1.0-1.el8.x86_64: install failed\n"
        "2019-06-01T08:00:06Z ERROR Error in PREIN scriptlet in rpm package app3"
    )

    assert [one.change.name for one in told] == ["app0", "app2", "app4"]


def test_a_step_that_dnf_3_writes_twice_is_one_change() -> None:
    told, _ = of_dnf(
        "2019-06-01T08:00:00Z INFO --- logging initialized ---\n"
        "2019-06-01T08:00:05Z SUBDEBUG Installed: app-1.0-1.el8.x86_64\n"
        "2019-06-01T08:00:07Z SUBDEBUG Installed: app-1.0-1.el8.x86_64\n"
        "2019-06-01T08:00:08Z SUBDEBUG Upgrade: lib-2.0-1.el8.x86_64\n"
        "2019-06-01T08:00:08Z SUBDEBUG Upgrade: lib-2.0-1.el8.x86_64\n"
        "2019-06-01T08:00:08Z SUBDEBUG Upgraded: lib-1.0-1.el8.x86_64\n"
        "2019-06-01T08:00:09Z SUBDEBUG Upgraded: lib-1.0-1.el8.x86_64\n"
        "2019-06-01T08:00:09Z SUBDEBUG Erase: old-1.0-1.el8.noarch\n"
        "2019-06-01T08:00:09Z SUBDEBUG Erase: old-1.0-1.el8.noarch"
    )

    assert brief(told) == [
        ("install", "app", None, "1.0-1.el8"),
        ("update", "lib", "1.0-1.el8", "2.0-1.el8"),
        ("remove", "old", None, "1.0-1.el8"),
    ]
    assert told[0].at == datetime(2019, 6, 1, 8, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "name", "arch", "version"),
    [
        ("1:app-2.0-1.el7.x86_64", "app", "x86_64", "1:2.0-1.el7"),
        ("app - 1:2.0-1.el5.i386", "app", "i386", "1:2.0-1.el5"),
        ("python-lib - 2.0-1.el5.noarch", "python-lib", "noarch", "2.0-1.el5"),
        ("app.i386 1:2.0-1.fc6", "app", "i386", "1:2.0-1.fc6"),
        ("python2.4-lib.i386 2.0-1", "python2.4-lib", "i386", "2.0-1"),
        ("app", "app", "", None),
    ],
)
def test_yum_named_packages_in_three_ways(said: str, name: str, arch: str, version: str | None) -> None:
    log = YumLog(Clock(ZONE), WRITTEN)

    odd = "Dec 24 10:00:00 Updated: a b c\nDec 24 10:00:00 Erased: \N{LINE SEPARATOR}"
    told = list(log.told(lines(f"Dec 24 10:00:00 Updated: {said}\n{odd}")))

    assert [one.change[1:] for one in told] == [(name, arch, None, version)]
    assert log.unreadable == 2


def test_a_log_of_an_image_whose_files_are_dated_to_1970_tells_no_year(tmp_path: Path) -> None:
    plant(tmp_path, {YUM_LOG: "Dec 24 10:00:00 Updated: app-1-1.noarch\n"})
    files, told = Files(tmp_path), []
    for second in (0, 1_000_000_000):
        os.utime(tmp_path / YUM_LOG.lstrip("/"), (second, second))
        log = YumLog(Clock(ZONE), written_at(files, YUM_LOG, ZONE))
        told.append(([one.at.year for one in log.told(read_log(files, YUM_LOG))], log.unreadable))

    assert told == [([], 1), ([2000], 0)]
