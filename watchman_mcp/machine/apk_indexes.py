"""What apk fetched of its repositories, and which files its database says are whose."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha1, sha256
from typing import NamedTuple

from watchman_mcp.errors import Absent
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.tars import opened
from watchman_mcp.machine.updates import Update
from watchman_mcp.machine.versions.apk import compare

REPOSITORIES = "/etc/apk/repositories"
MORE = ("/etc/apk/repositories.d", "/lib/apk/repositories.d")
"""Files `*.list`; one of the first stands for one of the same name of the second."""
ARCHITECTURE = "/etc/apk/arch"
CACHES = ("/etc/apk/cache", "/var/cache/apk")
"""The first that is there counts."""
INDEX = "APKINDEX"
PACKED = f"{INDEX}.tar.gz"

_TEXT_CAP = 1 << 20
_LINE_CAP = 64 << 10
_PATH_CAP = 4096
"""No path and no address is longer."""
_CREDENTIALS = re.compile(r"//[^/@]*@")
_KEYWORDS = ("v2", "v3", "ndx")


class Repository(NamedTuple):
    """A repository, the tag without which nothing of it is taken, and its index, empty if it is not read."""

    url: str
    tag: str
    listed: str

    @property
    def shown(self) -> str:
        """Its address without what may be secret."""
        return _CREDENTIALS.sub("//", self.url)


def read_repositories(text: str, architecture: str) -> Iterator[Repository]:
    """The repositories in a file as apk 2 and apk 3 write it."""
    for line in text.replace("\r", "").split("\n"):
        words = line.split()
        if not words or words[0].startswith("#") or words[0] == "set":
            continue
        keyword = words.pop(0) if words[0] in _KEYWORDS else ""
        tag = words.pop(0)[1:] if words and words[0].startswith("@") else ""
        for url in _urls(words):
            whole = keyword == "ndx" or url.endswith((".adb", ".tar.gz"))
            index = url if whole else f"{url.rstrip('/')}/{architecture}/{PACKED}"
            unread = len(url) > _PATH_CAP or keyword == "v3" or url.endswith(".adb") or "${" in url
            yield Repository(url, tag, "" if unread else index)


def _urls(words: list[str]) -> list[str]:
    """An address alone, or with each of the components that follow it."""
    if words and len(words[0]) > _PATH_CAP:
        return words[:1]  # with many components it would be as long many times
    return [f"{words[0].rstrip('/')}/{one}" for one in words[1:]] or words


def repositories(files: Files, architecture: str) -> list[Repository]:
    """The repositories that the machine is told of.

    Raises: Denied, Broken.
    """
    listed: dict[str, str] = {}
    for directory in MORE:
        with suppress(Absent):
            for entry in files.entries(directory):
                if entry.name.endswith(".list"):
                    listed.setdefault(entry.name, f"{directory}/{entry.name}")
    found: dict[Repository, None] = {}
    for path in [REPOSITORIES, *(listed[name] for name in sorted(listed))]:
        with suppress(Absent):
            found |= dict.fromkeys(read_repositories(files.text(path, _TEXT_CAP), architecture))
    return list(found)


def index_of(files: Files, repository: Repository) -> str | None:
    """Where the index is that apk fetched of a repository; None if it is not there.

    Raises: Denied, Broken.
    """
    if repository.url.startswith(("/", "file:")):
        local = repository.listed.removeprefix("file:").removeprefix("//localhost").replace("//", "/", 1)
        return local if local and files.exists(local) else None
    cache = next((path for path in CACHES if files.exists(path)), "")
    # Up to 2.14 apk named it after the repository, and since then after the index.
    names = [
        sha1(repository.url.encode("utf-8", "surrogateescape"), usedforsecurity=False),
        sha256(repository.listed.encode("utf-8", "surrogateescape")),
    ]
    paths = [f"{cache}/{INDEX}.{name.hexdigest()[:8]}.tar.gz" for name in names]
    there = [path for path in paths if cache and repository.listed and files.exists(path)]
    return max(there, key=lambda path: files.stat(path).mtime, default=None)


def newer(
    files: Files, indexes: Iterable[tuple[Repository, str]], installed: Mapping[str, tuple[str, str]]
) -> list[Update]:
    """The newest version of each installed package, of which version and tag are given, if it is newer.

    What a tagged repository has is for those that were installed with its tag, as `apk version` counts.

    Raises: Absent, Denied, Broken.
    """
    best = {name: Update(name, None, version) for name, (version, _) in installed.items()}
    for repository, path in indexes:
        with opened(files, path) as members:
            for member in members:
                if member.name != INDEX:
                    continue
                for name, version in _offers(member.content):
                    allowed = name in best and repository.tag in ("", installed[name][1])
                    if allowed and _later(version, best[name].version):
                        best[name] = Update(name, None, version, repository.shown)
    return [update for update in best.values() if update.version != installed[update.name][0]]


def _later(one: str, other: str) -> bool:
    try:
        return compare(one, other) > 0
    except ValueError:  # neither is a version
        return False


def _offers(content: Iterator[bytes]) -> Iterator[tuple[str, str]]:
    """Name and version of each package in an index."""
    name = version = ""
    rest = b""
    for piece in content:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"P:"):
                name = line[2:].decode("utf-8", "surrogateescape")
            elif line.startswith(b"V:"):
                version = line[2:].decode("utf-8", "surrogateescape")
            elif not line:
                if name and version:
                    yield name, version
                name = version = ""
        rest = rest[:_LINE_CAP]  # no line of interest is longer
    if name and version:
        yield name, version


def configurations(text: str) -> dict[str, list[str]]:
    """By package the files below /etc that apk does not overwrite when they were changed."""
    found: dict[str, list[str]] = {}
    for name, directory, file in _files(line for line in text.split("\n")):
        if (directory == "etc" or directory.startswith("etc/")) and directory != "etc/init.d":
            found.setdefault(name, []).append(f"/{directory}/{file}")
    return found


def owners(files: Files, path: str, paths: Collection[str]) -> Iterator[str]:
    """The names of the packages that own a file, known by any of these paths.

    Raises: Absent, Denied, Broken.
    """
    wanted = {tuple(one[1:].rpartition("/")[::2]) for one in paths}
    with files.stream(path) as stream:
        reader = io.BufferedReader(stream)
        lines = iter(lambda: reader.readline(_LINE_CAP), b"")
        for name, directory, file in _files(
            line.rstrip(b"\n").decode("utf-8", "surrogateescape") for line in lines
        ):
            if (directory, file) in wanted:
                yield name


def _files(lines: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Package, directory and name of each file in the database of installed packages."""
    name = directory = ""
    listing = False
    for line in lines:
        letter, _, value = line.partition(":")
        if not line:
            name, directory, listing = "", "", False
        elif letter == "P" and not listing:
            name = name or value
        elif letter == "F":
            directory, listing = value, True
        elif letter == "R" and listing and name and len(directory) < _PATH_CAP:
            yield name, directory, value
