"""The files of packages of rpm: who owns one, and which services and configuration files they brought."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from watchman_mcp.errors import Broken
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.paths import printable
from watchman_mcp.machine.rpm import VALUE, Package, full_version, plain, read_query
from watchman_mcp.machine.rpm_database import package_format, query, shown
from watchman_mcp.machine.rpm_headers import File, read_entries, read_package
from watchman_mcp.machine.rpm_sqlite import copied
from watchman_mcp.machine.unit_files import DIRECTORIES, service_of

T = TypeVar("T")
CONFIGURATION = "/etc/"

_CONFIG = 1
"""The flag of a file that is configuration."""
FORMAT = (
    "N %{NAME:shescape} %{EPOCH:shescape} %{VERSION:shescape} %{RELEASE:shescape} %{ARCH:shescape}\n"
    "[D %{DIRNAMES:shescape}\n]"
    "[F %{FILEFLAGS} %{DIRINDEXES} %{BASENAMES:shescape}\n]"
)
"""The format in which rpm is asked for files."""
_LINE = re.compile(rf"([NDF])((?: {VALUE})++)\n")
_VALUES = re.compile(VALUE)
_FILE = re.compile(rf"F ([0-9]{{1,10}}+) ([0-9]{{1,10}}+) ({VALUE})\n")
_NO_CONFIGS = re.compile(r"(?:F [0-9]{0,9}[02468] [0-9]{1,10}+ '[^'\n]*+'\n)++")
"""Files that are no configuration, which most are, in one step."""


class Brought(NamedTuple):
    """What one package put where others look for it; kept as JSON as it is."""

    name: str
    arch: str
    version: str
    services: list[str]
    configs: list[str]


def brought(machine: Machine) -> list[Brought]:
    """The services and configuration files of each package that has any.

    Raises: Absent, Denied, Broken.
    """
    with shown(machine) as (path, directory):
        if directory:
            return list(read_brought(query(machine.commands, directory, "-qa", "--queryformat", FORMAT)))
        return [one for one in _read(machine.files, path, _of_header) if one]


def owners(machine: Machine, paths: Collection[str]) -> Iterator[Package]:
    """The packages that own a file known by any of these paths.

    Raises: Absent, Denied, Broken.
    """
    with shown(machine) as (path, directory):
        if directory:
            for wanted in paths:
                yield from asked(machine.commands, directory, wanted)
            return
        names = [wanted.rpartition("/")[2].encode("utf-8", "surrogateescape") for wanted in paths]

        def owning(blob: bytes) -> Package | None:
            # To look for bytes is quick, to read all paths is not.
            likely = any(name in blob for name in names)
            return read_package(blob) if likely and _owns(blob, paths) else None

        yield from (one for one in _read(machine.files, path, owning) if one)


def _owns(blob: bytes, paths: Collection[str]) -> bool:
    return any(file.path in paths and file.in_place for file in read_entries(blob)[3])


def _read(files: Files, path: str, read: Callable[[bytes], T]) -> Iterator[T]:
    """What `read` finds in the header of each package in a database of the backend sqlite.

    Raises: Absent, Denied, Broken.
    """
    with copied(files, path) as connection:
        try:
            for (blob,) in connection.execute("SELECT blob FROM Packages ORDER BY hnum"):
                yield read(blob)
        except (ValueError, TypeError) as error:
            raise Broken(f"{printable(path)} is damaged: {error}; run rpm --rebuilddb") from error


def asked(commands: Commands, directory: str, path: str) -> list[Package]:
    """The packages that own this file, as rpm tells of the database in a directory.

    Raises: Absent (no rpm), Denied, Broken.
    """
    words = ["-qf", "--queryformat", package_format(commands), "--", path]
    answer = commands.run(["rpm", "--dbpath", directory, *words], timeout=60)
    if not answer.code:
        return read_query(answer.stdout)
    if "is not owned by any package" in answer.stdout or answer.stderr.startswith("error: file "):
        return []
    said = (answer.stderr.strip().split("\n") or [""])[0] or f"it ended with {answer.code}"
    raise Broken(f"rpm cannot tell who owns a file: {said[:200]}; run `rpm -qf` by hand")


def _of_header(blob: bytes) -> Brought | None:
    name, version, arch, files = read_entries(blob)
    return _collected(name, arch, version, files)


def _collected(name: str, arch: str, version: str, files: Iterable[File]) -> Brought | None:
    services, configs = set[str](), list[str]()
    for file in files:
        if file.flags & _CONFIG and file.path.startswith(CONFIGURATION):
            configs.append(file.path)
        if service := service_of(file.path):
            services.add(service)
    found = Brought(name, arch, version, sorted(services), sorted(configs))
    return found if services or configs else None


def read_brought(text: str) -> Iterator[Brought]:
    """The same from rpm's answer in the format of files.

    Raises: Broken.
    """
    place = 0
    who: tuple[str, str, str] | None = None
    directories: list[str] = []
    files: list[File] = []
    units = False
    while place < len(text):
        if not units and (match := _NO_CONFIGS.match(text, place)):
            pass
        elif match := _FILE.match(text, place):
            files.append(_file(match, directories))
        elif match := _LINE.match(text, place):
            values = [plain(value) for value in _VALUES.findall(match[2])]
            if match[1] == "F" and values != [None] * 3:  # which says that there is none
                raise Broken("rpm's answer about files cannot be understood; run `rpm -qal` by hand")
            if match[1] == "N":
                if who and (one := _collected(*who, files)):
                    yield one
                who, directories, files, units = _identity(values), [], [], False
            elif match[1] == "D" and values[0] is not None:
                directories.append(values[0])
                units = units or values[0].rstrip("/") in DIRECTORIES
        else:
            raise Broken("rpm's answer about files cannot be understood; run `rpm -qal` by hand")
        place = match.end()
    if who and (one := _collected(*who, files)):
        yield one


def _file(match: re.Match[str], directories: Sequence[str]) -> File:
    flags, index = int(match[1]), int(match[2])
    if index >= len(directories):
        raise Broken("rpm tells of a file in no directory; run `rpm -qal` by hand")
    return File(directories[index] + (plain(match[3]) or ""), flags)


def _identity(values: list[str | None]) -> tuple[str, str, str]:
    if len(values) != 5:
        raise Broken("rpm's answer about files cannot be understood; run `rpm -qal` by hand")
    name, epoch, version, release, arch = values
    return name or "", arch or "", full_version(epoch, version or "", release or "")
