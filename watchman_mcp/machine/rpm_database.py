"""Finds rpm's database, whichever of its backends holds it, and reads it by rpm or by itself."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from watchman_mcp.errors import Absent, Broken
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.paths import printable
from watchman_mcp.machine.rpm import KEYS, QUERY, Package, read_query, wanted_files, without_modules
from watchman_mcp.machine.rpm_headers import read_files, read_package
from watchman_mcp.machine.rpm_sqlite import copied

PLACES = ("/usr/lib/sysimage/rpm", "/var/lib/rpm", "/usr/share/rpm")
SQLITE = "rpmdb.sqlite"
BACKENDS = {SQLITE: "sqlite", "Packages.db": "ndb", "Packages": "bdb"}
"""The files in which rpm's backends keep the packages."""
Owners = Mapping[str, Sequence[tuple[str, str]]]

_TIMEOUT = 60
_OUTPUT = 128 << 20
_COPY_CAP = 512 << 20
_OWNER = "[O %{NAME:shescape} %{ARCH:shescape}\n]"
_OWNED = re.compile(r"O '([^']*)' '([^']*)'")
_UNKNOWN = "the rpm installed here cannot read {}; use one that knows its backend"
_NOBODY = "watchman: which package provides this?"
_PAUSE = f"no package provides {_NOBODY}"
"""What rpm says between the owners of one file and those of the next."""


class Database(NamedTuple):
    """The installed packages, and which of them own the files that others require."""

    packages: list[Package]
    owners: Owners


def find_database(files: Files) -> str:
    """The path of the file that holds the packages.

    Raises: Absent, Denied, Broken.
    """
    for place in PLACES:
        for name in BACKENDS:
            if files.exists(path := f"{place}/{name}"):
                return path
    raise Absent(f"no rpm database is on this machine (looked in {', '.join(PLACES)})")


def read_database(machine: Machine) -> Database:
    """The database of the machine: on the running one by its rpm, elsewhere in a copy.

    Raises: Absent, Denied, Broken.
    """
    with shown(machine) as (path, directory):
        return ask_rpm(machine.commands, directory) if directory else read_sqlite(machine.files, path)


@contextmanager
def shown(machine: Machine) -> Iterator[tuple[str, str]]:
    """The file that holds the packages, and where the rpm here may be asked about them.

    The latter is empty where the file is to be read without rpm. rpm makes files beside a database that it
    reads, and a new database where it does not know the backend, so it is shown none but its own.

    Raises: Absent, Denied, Broken.
    """
    path = find_database(machine.files)
    directory, _, name = path.rpartition("/")
    if machine.live and _backend(machine.commands) == BACKENDS[name]:
        yield path, directory
        return
    if name == SQLITE:
        yield path, ""
        return
    with TemporaryDirectory(prefix="watchman-") as place:
        Path(place, name).write_bytes(machine.files.read(path, _COPY_CAP))
        try:
            yield path, place
        except Absent as error:
            raise Broken(f"{printable(path)} can be read by rpm alone; install the package rpm") from error
        except Broken as error:
            raise Broken(f"{_UNKNOWN.format(printable(path))} ({error})") from error
        if Path(place, SQLITE).exists():  # it made a database of its own beside one that it does not know
            raise Broken(_UNKNOWN.format(printable(path)))


def _backend(commands: Commands) -> str:
    """The backend that the rpm of this machine is set to; empty where there is no rpm."""
    try:
        told = commands.run(["rpm", "--eval", "%{_db_backend}"]).stdout.strip()
    except Absent:
        return ""
    return "bdb" if told in ("", "%{_db_backend}") else told  # before there was a choice


def read_sqlite(files: Files, path: str) -> Database:
    """The database of the backend sqlite, read without rpm.

    Raises: Absent, Denied, Broken.
    """
    with copied(files, path) as connection:
        rows = connection.execute("SELECT blob FROM Packages ORDER BY hnum")
        try:
            packages = [package for (blob,) in rows if (package := read_package(blob)).name != KEYS]
            owners: dict[str, list[tuple[str, str]]] = {name: [] for name in wanted_files(packages)}
            for (blob,) in connection.execute("SELECT blob FROM Packages") if owners else ():
                who, paths = read_files(blob)
                for owned in owners.keys() & set(paths):
                    owners[owned].append(who)
        except (ValueError, TypeError) as error:
            raise Broken(f"{printable(path)} is damaged: {error}; run rpm --rebuilddb") from error
    return Database(packages, owners)


def ask_rpm(commands: Commands, directory: str) -> Database:
    """The database in this directory, as the rpm of the machine that Watchman runs on reads it.

    Raises: Absent (no rpm), Denied, Broken.
    """
    packages = read_query(query(commands, directory, "-qa", "--queryformat", package_format(commands)))
    wanted = wanted_files(packages)
    if not wanted:
        return Database(packages, {})
    words = [word for path in wanted for word in (path, _NOBODY)]
    told = commands.run(
        ["rpm", "--dbpath", directory, "-q", "--whatprovides", "--queryformat", _OWNER, *words],
        timeout=_TIMEOUT,
        output_cap=_OUTPUT,
    )
    return Database(packages, _owners(wanted, told.stdout))


def query(commands: Commands, directory: str, *words: str) -> str:
    """What rpm answers about all packages of this directory.

    Raises: Absent (no rpm), Denied, Broken.
    """
    answer = commands.run(["rpm", "--dbpath", directory, *words], timeout=_TIMEOUT, output_cap=_OUTPUT)
    complaint = next((line for line in answer.stderr.split("\n") if line.startswith("error:")), "")
    if answer.code or complaint:
        # A database that is read in part would make packages vanish.
        said = complaint or f"it ended with {answer.code}"
        raise Broken(f"rpm cannot read {printable(directory)}: {said[:200]}; run `rpm -qa` by hand")
    return answer.stdout


def package_format(commands: Commands) -> str:
    """The format in which this rpm can be asked for packages: before 4.15 most do not know of modules.

    Raises: Absent (no rpm), Denied, Broken.
    """
    known = commands.run(["rpm", "--querytags"]).stdout.split()
    return QUERY if "MODULARITYLABEL" in known else without_modules(QUERY)


def _owners(wanted: list[str], answer: str) -> Owners:
    parts = answer.split(_PAUSE)
    if len(parts) != len(wanted) + 1:
        return {}  # an rpm that answers in other words: who owns a file is not known
    return {path: _OWNED.findall(part) for path, part in zip(wanted, parts[:-1], strict=True)}
