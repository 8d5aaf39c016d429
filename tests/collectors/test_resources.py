"""Samples as rows of the graph."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from watchman_mcp.collectors import Look
from watchman_mcp.collectors.resources import collect, collector, rows
from watchman_mcp.errors import Absent
from watchman_mcp.machine import Machine
from watchman_mcp.machine.accounts import read_users
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.metrics import Memory, Process, Sample, Traffic
from watchman_mcp.machine.mounts import FileSystem
from watchman_mcp.schema.resources import DiskMetrics, InterfaceMetrics, ProcessMetrics, SystemMetrics
from watchman_mcp.settings import Settings

AT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
BOOT = datetime(2030, 1, 1, tzinfo=UTC)
GIB = 2**30
MIB = 2**20


def place(mount_point: str, pool: str, size: int, used: int) -> FileSystem:
    return FileSystem(
        "/dev/" + pool, mount_point, pool, size * GIB, used * GIB, (size - used) * GIB, 1000, 123
    )


def look_at(root: Path) -> Look:
    return Look(Machine(Files(root), Commands(), root), Settings(), "resources")


def test_a_sample_becomes_rows_in_the_units_of_the_graph() -> None:
    sample = Sample(
        AT,
        cpu=0.25678,
        cores=[0.5, 0.01357],
        load=(1.23456, 0.5, 0.0),
        memory=Memory(16 * GIB, 4 * GIB, 12 * GIB, 3 * GIB, 2 * GIB, GIB // 3),
        disk_read=1.5 * MIB,
        disk_written=123456.0,
        file_systems=[place("/", "sda1", 100, 25)],
        interfaces=[Traffic("eth0", 2.0 * MIB, 100.0, 7)],
        processes=[Process(42, 10.5, "nginx", 33, 1.234567, 50 * MIB)],
        process_count=120,
    )

    system, disk, interface, process = rows(sample, BOOT.timestamp(), {33: "www-data"})

    assert system == SystemMetrics(
        timestamp=AT,
        cpu_percent=25.7,
        cpu_per_core=[50.0, 1.4],
        memory_used_gb=4.0,
        memory_total_gb=16.0,
        memory_available_gb=12.0,
        memory_cached_gb=3.0,
        swap_used_gb=0.333,
        swap_total_gb=2.0,
        disk_used_gb=25.0,
        disk_total_gb=100.0,
        load_average_1m=1.23,
        load_average_5m=0.5,
        load_average_15m=0.0,
        disk_read_mb_s=1.5,
        disk_write_mb_s=0.118,
        processes=120,
    )
    assert disk == DiskMetrics(
        filesystem="/dev/sda1",
        mount_point="/",
        timestamp=AT,
        used_gb=25.0,
        available_gb=75.0,
        use_percent=25.0,
        inodes_percent=12.3,
    )
    assert interface == InterfaceMetrics(interface="eth0", timestamp=AT, rx_mb_s=2.0, tx_mb_s=0.0, errors=7)
    assert process == ProcessMetrics(
        name="nginx",
        pid=42,
        started_at=BOOT + timedelta(seconds=10.5),
        user="www-data",
        timestamp=AT,
        cpu_percent=123.5,
        memory_mb=50.0,
    )


def test_what_is_not_known_stays_unknown() -> None:
    sample = Sample(
        AT, interfaces=[Traffic("eth0", None, None, None)], processes=[Process(9, 1.0, "x", 5, None, 0)]
    )

    system, interface, process = rows(sample, BOOT.timestamp(), {})

    assert system == SystemMetrics(timestamp=AT)
    assert interface == InterfaceMetrics(interface="eth0", timestamp=AT)
    assert isinstance(process, ProcessMetrics)
    assert (process.user, process.cpu_percent) == ("5", None)


def test_processes_without_a_known_start_are_left_out() -> None:
    sample = Sample(AT, processes=[Process(9, 1.0, "x", 5, None, 0)])

    assert list(rows(sample, None, {})) == [SystemMetrics(timestamp=AT)]


def test_the_free_space_of_a_pool_is_counted_once() -> None:
    sample = Sample(
        AT, file_systems=[place("/a", "tank", 100, 40), place("/b", "tank", 70, 10), place("/", "sda", 8, 2)]
    )

    system = next(rows(sample, None, {}))

    assert isinstance(system, SystemMetrics)
    assert (system.disk_used_gb, system.disk_total_gb) == (52.0, 118.0)


def test_a_file_system_without_inodes_of_its_own_has_no_share_of_them() -> None:
    bare = FileSystem("/dev/sdb1", "/usb", "8:17", 0, 0, 0, 0, 0)

    _, disk = rows(Sample(AT, file_systems=[bare]), None, {})

    assert isinstance(disk, DiskMetrics)
    assert (disk.use_percent, disk.inodes_percent) == (None, None)


def test_users_are_read_from_a_passwd_file_with_odd_lines() -> None:
    text = "root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:\n\n+::::::\nbroken\nweb:x:33:33::/:\nx:y:-1:\n"

    assert read_users(text) == {0: "root", 33: "web"}


def test_the_running_machine_gives_one_sample_and_the_next_one_has_rates() -> None:
    look = look_at(Path("/"))
    first = list(collect(look))
    boot = look.marks["boot_time"]
    look.marks["boot_time"] = float(str(boot)) - 1

    second = list(collect(look))

    assert isinstance(first[0], SystemMetrics) and isinstance(second[0], SystemMetrics)
    assert first[0].disk_read_mb_s is None and first[0].memory_total_gb == second[0].memory_total_gb
    assert [type(row) for row in first].count(SystemMetrics) == 1
    assert {type(row) for row in second} <= set(collector.emits)
    assert all(row.cpu_percent is None for row in first if isinstance(row, ProcessMetrics))
    processes = [row for row in second if isinstance(row, ProcessMetrics)]
    assert 0 < len(processes) <= 10 and all(row.cpu_percent is not None for row in processes)
    assert look.marks["boot_time"] == float(str(boot)) - 1
    assert len({row.timestamp for row in second if isinstance(row, SystemMetrics | DiskMetrics)}) == 1


def test_two_machines_do_not_share_their_counters() -> None:
    list(collect(look_at(Path("/"))))

    other = next(collect(look_at(Path("/"))))

    assert isinstance(other, SystemMetrics)
    assert other.cpu_percent is None


def test_a_machine_that_is_only_files_has_no_load(tmp_path: Path) -> None:
    with pytest.raises(Absent, match="run Watchman on it"):
        next(collect(look_at(tmp_path)))
