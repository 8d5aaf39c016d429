"""Rust programs that `cargo install` built, by the lists that cargo keeps in each of its roots.

Each root is a scope, `cargo:ROOT`, and the location of its crates. Where several versions of one crate gave
a root different programs, the location of each is the root, a `#` and its version. `source_package` says
where a crate is from: a registry, a git commit or a path. What crates were built from is inside their
programs and is listed nowhere. Cargo is never run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from datetime import UTC, datetime

from watchman_mcp.collectors import Collector, Look, minutes
from watchman_mcp.machine import Machine
from watchman_mcp.machine.cargo import Crate, read_crates, read_crates2
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.places import Search
from watchman_mcp.schema.packages import Owner, Software

LIST = ".crates.toml"
LIST2 = ".crates2.json"
"""Cargo takes from it the details of what the first one lists; it is read where that is missing."""
LIST_CAP = 16 << 20
ROOTS = (
    "~/.cargo",
    "~/.local/share/cargo",
    "~/.local",
    "/usr/local/cargo",
    "/usr/local",
    "/usr",
    "/opt/*",
)


def collect(look: Look) -> Iterator[Software]:
    """The crates of each root.

    Raises: Absent.
    """
    search = Search(look.machine.files)
    paths = list(search.find(f"{root}/{name}" for root in ROOTS for name in (LIST, LIST2)))
    roots = dict.fromkeys(path.rpartition("/")[0] for path in paths)
    for root in roots:
        with look.part(f"cargo:{root}"):
            yield from _installed(look, root)
    # The first crate of a person is noticed at once, too.
    look.watch_places([*paths, *(f"{home}/.cargo/{LIST}" for home in search.homes)])
    look.searched(bool(roots), search.refused, "cargo has installed nothing on this machine")


def owner(machine: Machine, paths: Collection[str]) -> Iterator[Owner]:
    """The crate of which the list of its root says that it brought this program.

    Raises: Denied, Broken.
    """
    files = machine.files
    programs = [path.rsplit("/", 2) for path in paths if path.count("/") > 2]
    for root in {root for root, directory, _ in programs if directory == "bin"}:
        if not (files.exists(f"{root}/{LIST}") or files.exists(f"{root}/{LIST2}")):
            continue
        names = {name for one, directory, name in programs if (one, directory) == (root, "bin")}
        crates, _ = _listed(files, root)
        locations = _locations(root, crates)
        for crate in crates:
            if names & set(crate.programs):
                yield Owner("cargo", crate.name, None, locations[crate])


def _listed(files: Files, root: str) -> tuple[list[Crate], int]:
    """The crates that a root lists, and how many entries cannot be read."""
    if files.exists(f"{root}/{LIST}"):
        text = files.text(f"{root}/{LIST}", LIST_CAP)
        # Cargo makes both before it builds its first crate, and later empties one at a time to write it anew.
        if not text and files.exists(f"{root}/{LIST2}") and not files.text(f"{root}/{LIST2}", LIST_CAP):
            return [], 0
        return read_crates(text)
    return read_crates2(files.text(f"{root}/{LIST2}", LIST_CAP))


def _locations(root: str, crates: list[Crate]) -> dict[Crate, str]:
    count = Counter(crate.name for crate in crates)
    return {crate: root if count[crate.name] == 1 else f"{root}#{crate.version}" for crate in crates}


def _installed(look: Look, root: str) -> Iterator[Software]:
    files = look.machine.files
    crates, unreadable = _listed(files, root)
    if unreadable:
        look.cannot(f"cargo:{root}", f"{unreadable} of the crates in its list cannot be read")
    times = _times(files, f"{root}/bin")
    for crate, location in _locations(root, crates).items():
        built = [times[program] for program in crate.programs if program in times]
        yield _software(crate, location, built)


def _times(files: Files, directory: str) -> dict[str, float]:
    """When each program was put there."""
    found = files.entries(directory) if files.exists(directory) else []
    return {entry.name: entry.mtime for entry in found}


def _software(crate: Crate, location: str, built: list[float]) -> Software:
    return Software(
        key=crate.name,
        name=crate.name,
        version=crate.version,
        scheme="semver",
        manager="cargo",
        location=location,
        source_package=crate.source,
        installed_at=datetime.fromtimestamp(max(built), UTC) if built else None,
        requested=True,
        state="installed",
    )


WATCHED = (f"/root/.cargo/{LIST}", f"/usr/local/cargo/{LIST}", f"/usr/local/{LIST}")
collector = Collector(collect, (Software,), minutes(10), watch=WATCHED, owner=owner)
