"""Which installed gem a file belongs to, by its place in a gem directory; of programs what RubyGems wrote."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from watchman_mcp.errors import Absent
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.gems import Gem, executables, gem_of, read_specification, stub_of
from watchman_mcp.machine.places import Search

SPECIFICATION_CAP = 4 << 20
STUB_CAP = 64 << 10
LISTS = ("specifications", "specifications/default")
_ENDING = ".gemspec"
_HOLDS = {"gems": "", "doc": "", "cache": ".gem", "build_info": ".info"}
"""What a gem directory holds of each gem by its full name, and how that ends."""


class Installed(NamedTuple):
    """A gem, and the gem directory that it is in."""

    directory: str
    gem: Gem


def owners(files: Files, paths: Collection[str]) -> Iterator[Installed]:
    """The gems that own a file known by any of these paths.

    A program outside of its gem belongs to it if only one version of one gem can be what it starts.

    Raises: Denied, Broken.
    """
    for directory, full in {one for path in paths for one in _placed(path)}:
        for place in LISTS:
            yield from _read(files, directory, place, f"{full}{_ENDING}")
    for path in paths:
        if len(started := list(_started(files, path))) == 1:
            yield started[0]


def _placed(path: str) -> Iterator[tuple[str, str]]:
    """The gem directories that this path may be in, and the full name of its gem there."""
    parts = path.split("/")
    for at, part in enumerate(parts[:-1]):
        directory, rest = "/".join(parts[:at]), parts[at + 1 :]
        if (ending := _HOLDS.get(part)) is not None and rest[0].endswith(ending):
            yield directory, rest[0].removesuffix(ending)
        elif part == "extensions" and len(rest) > 2:  # by platform and Ruby
            yield directory, rest[2]
        elif part == "specifications" and rest[:-1] in ([], ["default"]) and rest[-1].endswith(_ENDING):
            yield directory, rest[-1].removesuffix(_ENDING)


def _started(files: Files, path: str) -> Iterator[Installed]:
    """The gems that may be what a program of RubyGems at this path starts."""
    prefix, _, name = path.rpartition("/bin/")
    search = Search(files)
    if not prefix or (name, "file") not in {(one.name, one.kind) for one in search.entries(f"{prefix}/bin")}:
        return
    key = stub_of(files.head(path, STUB_CAP).decode("utf-8", "surrogateescape"), name)
    if key is None:
        return
    places = ["/var/lib/gems/*"] if prefix == "/usr/local" else []  # where Debian's Ruby keeps them
    directories = [prefix, *search.find([f"{prefix}/lib/ruby/gems/*", *places])]
    for directory in directories:
        for place in LISTS:
            for entry in search.entries(f"{directory}/{place}"):
                named = gem_of(entry.name) if entry.name.endswith(_ENDING) else None
                if named and named[0] == key:
                    yield from _read(files, directory, place, entry.name, starts=name)


def _read(files: Files, directory: str, place: str, name: str, starts: str = "") -> Iterator[Installed]:
    """The gem of a specification, if there is one, and if it brings the program that is named."""
    try:
        text = files.text(f"{directory}/{place}/{name}", SPECIFICATION_CAP)
    except Absent:
        return
    if not starts or starts in executables(text):
        yield Installed(directory, read_specification(text, name))
