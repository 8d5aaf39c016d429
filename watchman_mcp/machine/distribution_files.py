"""The files of Python distributions, by the lists that their installers wrote."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from posixpath import normpath

from watchman_mcp.errors import Absent, Broken, WatchmanError
from watchman_mcp.machine.distributions import read_metadata
from watchman_mcp.machine.files import Directory, Entry, Files

LIST_CAP = 64 << 20
METADATA_CAP = 2 << 20


def owners(files: Files, sites: Collection[str], paths: Collection[str]) -> Iterator[tuple[str, str | None]]:
    """Name and installer of the distributions in these directories that own a file known by these paths.

    A distribution without a list of files owns none. One list is in memory at a time.

    Raises: Denied, Broken (where no list that can be read names the file, and another cannot be).
    """
    lost: WatchmanError | None = None
    found = False
    for site in sites:
        with files.directory(site) as directory:
            for entry in directory.entries():
                if not entry.name.endswith((".dist-info", ".egg-info")) or entry.name.startswith("~"):
                    continue  # pip renames what it is about to delete to begin with a tilde
                try:
                    owner = _owner(directory, entry, paths)
                except Absent:
                    continue
                except WatchmanError as error:
                    lost = lost or error
                    continue
                if owner:
                    found = True
                    yield owner
    if lost and not found:
        raise lost


def _owner(site: Directory, entry: Entry, paths: Collection[str]) -> tuple[str, str | None] | None:
    if entry.kind != "directory":
        return None  # an egg-info that is a file comes without a list
    with site.directory(entry.name) as inside:
        wheel = entry.name.endswith(".dist-info")
        content = inside.read("RECORD" if wheel else "installed-files.txt", LIST_CAP)
        if not any(_word(path, quoted=wheel) in content for path in paths):
            return None
        text = content.decode("utf-8", "surrogateescape")
        start = site.path if wheel else inside.path
        if paths_in(text, start, wheel=wheel).isdisjoint(paths):
            return None
        name = read_metadata(inside.read("METADATA" if wheel else "PKG-INFO", METADATA_CAP))[0]
        if not wheel:
            return name, "pip"  # nothing else wrote that list
        names = {one.name for one in inside.entries()}
        return name, inside.text("INSTALLER", 4096).strip() if "INSTALLER" in names else None


def _word(path: str, *, quoted: bool) -> bytes:
    """What a list holds if it names the file at this path."""
    name = path.rpartition("/")[2]
    return (name.replace('"', '""') if quoted else name).encode("utf-8", "surrogateescape")


def paths_in(text: str, start: str, *, wheel: bool) -> set[str]:
    """The full paths that a list of files names, relative to `start` where they are not full already.

    Raises: Broken.
    """
    lines = [line.rstrip("\r") for line in text.split("\n")]
    try:
        names = [row[0] for row in csv.reader(lines) if row] if wheel else [line for line in lines if line]
    except csv.Error as error:
        raise Broken(
            f"the list of files in {start} cannot be read ({error}); install the distribution again"
        ) from error
    return {normpath(name if name.startswith("/") else f"{start}/{name}") for name in names}
