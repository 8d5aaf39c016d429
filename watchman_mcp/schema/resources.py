"""Resources: samples of load, memory, disks, interfaces and processes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar

from pydantic import Field

from .base import Label


class SystemMetrics(Label):
    """The whole machine at one moment."""

    identity: ClassVar = ("timestamp",)
    series: ClassVar = ()

    timestamp: datetime = Field(description="When it was measured.")
    cpu_percent: float | None = Field(
        default=None, description="CPU time not idle since the sample before, all cores, in percent."
    )
    cpu_per_core: list[float] | None = Field(default=None, description="The same for each core.")
    memory_used_gb: float | None = Field(default=None, description="Memory used, without caches, in GiB.")
    memory_total_gb: float | None = Field(default=None, description="Memory in GiB.")
    memory_available_gb: float | None = Field(
        default=None, description="Memory that programs can still get, in GiB."
    )
    memory_cached_gb: float | None = Field(default=None, description="Memory used for caches, in GiB.")
    swap_used_gb: float | None = Field(default=None, description="Swap used, in GiB.")
    swap_total_gb: float | None = Field(default=None, description="Swap, in GiB.")
    disk_used_gb: float | None = Field(
        default=None, description="Space used on all local file systems, in GiB."
    )
    disk_total_gb: float | None = Field(default=None, description="Size of all local file systems, in GiB.")
    load_average_1m: float | None = Field(default=None, description="Load average of one minute.")
    load_average_5m: float | None = Field(default=None, description="Load average of five minutes.")
    load_average_15m: float | None = Field(default=None, description="Load average of fifteen minutes.")
    disk_read_mb_s: float | None = Field(
        default=None, description="Read from disks since the sample before, MiB per second."
    )
    disk_write_mb_s: float | None = Field(
        default=None, description="Written to disks since the sample before, MiB per second."
    )
    processes: int | None = Field(default=None, description="Number of processes.")


class DiskMetrics(Label):
    """One mounted file system at one moment."""

    identity: ClassVar = ("mount_point", "timestamp")
    series: ClassVar = ("filesystem", "mount_point")

    filesystem: str = Field(description="Device or source of the mount.")
    mount_point: str = Field(description="Where it is mounted.")
    timestamp: datetime = Field(description="When it was measured.")
    used_gb: float | None = Field(default=None, description="Space used, in GiB.")
    available_gb: float | None = Field(default=None, description="Space left for ordinary users, in GiB.")
    use_percent: float | None = Field(
        default=None, description="Used part of the space ordinary users can have, in percent."
    )
    inodes_percent: float | None = Field(default=None, description="Used part of the inodes, in percent.")


class InterfaceMetrics(Label):
    """The traffic of one network interface at one moment."""

    identity: ClassVar = ("interface", "timestamp")
    series: ClassVar = ("interface",)

    interface: str = Field(description="Name of the interface.")
    timestamp: datetime = Field(description="When it was measured.")
    rx_mb_s: float | None = Field(
        default=None, description="Received since the sample before, MiB per second."
    )
    tx_mb_s: float | None = Field(default=None, description="Sent since the sample before, MiB per second.")
    errors: int | None = Field(default=None, description="Errors and drops since the sample before.")


class ProcessMetrics(Label):
    """One of the busiest processes at one moment."""

    identity: ClassVar = ("pid", "started_at", "timestamp")
    series: ClassVar = ("name", "pid", "started_at", "user")
    keep: ClassVar = timedelta(days=7)

    name: str = Field(description="Name of the program.")
    pid: int = Field(description="Process id.")
    started_at: datetime = Field(description="When the process started.")
    user: str | None = Field(default=None, description="Whose process it is.")
    timestamp: datetime = Field(description="When it was measured.")
    cpu_percent: float | None = Field(
        default=None, description="CPU time since the sample before, in percent of one core."
    )
    memory_mb: float | None = Field(default=None, description="Resident memory in MiB.")
