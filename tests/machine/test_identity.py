"""Who the watched machine is."""

import shutil
import subprocess
from pathlib import Path

import pytest

from watchman_mcp.errors import Absent
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.identity import APPLICATION, derived, host_id, new_id, running, steady

MACHINE = "0123456789abcdef0123456789abcdef"
DERIVED = "d2cb65e38c6547a2b8eb2cedb44d81e8"
"""What `systemd-id128 machine-id --app-specific` printed where MACHINE was the machine id."""


def put(root: Path, path: str, text: str) -> None:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def test_the_id_is_derived_from_the_machine_id_as_systemd_does(tmp_path: Path) -> None:
    put(tmp_path, "/etc/machine-id", MACHINE + "\n")

    assert host_id(Files(tmp_path)) == DERIVED


@pytest.mark.skipif(
    not shutil.which("systemd-id128") or not Path("/etc/machine-id").exists(),
    reason="needs a systemd machine",
)
def test_this_machine_has_the_id_that_systemd_tells_for_it() -> None:
    argv = ["systemd-id128", "machine-id", f"--app-specific={APPLICATION.hex()}"]
    told = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    assert host_id(Files()) == told


def test_another_application_gives_another_id() -> None:
    assert derived(bytes.fromhex(MACHINE), bytes(15) + b"\x01") != derived(bytes.fromhex(MACHINE))


@pytest.mark.parametrize(
    "unusable", ["", "\n", "uninitialized\n", MACHINE[:-1], MACHINE + "0", "0" * 32, "g" * 32, "\udcff" * 32]
)
def test_an_unusable_machine_id_gives_way_to_the_bus(tmp_path: Path, unusable: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_bytes(unusable.encode("utf-8", "surrogateescape"))
    put(tmp_path, "/var/lib/dbus/machine-id", MACHINE)

    assert host_id(Files(tmp_path)) == DERIVED


def test_the_firmware_id_comes_last(tmp_path: Path) -> None:
    put(tmp_path, "/sys/class/dmi/id/product_uuid", "01234567-89AB-CDEF-0123-456789ABCDEF\n")

    assert host_id(Files(tmp_path)) == DERIVED


@pytest.mark.parametrize("unset", ["Not Settable", "03000200-0400-0500-0006-000700080009", "0" * 32, ""])
def test_firmware_that_nobody_set_identifies_nothing(tmp_path: Path, unset: str) -> None:
    put(tmp_path, "/sys/class/dmi/id/product_uuid", unset)

    with pytest.raises(Absent, match="systemd-machine-id-setup"):
        host_id(Files(tmp_path))


def test_a_machine_without_an_id_takes_the_one_its_caller_keeps(tmp_path: Path) -> None:
    kept = new_id()

    assert host_id(Files(tmp_path), otherwise=kept) == kept


def test_the_kept_id_never_replaces_one_that_the_machine_has(tmp_path: Path) -> None:
    put(tmp_path, "/etc/machine-id", MACHINE)

    assert host_id(Files(tmp_path), otherwise=new_id()) == DERIVED


def test_a_new_id_has_the_shape_of_a_derived_one() -> None:
    first, second = new_id(), new_id()

    assert first != second
    assert len(first) == len(DERIVED) and int(first, 16)


def test_the_kernel_tells_what_it_runs_on() -> None:
    found = running()

    meminfo = Path("/proc/meminfo").read_text()
    assert f"{found.memory_total // 1024} kB" in meminfo
    assert found.kernel == Path("/proc/sys/kernel/osrelease").read_text().strip()
    assert f"btime {found.boot_time:.0f}\n" in Path("/proc/stat").read_text()
    assert found.cpu_count and found.name and found.architecture


@pytest.mark.parametrize(
    ("kept", "seen", "result"),
    [
        (None, 100.0, 100.0),
        (100.0, 101.0, 100.0),
        (100, 98.0, 100.0),
        (100.0, 102.5, 102.5),
        (100.0, 97.0, 97.0),
        ("100", 101.0, 101.0),
    ],
)
def test_a_start_time_stays_while_it_only_wobbles(kept: object, seen: float, result: float) -> None:
    assert steady(kept, seen) == result
