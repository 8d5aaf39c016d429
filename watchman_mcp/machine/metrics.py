"""Measures the running machine: processors, memory, disks, file systems, interfaces and processes.

Everything comes from /proc (where psutil looks: `psutil.PROCFS_PATH`) and from asking local file systems.
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import nlargest
from itertools import zip_longest
from typing import NamedTuple

import psutil

from watchman_mcp.machine.mounts import FileSystem, file_systems, read_mounts

Moment = tuple[int, int]
"""A process for good: its id, and the clock tick at which it started."""

TOP = 10
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of memory; `used` is what programs cannot get, as `free` counts it."""

    total: int
    used: int
    available: int
    cached: int
    swap_total: int
    swap_used: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """One interface since the sample before, in bytes per second."""

    interface: str
    received: float | None
    sent: float | None
    errors: int | None


@dataclass(frozen=True, slots=True)
class Process:
    """One process; `started` counts seconds since the machine's start, `cpu` is a share of one core."""

    pid: int
    started: float
    name: str
    uid: int | None
    cpu: float | None
    resident: int


@dataclass(slots=True)
class Sample:
    """Everything measured at one moment; None is what cannot be told, and `unseen` says why."""

    at: datetime
    boot_time: float | None = None
    cpu: float | None = None
    cores: list[float] | None = None
    load: tuple[float, float, float] | None = None
    memory: Memory | None = None
    disk_read: float | None = None
    disk_written: float | None = None
    file_systems: list[FileSystem] = field(default_factory=list)
    interfaces: list[Traffic] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    process_count: int | None = None
    unseen: list[tuple[str, str]] = field(default_factory=list)


class _Row(NamedTuple):
    """What the process table says of one process."""

    name: bytes
    ticks: int
    pages: int


@dataclass(slots=True)
class _Counters:
    """What only counts upwards, at one moment of one boot."""

    at: float
    boot: str
    cores: list[tuple[float, float]] = field(default_factory=list)
    disks: dict[str, tuple[int, int]] = field(default_factory=dict)
    interfaces: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    processes: dict[Moment, _Row] = field(default_factory=dict)


class Meter:
    """Takes samples, and remembers the counters of the last one: rates are differences."""

    def __init__(self, blocks: str = "/sys/block") -> None:
        self._blocks = blocks
        self._before: _Counters | None = None

    def sample(self, now: float | None = None) -> Sample:
        """Measure everything once; `now` is the monotonic clock's time, read here if it is not given.

        A part that cannot be measured is missing and said, the others are measured.
        """
        sample = Sample(datetime.fromtimestamp(time.time(), UTC))
        counters = _Counters(time.monotonic() if now is None else now, _boot())
        before = self._before
        if before is not None and (before.boot != counters.boot or before.at >= counters.at):
            before = None
        with _part("cpu", sample):
            self._processors(sample, counters, before)
        with _part("memory", sample):
            sample.memory = _memory()
        with _part("disks", sample):
            self._disks(sample, counters, before)
        with _part("file systems", sample):
            mounts = read_mounts(_text("self/mountinfo"))
            sample.file_systems = list(file_systems(mounts, sample.unseen))
        with _part("interfaces", sample):
            _interfaces(sample, counters, before)
        with _part("processes", sample):
            _processes(sample, counters, before)
        self._before = counters
        return sample

    def _processors(self, sample: Sample, counters: _Counters, before: _Counters | None) -> None:
        sample.boot_time = psutil.boot_time()
        first, second, third, *_ = _text("loadavg").split()
        sample.load = float(first), float(second), float(third)
        for core in psutil.cpu_times(percpu=True):
            busy = core.user + core.nice + core.system + core.irq + core.softirq + core.steal
            counters.cores.append((busy, core.idle + core.iowait))
        if before is None or len(before.cores) != len(counters.cores):
            return
        pairs = list(zip(counters.cores, before.cores, strict=True))
        shares = [_share(now[0] - then[0], now[1] - then[1]) for now, then in pairs]
        known = [share for share in shares if share is not None]
        sample.cores = known if len(known) == len(shares) else None
        sample.cpu = _share(sum(n[0] - t[0] for n, t in pairs), sum(n[1] - t[1] for n, t in pairs))

    def _disks(self, sample: Sample, counters: _Counters, before: _Counters | None) -> None:
        for name, disk in psutil.disk_io_counters(perdisk=True, nowrap=False).items():
            # Partitions have no directory there; loop, dm, md and zram devices have no hardware behind them.
            if os.path.exists(f"{self._blocks}/{name.replace('/', '!')}/device"):
                counters.disks[name] = disk.read_bytes, disk.write_bytes
        if before is None:
            return
        pairs = [(now, before.disks[name]) for name, now in counters.disks.items() if name in before.disks]
        if pairs:
            seconds = counters.at - before.at
            sample.disk_read = _rate((now[0] - then[0] for now, then in pairs), seconds)
            sample.disk_written = _rate((now[1] - then[1] for now, then in pairs), seconds)


def read_stat(line: bytes) -> tuple[int, _Row]:
    """When a process started, and its row, from its `stat` file; a name may hold spaces and brackets."""
    end = line.rindex(b")")
    fields = line[end + 2 :].split(None, 22)
    return int(fields[19]), _Row(
        line[line.index(b"(") + 1 : end], int(fields[11]) + int(fields[12]), int(fields[21])
    )


@contextmanager
def _part(what: str, sample: Sample) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError, LookupError) as error:
        sample.unseen.append((what, f"{error}; /proc must be mounted and readable"))


def _text(name: str) -> str:
    with open(f"{psutil.PROCFS_PATH}/{name}", "rb") as stream:
        return stream.read().decode("utf-8", "surrogateescape")


def _boot() -> str:
    with suppress(OSError):
        return _text("sys/kernel/random/boot_id")
    return ""


def _share(busy: float, idle: float) -> float | None:
    """The busy share of a stretch of time; None where a counter went backwards or nothing was counted."""
    return busy / (busy + idle) if busy >= 0 and idle >= 0 and busy + idle > 0 else None


def _rate(differences: Iterable[int], seconds: float) -> float | None:
    """The sum per second; None if any counter went backwards."""
    known = list(differences)
    return sum(known) / seconds if min(known) >= 0 else None


def _memory() -> Memory:
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    used = memory.total - memory.available
    return Memory(memory.total, used, memory.available, memory.cached + memory.buffers, swap.total, swap.used)


def _interfaces(sample: Sample, counters: _Counters, before: _Counters | None) -> None:
    for name, seen in psutil.net_io_counters(pernic=True, nowrap=False).items():
        if name == "lo":
            continue
        now = seen.bytes_recv, seen.bytes_sent, seen.errin + seen.errout + seen.dropin + seen.dropout
        counters.interfaces[name] = now
        then = before.interfaces.get(name) if before else None
        if before is None or then is None or any(a < b for a, b in zip(now, then, strict=True)):
            sample.interfaces.append(Traffic(name, None, None, None))
            continue
        seconds = counters.at - before.at
        rates = (now[0] - then[0]) / seconds, (now[1] - then[1]) / seconds
        sample.interfaces.append(Traffic(name, *rates, now[2] - then[2]))


def _processes(sample: Sample, counters: _Counters, before: _Counters | None) -> None:
    table = os.open(psutil.PROCFS_PATH, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        rows = counters.processes = dict(_table(table))
        if any(pid == 1 for pid, _ in rows):
            sample.process_count = len(rows)
        else:
            why = f"/proc hides other users' from uid {os.geteuid()}; its option hidepid says who may look"
            sample.unseen.append(("processes", why))
        spent: dict[Moment, int] = {}
        if before is not None:
            # One that was not there is new since, so all that it has used it used since.
            spent = {key: row.ticks - _ticks(before.processes.get(key)) for key, row in rows.items()}
        seconds = counters.at - before.at if before else 0.0
        for key in _busiest(rows, spent):
            used = spent.get(key, -1)
            cpu = used / _TICKS / seconds if used >= 0 else None
            row = rows[key]
            name = row.name.decode("utf-8", "surrogateescape")
            uid = _uid(table, key[0])
            sample.processes.append(Process(key[0], key[1] / _TICKS, name, uid, cpu, row.pages * _PAGE))
    finally:
        os.close(table)


def _table(table: int) -> Iterator[tuple[Moment, _Row]]:
    """All processes. One system call to open, read and close each: this is nearly all that a sample costs."""
    for name in os.listdir(table):
        if not name.isdecimal():
            continue
        try:
            started, row = read_stat(_small(table, f"{name}/stat"))
        except OSError:  # it has ended since, or belongs to somebody else and is hidden
            continue
        yield (int(name), started), row


def _small(table: int, name: str) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=table)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def _ticks(row: _Row | None) -> int:
    return row.ticks if row else 0


def _busiest(rows: dict[Moment, _Row], spent: dict[Moment, int]) -> list[Moment]:
    """The processes that matter: by turns the one with the most CPU time and the one with the most memory."""
    by_cpu = nlargest(TOP, (key for key, ticks in spent.items() if ticks > 0), key=lambda key: spent[key])
    by_memory = nlargest(
        TOP, (key for key, row in rows.items() if row.pages), key=lambda key: rows[key].pages
    )
    turns = dict.fromkeys(key for pair in zip_longest(by_cpu, by_memory) for key in pair if key)
    return list(turns)[:TOP]


def _uid(table: int, pid: int) -> int | None:
    """Whose rights a process has; None if it has ended since."""
    with suppress(OSError):
        for line in _small(table, f"{pid}/status").split(b"\n"):
            if line.startswith(b"Uid:"):
                return int(line.split()[2])
    return None
