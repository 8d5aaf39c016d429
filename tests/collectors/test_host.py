"""The host node, of the running machine and of one that is only files."""

import os
import platform
import socket
from pathlib import Path

import pytest

from watchman_mcp.collectors import Look
from watchman_mcp.collectors.host import collect, read_hostname, read_release, zone_of
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.schema.core import Host
from watchman_mcp.settings import Settings

MACHINE = "0123456789abcdef0123456789abcdef"
DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n'


def look_at(root: Path) -> Look:
    return Look(Machine(Files(root), Commands(), root), Settings(), "host")


def put(root: Path, path: str, text: str) -> None:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def test_another_machine_is_described_by_its_files(tmp_path: Path) -> None:
    put(tmp_path, "etc/machine-id", MACHINE)
    put(tmp_path, "etc/hostname", "# set by hand\nweb-1\n")
    put(tmp_path, "usr/lib/os-release", DEBIAN)
    (tmp_path / "etc/os-release").symlink_to("../usr/lib/os-release")
    (tmp_path / "etc/localtime").symlink_to("/usr/share/zoneinfo/Europe/Berlin")
    look = look_at(tmp_path)

    found = list(collect(look))

    expected = Host(
        machine="d2cb65e38c6547a2b8eb2cedb44d81e8",
        name="web-1",
        os="Debian GNU/Linux 12 (bookworm)",
        os_id="debian",
        os_version="12",
        time_zone="Europe/Berlin",
    )
    assert found == [expected]
    assert [unobserved.what for unobserved in look.unobserved] == ["host:kernel"]


def test_an_empty_root_is_a_host_all_the_same_and_keeps_its_id(tmp_path: Path) -> None:
    look = look_at(tmp_path)
    (first,) = collect(look)

    again = look_at(tmp_path)
    again.marks = look.marks
    (second,) = collect(again)

    assert (first.name, first.os, first.kernel, first.time_zone) == ("localhost", None, None, "UTC")
    assert first == second
    assert list(collect(look_at(tmp_path))) != [first]


def test_a_machine_without_a_name_has_the_one_its_system_gives(tmp_path: Path) -> None:
    put(tmp_path, "usr/lib/os-release", 'ID=fedora\nDEFAULT_HOSTNAME="fedora"\n')

    (host,) = collect(look_at(tmp_path))

    assert (host.name, host.os_id) == ("fedora", "fedora")


def test_the_zone_of_a_copied_localtime_is_named_by_the_timezone_file(tmp_path: Path) -> None:
    put(tmp_path, "etc/localtime", "TZif2")
    (unknown,) = collect(look_at(tmp_path))
    put(tmp_path, "etc/timezone", "Asia/Tokyo\n")
    (named,) = collect(look_at(tmp_path))

    assert (unknown.time_zone, named.time_zone) == (None, "Asia/Tokyo")


def test_the_running_machine_is_described_by_its_kernel_too() -> None:
    look = look_at(Path("/"))

    (host,) = collect(look)

    assert look.unobserved == []
    assert (host.name, host.kernel) == (socket.gethostname(), os.uname().release)
    assert (host.architecture, host.cpu_count) == (os.uname().machine, os.cpu_count())
    assert host.memory_total_gb and host.boot_time is not None
    assert list(collect(look)) == [host]


def test_the_boot_time_does_not_wobble_between_looks() -> None:
    look = look_at(Path("/"))
    (host,) = collect(look)
    assert host.boot_time is not None
    look.marks["boot_time"] = host.boot_time.timestamp() - 1

    (again,) = collect(look)
    look.marks["boot_time"] = host.boot_time.timestamp() - 3600
    (restarted,) = collect(look)

    assert again.boot_time is not None and again.boot_time.timestamp() == host.boot_time.timestamp() - 1
    assert restarted.boot_time == host.boot_time


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("X=plain", "plain"),
        ('X="two words"', "two words"),
        ("X='it \\'s'", "it 's"),
        (r'X="a \"quoted\" \$word \`here\` \\ there"', 'a "quoted" $word `here` \\ there'),
        ("  X=indented  ", "indented"),
        ("X=", ""),
        ('X=""', ""),
        ('X="never closed', '"never closed'),
        ("X=Unquoted GNU/Linux", "Unquoted GNU/Linux"),
        ('X="ends with return"\r', "ends with return"),
        ("X=first\nX=second", "second"),
    ],
)
def test_shell_quoting_of_a_release_file_is_undone(line: str, value: str) -> None:
    assert read_release(line) == {"X": value}


@pytest.mark.parametrize("line", ["", "# X=comment", "no assignment", "=value", "X Y=value", "\udcff"])
def test_odd_lines_of_a_release_file_are_passed_over(line: str) -> None:
    assert read_release(line) == {}


@pytest.mark.skipif(not Path("/etc/os-release").exists(), reason="needs an os-release file")
def test_the_release_file_of_this_machine_reads_as_python_reads_it() -> None:
    truth = platform.freedesktop_os_release()

    found = read_release(Path("/etc/os-release").read_text())

    assert found == {key: truth[key] for key in found} and found["ID"]


def test_a_hostname_file_without_a_name_has_none() -> None:
    assert read_hostname("\n# only a comment\n \n") == ""


@pytest.mark.parametrize(
    ("target", "zone"),
    [
        ("/usr/share/zoneinfo/Etc/UTC", "Etc/UTC"),
        ("../usr/share/zoneinfo/posix/America/Argentina/Ushuaia", "America/Argentina/Ushuaia"),
        ("/usr/share/zoneinfo/", None),
        ("/somewhere/else", None),
    ],
)
def test_the_zone_is_named_by_where_localtime_points(target: str, zone: str | None) -> None:
    assert zone_of(target) == zone
