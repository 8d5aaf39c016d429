"""What an answer about the machine's load looks like."""

from __future__ import annotations

from pydantic import BaseModel

from watchman_mcp.tools.answers import Answer, Tail


class Series(BaseModel):
    """One measured value over time."""

    of: str
    metric: str
    start: str | None = None
    step_seconds: int | None = None
    values: list[float | None] | None = None
    min: float | None = None
    mean: float | None = None
    max: float | None = None
    chart: str | None = None


class Disk(BaseModel):
    """One file system."""

    mount_point: str
    filesystem: str
    used_gb: float | None = None
    available_gb: float | None = None
    use_percent: float | None = None
    inodes_percent: float | None = None
    full_in: str | None = None


class Traffic(BaseModel):
    """One network interface."""

    interface: str
    rx_mb_s: float | None = None
    tx_mb_s: float | None = None
    errors: int | None = None


class Process(BaseModel):
    """One of the busiest processes."""

    name: str
    pid: int
    user: str | None = None
    cpu_percent: float | None = None
    memory_mb: float | None = None
    started_at: str | None = None


class Load(BaseModel):
    """The whole machine."""

    cpu_percent: float | None = None
    cpu_per_core: list[float] | None = None
    load_average_1m: float | None = None
    load_average_5m: float | None = None
    load_average_15m: float | None = None
    memory_used_gb: float | None = None
    memory_total_gb: float | None = None
    memory_available_gb: float | None = None
    memory_cached_gb: float | None = None
    swap_used_gb: float | None = None
    swap_total_gb: float | None = None
    disk_used_gb: float | None = None
    disk_total_gb: float | None = None
    disk_read_mb_s: float | None = None
    disk_write_mb_s: float | None = None
    processes: int | None = None


class HostLine(BaseModel):
    """One of several machines."""

    host: str
    os: str | None = None
    heard: str | None = None
    problems: list[str] | None = None
    cpu_percent: float | None = None
    load_average_1m: float | None = None
    memory_used_gb: float | None = None
    memory_total_gb: float | None = None
    fullest: str | None = None
    packages: int | None = None
    changes_today: int | None = None


class MetricsAnswer(Answer, Tail):
    """What was measured, now or over time."""

    now: Load | None = None
    disks: list[Disk] | None = None
    network: list[Traffic] | None = None
    processes: list[Process] | None = None
    series: list[Series] | None = None
    hosts: list[HostLine] | None = None
