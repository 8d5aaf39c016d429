"""Who owns a file is asked of every manager that can tell, by every name the file may have."""

from collections.abc import Collection, Iterator
from pathlib import Path

from tests.collectors.test_cases import plant
from watchman_mcp.collectors import Collector, load, minutes
from watchman_mcp.errors import Absent, Denied
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.ownership import Owners
from watchman_mcp.schema.packages import Owner, Software

LISTS = "/var/lib/dpkg/info"


def owners(root: Path, *collectors: Collector) -> Owners:
    return Owners(Machine(Files(root), Commands(), root), collectors or load())


def collector(name: str, *found: Owner, error: Exception | None = None) -> Collector:
    def owner(_machine: Machine, _paths: Collection[str]) -> Iterator[Owner]:
        if error:
            raise error
        yield from found

    return Collector(lambda _look: iter(()), (Software,), minutes(60), owner=owner, name=name)


def test_a_file_is_found_by_its_name_before_and_after_its_directory_moved_below_usr(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            f"{LISTS}/coreutils.list": "/.\n/bin\n/bin/ls\n",
            f"{LISTS}/tar:amd64.list": "/.\n/usr/bin/tar\n",
            "/usr/bin/ls": "",
            "/usr/bin/tar": "",
        },
        {"/bin": "usr/bin"},
    )
    ask = owners(tmp_path)

    for path in ("/bin/ls", "/usr/bin/ls"):
        assert ask(path).owners == {"apt": [Owner("apt", "coreutils")]}
    for path in ("/bin/tar", "/usr/bin/tar"):
        assert ask(path).owners == {"apt": [Owner("apt", "tar", "amd64")]}
        assert ask(path).real == "/usr/bin/tar"


def test_a_link_is_owned_by_who_made_it_and_by_who_owns_what_it_leads_to(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {f"{LISTS}/a.list": "/usr/bin/link\n", f"{LISTS}/b.list": "/usr/bin/file\n", "/usr/bin/file": ""},
        {"/usr/bin/link": "file"},
    )

    assert owners(tmp_path)("/usr/bin/link").owners == {"apt": [Owner("apt", "a"), Owner("apt", "b")]}


def test_a_part_of_a_path_or_a_directory_s_neighbour_is_owned_by_nobody(tmp_path: Path) -> None:
    plant(tmp_path, {f"{LISTS}/a.list": "/usr/bin/tool-extra\n/opt/usr/bin/tool", "/usr/bin/tool": ""})

    found = owners(tmp_path)("/usr/bin/tool")

    assert (found.owners, found.real, found.refused) == ({}, "/usr/bin/tool", {})


def test_a_file_that_is_gone_is_still_known_by_its_name(tmp_path: Path) -> None:
    plant(tmp_path, {f"{LISTS}/a.list": "/.\n/usr/bin/gone"})

    found = owners(tmp_path)("/usr/bin/gone")

    assert (found.owners, found.real) == ({"apt": [Owner("apt", "a")]}, "")


def test_a_manager_that_is_not_here_is_silent_and_one_that_refuses_is_named(tmp_path: Path) -> None:
    ask = owners(
        tmp_path,
        collector("one", Owner("one", "x"), Owner("one", "x")),
        collector("two", error=Absent("not here")),
        collector("three", error=Denied("may not be read")),
    )

    found = ask("/usr/bin/x")

    assert found.owners == {"one": [Owner("one", "x")]}
    assert found.refused == {"three": "may not be read"}
