"""Go programs that `go install` built, and installed Go itself, by what Go writes into each program.

Each program is a scope, `go:PATH`, and its path the location; its key is the path of its package, its name
the program's, and `source_package` its module. In the directories that are Go's own every Go program counts,
in those shared with others only one whose module was fetched by version, as `go install` does and a
downloaded release does not show. An installed Go is the package `go` at its directory. Distributions' own Go
is theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime

from watchman_mcp.collectors import Collector, Look, minutes
from watchman_mcp.errors import Absent
from watchman_mcp.machine import Machine
from watchman_mcp.machine.entries import Entry
from watchman_mcp.machine.go_programs import Build, bin_directories, read_build, version_of
from watchman_mcp.machine.places import Search
from watchman_mcp.schema.packages import Owner, Software

PROGRAMS = 3_000
"""So many files of one directory are looked at."""
OWN = (
    "/go/bin",
    "/opt/go/bin",
    "~/go/bin",
    "~/go/bin/*",
    "~/go/*/bin",
    "~/gopath/bin",
    "~/.go/bin",
    "~/.asdf/installs/golang/*/packages/bin",
    "~/.asdf/installs/golang/*/bin",
    "~/.local/share/mise/installs/go/*/bin",
    "~/.gvm/pkgsets/*/*/bin",
)
SHARED = ("/usr/local/bin", "~/bin", "~/.local/bin")
INSTALLED = (
    "/usr/local/go",
    "/opt/go",
    "~/sdk/*",
    "~/.goenv/versions/*",
    "~/.gvm/gos/*",
    "~/.asdf/installs/golang/*/go",
    "~/.local/share/mise/installs/go/*",
)
SETTINGS = (".config/go/env", "Library/Application Support/go/env")
TEXT_CAP = 1 << 20


def collect(look: Look) -> Iterator[Software]:
    """The programs of each directory, and each installed Go.

    Raises: Absent.
    """
    search = Search(look.machine.files)
    own = _own_directories(search)
    for directory in own:
        yield from _programs(look, search, directory)
    shared = [directory for directory in search.find(SHARED) if directory not in own]
    for directory in shared:
        yield from _programs(look, search, directory, fetched_only=True)
    versions = list(search.find(f"{directory}/VERSION" for directory in INSTALLED))
    for path in versions:
        with look.part(f"go:{path.rpartition('/')[0]}"):
            yield from _installed(look, path)
    # The first program of a person is noticed at once, too.
    look.watch_places([*own, *shared, *versions, *(f"{home}/go/bin" for home in search.homes)])
    for path, why in search.refused.items():
        look.cannot(f"go:{path}", why)
    if own or look.seen:
        look.marks["there"] = True
    elif not search.refused and not look.failed and not look.marks:
        raise Absent("no Go and no program built by it are on this machine")


def owner(machine: Machine, paths: Collection[str]) -> Iterator[Owner]:
    """The package that a program was built from, by what is written into it; Go itself for its own tools.

    Raises: Denied, Broken.
    """
    search = Search(machine.files)
    directories = {path.rpartition("/")[0] for path in paths}
    own = directories & _own_directories(search).keys()
    shared = directories.intersection(search.find(SHARED))
    go = [path.rpartition("/")[0] for path in search.find(f"{place}/VERSION" for place in INSTALLED)]
    for path in paths:
        directory, _, name = path.rpartition("/")
        home = next((one for one in go if directory.startswith(f"{one}/")), None)
        if not (directory in own or directory in shared or home):
            continue
        if (name, "file") not in {(entry.name, entry.kind) for entry in search.entries(directory)}:
            continue
        with machine.files.stream(path) as stream:
            build = read_build(stream, path)
        if build and _counts(build, fetched_only=directory not in own) and (directory in own | shared):
            yield Owner("go", build.package, build.architecture or None, path)
        elif build and home and build.package.startswith("cmd/"):
            yield Owner("go", "go", None, home)


def _own_directories(search: Search) -> dict[str, None]:
    """Where `go install` puts programs, also by what people set with `go env -w`."""
    found = dict.fromkeys(search.find(OWN))
    for home in search.homes:
        for path in SETTINGS:
            for directory in bin_directories(search.text(f"{home}/{path}", TEXT_CAP) or "", home):
                if search.holds(directory):
                    found[directory] = None
    return found


def _programs(
    look: Look, search: Search, directory: str, *, fetched_only: bool = False
) -> Iterator[Software]:
    files = [entry for entry in search.entries(directory) if entry.kind == "file" and entry.mode & 0o111]
    if len(files) > PROGRAMS:
        look.cannot(f"go:{directory}", f"it holds more than {PROGRAMS} programs; the rest is not read")
    for entry in files[:PROGRAMS]:
        path = f"{directory}/{entry.name}"
        build = None
        with look.part(f"go:{path}"):
            with look.machine.files.stream(path) as stream:
                build = read_build(stream, path)
            if build and _counts(build, fetched_only=fetched_only):
                yield _software(path, entry, build)
            else:
                build = None
        if build is None:
            look.seen.discard(f"go:{path}")  # no package of Go's


def _counts(build: Build, *, fetched_only: bool) -> bool:
    """Whether a program is one that `go install` put there: what is below `cmd/` came with Go itself."""
    return build.fetched or not (fetched_only or build.package.startswith("cmd/"))


def _software(path: str, entry: Entry, build: Build) -> Software:
    return Software(
        key=build.package,
        name=entry.name,
        version=build.version or None,
        scheme="go",
        manager="go",
        architecture=build.architecture or None,
        location=path,
        source_package=build.module or None,
        installed_at=datetime.fromtimestamp(entry.mtime, UTC),
        requested=True,
        state="installed",
        size_bytes=entry.size,
    )


def _installed(look: Look, path: str) -> Iterator[Software]:
    """The Go of this VERSION file."""
    files = look.machine.files
    if version := version_of(files.text(path, TEXT_CAP)):
        yield Software(
            key="go",
            name="go",
            version=version,
            scheme="go",
            manager="go",
            location=path.rpartition("/")[0],
            installed_at=datetime.fromtimestamp(files.stat(path).mtime, UTC),
            requested=True,
            state="installed",
        )


WATCHED = ("/usr/local/go/VERSION", "/root/go/bin", "/go/bin", "/usr/local/bin")
collector = Collector(collect, (Software,), minutes(10), watch=WATCHED, version=2, owner=owner)
