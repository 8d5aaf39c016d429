"""The headers that rpm keeps of installed packages: bytes in, packages and files out."""

import struct
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

from watchman_mcp.machine.rpm import Package, Relation, full_version, moment, stream_of

NAME, VERSION, RELEASE, EPOCH, SUMMARY = 1000, 1001, 1002, 1003, 1004
INSTALLED, SIZE, ARCH, SOURCE, LONG_SIZE = 1008, 1009, 1022, 1044, 5009
MODULARITY_LABEL = 5096
PROVIDES = (1047, 1112, 1113)
REQUIRES = (1049, 1048, 1050)
"""Tags of the names, the flags and the versions."""
DIRECTORY_PLACES, FILE_NAMES, DIRECTORIES = 1116, 1117, 1118
OLD_FILE_NAMES = 1027
FILE_STATES, FILE_FLAGS = 1029, 1037
IDENTITY_TAGS = frozenset({NAME, VERSION, RELEASE, EPOCH, ARCH})
PACKAGE_TAGS = IDENTITY_TAGS | {
    *(SUMMARY, INSTALLED, SIZE, SOURCE, LONG_SIZE, MODULARITY_LABEL),
    *PROVIDES,
    *REQUIRES,
}
FILE_TAGS = IDENTITY_TAGS | {
    *(DIRECTORY_PLACES, FILE_NAMES, DIRECTORIES, OLD_FILE_NAMES, FILE_STATES, FILE_FLAGS)
}

IN_PLACE = (0, 3)
"""States of files that are on the disk, by rpm or by a network share."""

_ENTRY = struct.Struct(">4I")
_NUMBERS = {1: "B", 2: "B", 3: "H", 4: "I", 5: "Q"}
_TEXTS = frozenset({6, 8, 9})
_MOST = 1 << 20
"""So many entries or values of one header are believed at most."""

_LONGEST = 4096
"""Characters of a path."""

Value = Sequence[int] | Sequence[str]


class File(NamedTuple):
    """One file of a package."""

    path: str
    flags: int = 0
    in_place: bool = True
    """Not left out, for instance as one of another architecture."""


def read_header(blob: bytes, tags: frozenset[int]) -> dict[int, Value]:
    """The values of these tags in a header, as rpm's database holds it.

    Raises: ValueError.
    """
    try:
        entries, size = struct.unpack_from(">2I", blob)
    except struct.error as error:
        raise ValueError("a header that is too short") from error
    start = 8 + entries * _ENTRY.size
    if entries > _MOST or start + size > len(blob):
        raise ValueError("a header that is longer than its place")
    # What was changed at the installation comes later again, and stands for what was there.
    entry_of = {entry[0]: entry for entry in _ENTRY.iter_unpack(blob[8:start]) if entry[0] in tags}
    found: dict[int, Value] = {}
    for tag, kind, offset, count in entry_of.values():
        if offset > size or count > _MOST:
            raise ValueError(f"a value of tag {tag} outside of the header")
        found[tag] = _value(blob, kind, start + offset, start + size, count)
    return found


def _value(blob: bytes, kind: int, place: int, end: int, count: int) -> Value:
    if kind in _NUMBERS:
        numbers = struct.Struct(f">{count}{_NUMBERS[kind]}")
        if place + numbers.size > end:
            raise ValueError("numbers that reach beyond the header")
        return numbers.unpack_from(blob, place)
    if kind not in _TEXTS:
        return []
    texts: list[str] = []
    for _ in range(count):
        stop = blob.find(b"\0", place, end)
        if stop < 0:
            raise ValueError("a text without end")
        texts.append(blob[place:stop].decode("utf-8", "surrogateescape"))
        place = stop + 1
    return texts


def read_package(blob: bytes) -> Package:
    """The package that a header describes.

    Raises: ValueError.
    """
    header = read_header(blob, PACKAGE_TAGS)
    name = _text(header, NAME)
    if not name:
        raise ValueError("a header without a name")
    return Package(
        name,
        full_version(_number(header, EPOCH), _text(header, VERSION) or "", _text(header, RELEASE) or ""),
        _text(header, ARCH) or "",
        moment(_number(header, INSTALLED) or 0),
        _number(header, LONG_SIZE if LONG_SIZE in header else SIZE),
        _text(header, SOURCE),
        _text(header, SUMMARY),
        stream_of(_text(header, MODULARITY_LABEL)),
        list(_relations(header, PROVIDES)),
        list(_relations(header, REQUIRES)),
    )


def read_files(blob: bytes) -> tuple[tuple[str, str], Iterator[str]]:
    """Name and architecture of a package, and the paths of its files.

    Raises: ValueError.
    """
    name, _, arch, files = read_entries(blob)
    return (name, arch), (file.path for file in files)


def read_entries(blob: bytes) -> tuple[str, str, str, Iterator[File]]:
    """Name, version and architecture of a package, and its files.

    Raises: ValueError.
    """
    header = read_header(blob, FILE_TAGS)
    version = full_version(_number(header, EPOCH), _text(header, VERSION) or "", _text(header, RELEASE) or "")
    flags, states = header.get(FILE_FLAGS, ()), header.get(FILE_STATES, ())
    files = (
        File(path, flag if isinstance(flag, int) else 0, state in IN_PLACE)
        for path, flag, state in zip_longest(_paths(header), flags, states, fillvalue=0)
        if isinstance(path, str)
    )
    return _text(header, NAME) or "", version, _text(header, ARCH) or "", files


def _paths(header: dict[int, Value]) -> list[str]:
    if OLD_FILE_NAMES in header:
        return _texts(header, OLD_FILE_NAMES)
    names, directories = _texts(header, FILE_NAMES), _texts(header, DIRECTORIES)
    places = [place for place in header.get(DIRECTORY_PLACES, ()) if isinstance(place, int)]
    if any(place >= len(directories) for place in places):
        raise ValueError("a file in no directory")
    if any(len(directory) > _LONGEST for directory in directories):
        raise ValueError("a directory with a path that no system takes")
    return [directories[place] + name for place, name in zip(places, names, strict=False)]


def _texts(header: dict[int, Value], tag: int) -> list[str]:
    """The texts of a tag.

    Raises: ValueError for a tag that says to hold numbers.
    """
    values = header.get(tag, ())
    if any(not isinstance(value, str) for value in values):
        raise ValueError("a number where a text belongs")
    return [str(value) for value in values]


def _relations(header: dict[int, Value], tags: tuple[int, int, int]) -> Iterator[Relation]:
    names, flags, versions = (header.get(tag, ()) for tag in tags)
    for name, flag, version in zip_longest(names, flags[: len(names)], versions[: len(names)]):
        yield Relation(str(name), flag if isinstance(flag, int) else 0, str(version or ""))


def _text(header: dict[int, Value], tag: int) -> str | None:
    values = header.get(tag)
    return str(values[0]) if values else None


def _number(header: dict[int, Value], tag: int) -> int | None:
    values = header.get(tag)
    return values[0] if values and isinstance(values[0], int) else None
