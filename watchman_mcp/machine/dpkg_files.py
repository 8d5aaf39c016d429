"""What lies in dpkg's directory: its state, and the files of each package."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime

from watchman_mcp.errors import Absent
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.unit_files import DIRECTORIES, service_of

STATUS = "/var/lib/dpkg/status"
SINGLE = "/var/lib/dpkg/status.d"
LISTS = "/var/lib/dpkg/info"
ENDING = ".list"

_UNITS = tuple(f"\n{directory}/".encode() for directory in DIRECTORIES)


def read_state(files: Files) -> tuple[str, str]:
    """The text of dpkg's state, and the status of a stanza in it that says none.

    Raises: Absent, Denied, Broken.
    """
    if files.exists(STATUS):
        return files.text(STATUS), ""
    if not files.exists(SINGLE):
        raise Absent(f"{STATUS} is not on this machine: it has no Debian packages")
    with files.directory(SINGLE) as directory:
        names = [e.name for e in directory.entries() if e.kind == "file" and not e.name.endswith(".md5sums")]
        text = "\n\n".join([directory.text(name).strip("\n") for name in names])
        return text + "\n\n", "install ok installed"


def unpacked(files: Files) -> dict[str, datetime]:
    """When the file list of each package, NAME or NAME:ARCH, was written, which is when it was unpacked."""
    found = [e for e in files.entries(LISTS) if e.name.endswith(ENDING)] if files.exists(LISTS) else []
    return {e.name.removesuffix(ENDING): datetime.fromtimestamp(e.mtime, UTC) for e in found}


def services(files: Files) -> dict[str, list[str]]:
    """The services whose unit files each package, NAME or NAME:ARCH, owns."""
    return {
        package: names
        for package, text in _lists(files)
        if any(directory in text for directory in _UNITS)
        and (names := sorted({name for path in _lines(text) if (name := service_of(path))}))
    }


def owners(files: Files, paths: Collection[str]) -> Iterator[tuple[str, str | None]]:
    """Name and architecture, where it is said, of the packages that own a file known by any of these paths.

    Raises: Absent (no Debian packages), Denied, Broken.
    """
    wanted = [f"\n{path}\n".encode("utf-8", "surrogateescape") for path in paths]
    for package, text in _lists(files):
        if any(path in text for path in wanted):
            name, _, arch = package.partition(":")
            yield name, arch or None


def conffiles(value: str) -> Iterator[str]:
    """The paths in a stanza's `Conffiles`: one a line, then its checksum, then what is special about it."""
    for line in value.split("\n"):
        path, *rest = line.rsplit(" obsolete", 1)[0].rsplit(" remove-on-upgrade", 1)[0].rsplit(" ", 1)
        if rest and path.startswith("/") and not line.endswith(" obsolete"):
            yield path


def _lists(files: Files) -> Iterator[tuple[str, bytes]]:
    """Each package with its list of files, which begins and ends with a line end."""
    with files.directory(LISTS) as directory:
        for entry in directory.entries():
            if entry.kind == "file" and entry.name.endswith(ENDING):
                yield (
                    entry.name.removesuffix(ENDING),
                    b"\n" + directory.read(entry.name).rstrip(b"\n") + b"\n",
                )


def _lines(text: bytes) -> list[str]:
    return text.decode("utf-8", "surrogateescape").split("\n")
