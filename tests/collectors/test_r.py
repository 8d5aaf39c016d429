"""R packages: what case files cannot lay out, and how R orders versions."""

from pathlib import Path

import pytest

from tests.collectors.test_cases import look_at, plant
from watchman_mcp.collectors import r
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.versions.r import compare
from watchman_mcp.schema.packages import Owner

LIBRARY = "/home/ana/R/x86_64-pc-linux-gnu-library/4.2"
PASSWD = "ana:x:1000:1000::/home/ana:/bin/bash\n"
PACKAGE = "Package: R6\nVersion: 2.5.1\nBuilt: R 4.2.2; ; 2023-01-20 18:24:19 UTC; unix\n"


@pytest.mark.parametrize(
    ("one", "other", "order"),
    [
        ("1.9", "1.10", -1),
        ("7.3-58.2", "7.3.58.2", 0),
        ("7.3-58.2", "7.3-6", 1),
        ("1.0", "1.0.0", 0),
        ("1.0.0.1", "1.0", 1),
        ("0.0.0.9000", "0.1", -1),
        ("2024.01-1", "2024.1.1", 0),
    ],
)
def test_versions_sort_as_rs_package_version_sorts_them(one: str, other: str, order: int) -> None:
    assert (compare(one, other), compare(other, one)) == (order, -order)


@pytest.mark.parametrize("version", ["", "1.", "-1", "1..2", "1.0a", "1 2", "٣", "1" * 300])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(ValueError, match="no version"):
        compare(version, "1")


@pytest.mark.parametrize(
    ("path", "owners"),
    [
        (f"{LIBRARY}/R6/R/R6.rdb", [Owner("r", "r6", None, LIBRARY)]),
        (f"{LIBRARY}/R6/DESCRIPTION", [Owner("r", "r6", None, LIBRARY)]),
        (f"{LIBRARY}/R6", []),
        (f"{LIBRARY}/source/DESCRIPTION", []),
        (f"{LIBRARY}/00LOCK-R6/R6/DESCRIPTION", []),
        ("/srv/library/R6/DESCRIPTION", []),
    ],
)
def test_a_package_owns_what_is_in_its_directory(tmp_path: Path, path: str, owners: list[Owner]) -> None:
    files: dict[str, str | None] = {"/etc/passwd": PASSWD, "/srv/library/R6/DESCRIPTION": PACKAGE}
    files |= {f"{LIBRARY}/R6/DESCRIPTION": PACKAGE, f"{LIBRARY}/source/DESCRIPTION": "Package: source\n"}
    plant(tmp_path, files | {f"{LIBRARY}/00LOCK-R6/R6/DESCRIPTION": PACKAGE})

    assert list(r.owner(Machine(Files(tmp_path), Commands(), tmp_path), {path})) == owners


def test_a_persons_library_is_watched(tmp_path: Path) -> None:
    plant(tmp_path, {"/etc/passwd": PASSWD, f"{LIBRARY}/R6/DESCRIPTION": PACKAGE})
    look = look_at(tmp_path, "r")

    list(r.collect(look))

    assert look.watched == {LIBRARY}


def test_packages_that_cannot_be_read_are_no_absence(tmp_path: Path) -> None:
    plant(tmp_path, {"/usr/lib/R/library/R6/DESCRIPTION": None})
    look = look_at(tmp_path, "r")

    assert list(r.collect(look)) == []
    assert [one.what for one in look.unobserved] == ["r:/usr/lib/R/library/R6"]
