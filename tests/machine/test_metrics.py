"""Samples of the running machine: rates, and what must not be counted twice or asked at all."""

import os
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from watchman_mcp.machine.metrics import Meter, Sample, read_stat

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
MEMINFO = """MemTotal: 1000 kB\nMemFree: 200 kB\nMemAvailable: 600 kB\nBuffers: 50 kB\nCached: 300 kB
SwapCached: 0 kB\nActive: 10 kB\nInactive: 10 kB\nShmem: 5 kB\nSReclaimable: 40 kB\nSlab: 60 kB
SwapTotal: 500 kB\nSwapFree: 400 kB\n"""


class Kernel:
    """A /proc and a /sys/block of files, which a test turns forward."""

    def __init__(self, place: Path) -> None:
        self.proc, self.blocks = place / "proc", place / "block"
        self.blocks.mkdir()
        self.boot("one")
        self.put("loadavg", "0.50 0.25 0.10 1/300 999\n")
        self.put("meminfo", MEMINFO)
        self.put("vmstat", "pswpin 0\npswpout 0\n")
        self.put("self/mountinfo", "")
        self.cores((0, 0), (0, 0))
        self.disks(vda=(0, 0))
        self.interfaces(eth0=(0, 0, 0))
        self.process(1, "init", 0, 10)
        (self.blocks / "vda/device").mkdir(parents=True)

    def put(self, name: str, text: str) -> None:
        (self.proc / name).parent.mkdir(parents=True, exist_ok=True)
        (self.proc / name).write_text(text)

    def boot(self, name: str) -> None:
        self.put("sys/kernel/random/boot_id", name)

    def cores(self, *cores: tuple[int, int]) -> None:
        """Busy and idle ticks of each core."""
        lines = [f"cpu{n} {busy} 0 0 {idle} 0 0 0 0 0 0" for n, (busy, idle) in enumerate(cores)]
        self.put("stat", "\n".join(["cpu 0 0 0 0 0 0 0 0 0 0", *lines, "btime 1700000000", ""]))

    def disks(self, **disks: tuple[int, int]) -> None:
        """Sectors read from and written to each block device."""
        line = "   8 0 {} 1 0 {} 0 1 0 {} 0 0 0 0 0 0 0 0 0 0\n"
        self.put("diskstats", "".join(line.format(name, *sectors) for name, sectors in disks.items()))

    def interfaces(self, **interfaces: tuple[int, int, int]) -> None:
        """Bytes received, bytes sent and packets dropped on each interface."""
        head = "Inter-| Receive | Transmit\n face |bytes packets errs drop | bytes packets\n"
        line = "{}: {} 0 0 {} 0 0 0 0 {} 0 0 0 0 0 0 0\n"
        rows = (line.format(name, got, dropped, sent) for name, (got, sent, dropped) in interfaces.items())
        self.put("net/dev", head + "".join(rows))

    def process(self, pid: int, name: str, ticks: int, pages: int, started: int = 5, uid: int = 0) -> None:
        self.put(
            f"{pid}/stat",
            f"{pid} ({name}) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 {started} 9 {pages} 0\n",
        )
        self.put(f"{pid}/status", f"Name:\t{name}\nUid:\t7\t{uid}\t7\t7\n")


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel(tmp_path)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(made.proc))
    return made


@pytest.fixture
def meter(kernel: Kernel) -> Meter:
    return Meter(str(kernel.blocks))


def test_the_first_sample_has_levels_and_no_rates(kernel: Kernel, meter: Meter) -> None:
    sample = meter.sample(100.0)

    assert sample.unseen == []
    assert sample.memory is not None
    assert (sample.memory.total, sample.memory.used, sample.memory.available) == (
        1000 << 10,
        400 << 10,
        600 << 10,
    )
    assert (sample.memory.cached, sample.memory.swap_total, sample.memory.swap_used) == (
        390 << 10,
        500 << 10,
        100 << 10,
    )
    assert (sample.load, sample.boot_time, sample.process_count) == ((0.5, 0.25, 0.1), 1700000000.0, 1)
    assert (sample.cpu, sample.cores, sample.disk_read, sample.disk_written) == (None,) * 4
    assert [(t.interface, t.received, t.sent, t.errors) for t in sample.interfaces] == [
        ("eth0", None, None, None)
    ]
    assert [(p.name, p.cpu) for p in sample.processes] == [("init", None)]


def test_rates_are_the_differences_between_two_samples(kernel: Kernel, meter: Meter) -> None:
    meter.sample(100.0)
    kernel.cores((100, 100), (0, 200))
    kernel.disks(vda=(40, 80))
    kernel.interfaces(eth0=(1000, 500, 3))
    kernel.process(1, "init", 2 * TICKS, 10)

    sample = meter.sample(110.0)

    assert (sample.cpu, sample.cores) == (0.25, [0.5, 0.0])
    assert (sample.disk_read, sample.disk_written) == (40 * 512 / 10, 80 * 512 / 10)
    assert [(t.interface, t.received, t.sent, t.errors) for t in sample.interfaces] == [
        ("eth0", 100.0, 50.0, 3)
    ]
    assert [(p.name, p.cpu) for p in sample.processes] == [("init", pytest.approx(0.2))]


def test_nothing_written_once_is_counted_twice(kernel: Kernel, meter: Meter) -> None:
    names = ("vda", "vda1", "dm-0", "loop0", "md0", "zram0")
    for name in names:
        (kernel.blocks / name).mkdir(exist_ok=True)
    kernel.disks(**dict.fromkeys(names, (0, 0)))
    meter.sample(100.0)
    kernel.disks(**dict.fromkeys(names, (20, 20)))

    sample = meter.sample(110.0)

    assert (sample.disk_read, sample.disk_written) == (1024.0, 1024.0)


def test_a_disk_plugged_in_counts_from_the_next_sample(kernel: Kernel, meter: Meter) -> None:
    (kernel.blocks / "sdb/device").mkdir(parents=True)
    meter.sample(100.0)
    kernel.disks(vda=(20, 0), sdb=(5000, 0))
    assert meter.sample(110.0).disk_read == 1024.0
    kernel.disks(vda=(20, 0), sdb=(5020, 0))

    assert meter.sample(120.0).disk_read == 1024.0


def test_a_counter_that_went_backwards_is_unknown_and_the_others_are_not(
    kernel: Kernel, meter: Meter
) -> None:
    kernel.cores((50, 50), (0, 100))
    kernel.disks(vda=(100, 0))
    kernel.interfaces(eth0=(1000, 0, 0), eth1=(0, 0, 0))
    meter.sample(100.0)
    kernel.cores((10, 60), (50, 150))
    kernel.disks(vda=(90, 20))
    kernel.interfaces(eth0=(10, 10, 0), eth1=(10, 10, 0))

    sample = meter.sample(110.0)

    assert sample.cores is None
    assert (sample.disk_read, sample.disk_written) == (None, 1024.0)
    assert [(t.received, t.sent, t.errors) for t in sample.interfaces] == [(None, None, None), (1.0, 1.0, 0)]


def test_a_reboot_between_two_samples_leaves_no_rates(kernel: Kernel, meter: Meter) -> None:
    meter.sample(100.0)
    kernel.boot("two")
    kernel.cores((100, 100), (100, 100))
    kernel.disks(vda=(40, 80))
    kernel.interfaces(eth0=(1000, 500, 3))

    sample = meter.sample(110.0)

    assert (sample.cpu, sample.disk_read, sample.interfaces[0].received, sample.processes[0].cpu) == (
        None,
    ) * 4


def test_the_loopback_interface_is_left_out(kernel: Kernel, meter: Meter) -> None:
    kernel.interfaces(lo=(9, 9, 0), eth0=(9, 9, 0))

    assert [traffic.interface for traffic in meter.sample(100.0).interfaces] == ["eth0"]


def test_a_process_that_began_since_has_used_all_its_time_since(kernel: Kernel, meter: Meter) -> None:
    kernel.process(50, "old", 900 * TICKS, 1)
    meter.sample(100.0)
    kernel.process(50, "new", 5 * TICKS, 1, started=6)

    found = {process.name: process.cpu for process in meter.sample(110.0).processes}

    assert found == {"new": pytest.approx(0.5), "init": 0.0}


def test_the_busiest_ten_are_the_hungriest_by_time_and_by_memory(kernel: Kernel, meter: Meter) -> None:
    for number in range(30):
        kernel.process(100 + number, f"large{number}", 0, 1000 - number)
        kernel.process(200 + number, f"quick{number}", 0, 0)
    meter.sample(100.0)
    for number in range(30):
        kernel.process(200 + number, f"quick{number}", 100 - number, 0)

    sample = meter.sample(110.0)

    expected = [f"{word}{number}" for number in range(5) for word in ("quick", "large")]
    assert [process.name for process in sample.processes] == expected
    assert sample.process_count == 61


def test_a_process_says_whose_rights_it_has_and_when_it_started(kernel: Kernel, meter: Meter) -> None:
    kernel.process(1, "init", 0, 3, started=7 * TICKS, uid=1000)

    (process,) = meter.sample(100.0).processes

    assert (process.pid, process.uid, process.started, process.resident) == (1, 1000, 7.0, 3 * PAGE)


@pytest.mark.parametrize("name", [b"a) S 1 (b", b"two words", b"", b"line\nbreak", b"\xff\xfe"])
def test_no_name_of_a_process_moves_its_numbers(name: bytes) -> None:
    numbers = b" S 1 1 1 0 -1 0 0 0 0 0 30 12 0 0 20 0 1 0 777 9 64 0\n"

    assert read_stat(b"9 (" + name + b")" + numbers) == (777, (name, 42, 64))


def test_processes_that_proc_hides_are_said_and_not_counted(kernel: Kernel, meter: Meter) -> None:
    kernel.process(77, "mine", 0, 1)
    (kernel.proc / "1/stat").unlink()

    sample = meter.sample(100.0)

    assert (sample.process_count, [process.name for process in sample.processes]) == (None, ["mine"])
    assert [what for what, _ in sample.unseen] == ["processes"]


def test_a_part_that_cannot_be_read_costs_only_itself(kernel: Kernel, meter: Meter) -> None:
    (kernel.proc / "net/dev").unlink()
    (kernel.proc / "meminfo").write_text("nonsense")

    sample = meter.sample(100.0)

    assert (sample.memory, sample.interfaces) == (None, [])
    assert [what for what, _ in sample.unseen] == ["memory", "interfaces"]
    assert sample.process_count == 1


def test_a_file_system_mounted_in_several_places_is_one(kernel: Kernel, meter: Meter, tmp_path: Path) -> None:
    places = [tmp_path / "longer path", tmp_path / "data"]
    for place in places:
        place.mkdir()
    (tmp_path / "h").write_text("a file, as a container's /etc/hosts is")
    points = [str(place).replace(" ", r"\040") for place in (*places, tmp_path / "h", tmp_path / "gone")]
    lines = [f"{n} 1 8:1 /{n} {point} rw - ext4 /dev/sda1 rw" for n, point in enumerate(points, 50)]
    kernel.put("self/mountinfo", "\n".join(lines))

    sample = meter.sample(100.0)

    truth = os.statvfs(tmp_path)
    assert [(f.source, f.mount_point) for f in sample.file_systems] == [("/dev/sda1", str(tmp_path / "data"))]
    assert sample.file_systems[0].size == truth.f_blocks * truth.f_frsize
    assert sample.unseen == []


def test_a_file_system_behind_a_remote_one_is_said(kernel: Kernel, meter: Meter, tmp_path: Path) -> None:
    lines = (
        f"50 1 0:9 / {tmp_path} rw - nfs server:/ rw\n51 50 8:1 / {tmp_path}/disk rw - ext4 /dev/sda1 rw\n"
    )
    kernel.put("self/mountinfo", lines)

    sample = meter.sample(100.0)

    assert sample.file_systems == []
    assert [what for what, _ in sample.unseen] == [f"{tmp_path}/disk"]


def test_a_real_sample_knows_what_this_process_used() -> None:
    meter = Meter()
    began = time.monotonic()
    meter.sample()
    spent = time.process_time()
    while time.process_time() - spent < 0.3:
        sum(range(1000))
    used = time.process_time() - spent
    sample = meter.sample()
    elapsed = time.monotonic() - began

    share = pytest.approx(used / elapsed, rel=0.35)
    mine = [process for process in sample.processes if process.pid == os.getpid()]
    if not mine:  # on a busy machine five others may have used more
        assert sum(1 for process in sample.processes if (process.cpu or 0) >= used / elapsed * 0.65) >= 5
        return
    assert (mine[0].uid, mine[0].cpu) == (os.geteuid(), share)
    assert sample.cpu is not None and 0 < sample.cpu <= 1
    assert sample.boot_time is not None
    assert sample.boot_time + mine[0].started == pytest.approx(psutil.Process().create_time(), abs=2)


def test_two_samples_of_the_same_moment_have_no_rates(kernel: Kernel, meter: Meter) -> None:
    first = meter.sample(100.0)

    second = meter.sample(100.0)

    assert isinstance(second, Sample)
    assert replace(second, at=first.at) == first
