"""Samples of load, memory, disks, interfaces and the busiest processes of the running machine.

Rates are since the sample before, so the first after a start has none. Processes give their names only:
command lines and environments hold secrets.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from watchman_mcp.errors import Absent
from watchman_mcp.machine import Machine
from watchman_mcp.machine.accounts import read_users
from watchman_mcp.machine.identity import steady
from watchman_mcp.machine.metrics import Meter, Sample
from watchman_mcp.machine.mounts import FileSystem
from watchman_mcp.schema import Label
from watchman_mcp.schema.resources import DiskMetrics, InterfaceMetrics, ProcessMetrics, SystemMetrics

from . import Collector, Look

USERS = "/etc/passwd"


def rows(sample: Sample, boot_time: float | None, users: dict[int, str]) -> Iterator[Label]:
    """The graph's rows of one sample, in the graph's units."""
    yield _system(sample)
    for place in sample.file_systems:
        yield _disk(sample.at, place)
    for traffic in sample.interfaces:
        yield InterfaceMetrics(
            interface=traffic.interface,
            timestamp=sample.at,
            rx_mb_s=_mib(traffic.received),
            tx_mb_s=_mib(traffic.sent),
            errors=traffic.errors,
        )
    if boot_time is not None:
        start = datetime.fromtimestamp(boot_time, UTC)
        for process in sample.processes:
            uid = process.uid
            yield ProcessMetrics(
                name=process.name,
                pid=process.pid,
                started_at=start + timedelta(seconds=process.started),
                user=None if uid is None else users.get(uid, str(uid)),
                timestamp=sample.at,
                cpu_percent=_percent(process.cpu),
                memory_mb=round(process.resident / 2**20, 1),
            )


def collect(look: Look) -> Iterator[Label]:
    """One sample.

    Raises: Absent (another machine's files are read, and files have no load).
    """
    if not look.machine.live:
        raise Absent(
            "load is measured on a running machine and this one is read as files; run Watchman on it"
        )
    sample = _meter(look.machine).sample()
    for what, why in sample.unseen:
        look.cannot(f"{look.scope}:{what}", why)
    boot_time = sample.boot_time
    if boot_time is not None:
        # A process is told by its start: the kernel's wobble must not make another one of it.
        boot_time = steady(look.marks.get("boot_time"), boot_time)
        look.marks["boot_time"] = boot_time
    files = look.machine.files
    users = read_users(files.text(USERS)) if files.exists(USERS) else {}
    wanted = look.settings.network.monitor_interfaces
    for row in rows(sample, boot_time, users):
        if not wanted or not isinstance(row, InterfaceMetrics) or row.interface in wanted:
            yield row


@lru_cache(maxsize=8)
def _meter(_machine: Machine) -> Meter:
    """The meter that remembers this machine's counters between looks."""
    return Meter()


def _system(sample: Sample) -> SystemMetrics:
    memory, load = sample.memory, sample.load
    # The file systems of one pool share their free space, which is counted once.
    free = {place.pool: place.size - place.used for place in sample.file_systems}
    used = sum(place.used for place in sample.file_systems)
    return SystemMetrics(
        timestamp=sample.at,
        cpu_percent=_percent(sample.cpu),
        cpu_per_core=[round(core * 100, 1) for core in sample.cores] if sample.cores else None,
        memory_used_gb=_gib(memory.used) if memory else None,
        memory_total_gb=_gib(memory.total) if memory else None,
        memory_available_gb=_gib(memory.available) if memory else None,
        memory_cached_gb=_gib(memory.cached) if memory else None,
        swap_used_gb=_gib(memory.swap_used) if memory else None,
        swap_total_gb=_gib(memory.swap_total) if memory else None,
        disk_used_gb=_gib(used) if free else None,
        disk_total_gb=_gib(used + sum(free.values())) if free else None,
        load_average_1m=round(load[0], 2) if load else None,
        load_average_5m=round(load[1], 2) if load else None,
        load_average_15m=round(load[2], 2) if load else None,
        disk_read_mb_s=_mib(sample.disk_read),
        disk_write_mb_s=_mib(sample.disk_written),
        processes=sample.process_count,
    )


def _disk(at: datetime, place: FileSystem) -> DiskMetrics:
    reachable = place.used + place.available
    return DiskMetrics(
        filesystem=place.source,
        mount_point=place.mount_point,
        timestamp=at,
        used_gb=_gib(place.used),
        available_gb=_gib(place.available),
        use_percent=_percent(place.used / reachable if reachable else None),
        inodes_percent=_percent(place.inodes_used / place.inodes if place.inodes else None),
    )


def _gib(size: int) -> float:
    return round(size / 2**30, 3)


def _mib(speed: float | None) -> float | None:
    return None if speed is None else round(speed / 2**20, 3)


def _percent(share: float | None) -> float | None:
    return None if share is None else round(share * 100, 1)


collector = Collector(
    collect,
    emits=(SystemMetrics, DiskMetrics, InterfaceMetrics, ProcessMetrics),
    every=lambda settings: settings.monitoring.metrics_interval,
    feature="resource_monitoring",
)
