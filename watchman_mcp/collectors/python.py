"""Python distributions of the interpreters and virtual environments in the usual places, by their metadata.

Nothing found is executed and no link is followed. Each environment is a scope, `python:PREFIX`; where several
interpreters share a prefix the scope is the directory of one, as `/usr/local/lib/python3.11`. What cannot be
read is said and never taken for gone. `/usr/lib/python3/dist-packages` is left out: what lies there belongs
to Debian's packages. What conda installed in an environment that it keeps records of is told from those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from packaging.utils import canonicalize_name

from watchman_mcp.collectors import Collector, Look, minutes
from watchman_mcp.machine.distributions import is_name, needed, read_metadata
from watchman_mcp.machine.files import Directory, Entry
from watchman_mcp.schema import Edge
from watchman_mcp.schema.packages import DEPENDS_ON, Software

ENVIRONMENTS = 500
"""So many environments are read at most."""
SEARCHED = 2_000
"""So many directories of one home or other place are searched at most."""
METADATA_CAP = 2 << 20
_BASE = "python"
MANAGERS = frozenset({"pip", "uv", "conda", "pdm", "rpm"})

_LIBRARY = re.compile(r"(?:python|pypy)(\d\.\d{1,2})t?")
_NUMBER = re.compile(r"\d\.\d{1,2}\.\d{1,2}")
_DIRECTORY = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(?:-py\d[^-]*)?\.(?:dist|egg)-info")
_SITES = ("site-packages", "dist-packages")
_NO_LOGIN = ("nologin", "false", "sync", "shutdown", "halt")
_CONDA = ("miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba", ".conda")
_VIRTUAL = (".venv", "venv", "env")


class _Environment(NamedTuple):
    """One interpreter's or virtual environment's distributions."""

    location: str
    sites: tuple[str, ...]
    version: str
    manager: str = ""
    """Who installed all of it, where the place says so."""


class _Found(NamedTuple):
    software: Software
    requires: tuple[str, ...]


def collect(look: Look) -> Iterator[Software | Edge]:
    """The distributions of each environment and what they need of one another."""
    taken: set[str] = set()
    for environment in _environments(look):
        if environment.location in taken:
            continue
        if len(taken) == ENVIRONMENTS:
            look.cannot(
                f"{_BASE}:/", f"there are more than {ENVIRONMENTS} environments; the rest is not read"
            )
            return
        taken.add(environment.location)
        with look.part(f"{_BASE}:{environment.location}"):
            yield from _distributions(look, environment)


def _distributions(look: Look, environment: _Environment) -> Iterator[Software | Edge]:
    found: dict[str, _Found] = {}
    for site in environment.sites:
        with look.machine.files.directory(site) as directory:
            for entry in directory.entries():
                if not entry.name.endswith((".dist-info", ".egg-info")) or entry.name.startswith("~"):
                    continue  # pip renames what it is about to delete to begin with a tilde
                one = _distribution(look, environment, directory, entry)
                # Of two versions that an interrupted update left, the newer one is the one that was meant.
                if one and (one.software.key not in found or _moment(one) > _moment(found[one.software.key])):
                    found[one.software.key] = one
    prefix = environment.sites[0].rsplit("/lib", 1)[0]
    if look.machine.files.exists(f"{prefix}/conda-meta"):
        own = [one for one in found.values() if one.software.manager != "conda"]
    else:
        own = list(found.values())
    yield from (one.software for one in own)
    for one in own:
        for key in dict.fromkeys(needed(requirement, environment.version) for requirement in one.requires):
            if key in found and key != one.software.key:
                yield Edge(DEPENDS_ON, one.software.node_id, found[key].software.node_id)


def _moment(found: _Found) -> datetime:
    return found.software.installed_at or datetime.min.replace(tzinfo=UTC)


def _distribution(look: Look, environment: _Environment, directory: Directory, entry: Entry) -> _Found | None:
    """One distribution; None if it has no metadata. One that cannot be read is what its name says it is."""
    installer: str | None = None
    requested: bool | None = None
    metadata = None
    with _place(look, f"{directory.path}/{entry.name}") as scope:
        if entry.name.endswith(".dist-info"):
            with directory.directory(entry.name) as inner:
                names = {inside.name for inside in inner.entries()}
                if "INSTALLER" in names:
                    installer, requested = inner.text("INSTALLER", 4096).strip().lower(), "REQUESTED" in names
                metadata = read_metadata(inner.read("METADATA", METADATA_CAP))
        elif entry.kind == "directory":
            with directory.directory(entry.name) as inner:
                metadata = read_metadata(inner.read("PKG-INFO", METADATA_CAP))
        else:
            metadata = read_metadata(directory.read(entry.name, METADATA_CAP))
    if scope in look.failed and (named := _DIRECTORY.fullmatch(entry.name)):
        metadata = named["name"], named["version"], None, ()
    if metadata is None or not is_name(metadata[0]):
        return None
    name, version, summary, requires = metadata
    software = Software(
        key=canonicalize_name(name),
        name=name,
        version=version,
        manager=environment.manager or (installer if installer in MANAGERS else "pip"),
        location=environment.location,
        # The directory is made anew by each installation; its files may be links to a cache, and older.
        installed_at=datetime.fromtimestamp(entry.mtime, UTC),
        requested=requested,
        state="installed",
        summary=summary,
    )
    return _Found(software, requires)


@contextmanager
def _place(look: Look, path: str) -> Iterator[str]:
    """A place that is searched; if it cannot be read, that is said, and nothing below it is missed."""
    scope = f"{_BASE}:{path}"
    whole = scope in look.seen  # an environment that was read is searched for others as well
    with look.part(scope):
        yield scope
    if not whole:
        look.seen.discard(scope)  # it has no rows of its own


def _directories(look: Look, path: str, *, links: bool = False) -> list[str]:
    """The names of the directories, and links if wanted, in a directory; none if it is not there."""
    found: list[str] = []
    wanted = ("directory", "link") if links else ("directory",)
    with _place(look, path):
        found = [entry.name for entry in look.machine.files.entries(path) if entry.kind in wanted]
    return found


def _environments(look: Look) -> Iterator[_Environment]:
    """All environments of the usual places; one may come twice."""
    for library, sites in (("/usr/lib", _SITES[:1]), ("/usr/lib64", _SITES[:1]), ("/usr/local/lib", _SITES)):
        yield from _interpreters(look, library, sites)
    yield from _each(look, "/opt/pipx/venvs", "pipx")
    for place in ("/opt", "/srv", "/var/www"):
        names = _directories(look, place)
        for name in names:
            yield from _at(look, f"{place}/{name}")
        yield from _projects(look, place, names)
    for home in _homes(look):
        yield from _of_home(look, home)
    for path in map(str, look.settings.packages.python_paths):
        yield from _at(look, path)
        yield from _each(look, path)


def _homes(look: Look) -> Iterator[str]:
    """The home of each account that can log in."""
    homes = {"/root": None}
    if look.machine.files.exists("/etc/passwd"):
        for line in look.machine.files.text("/etc/passwd").split("\n"):
            fields = line.split(":")
            if (
                len(fields) == 7
                and fields[6].strip().rpartition("/")[2] not in _NO_LOGIN
                and len(fields[5]) > 1
            ):
                homes["/" + fields[5].strip("/")] = None
    yield from homes


def _of_home(look: Look, home: str) -> Iterator[_Environment]:
    names = _directories(look, home)
    if ".local" in names:
        yield from _interpreters(look, f"{home}/.local/lib", _SITES[:1])
        yield from _each(look, f"{home}/.local/share/pipx/venvs", "pipx")
        yield from _each(look, f"{home}/.local/pipx/venvs", "pipx")
        yield from _each(look, f"{home}/.local/share/uv/tools", "uv")
        yield from _each(look, f"{home}/.local/share/uv/python")
    if ".pyenv" in names:
        yield from _each(look, f"{home}/.pyenv/versions")
    for name in names:
        if name in _CONDA:
            yield from _at(look, f"{home}/{name}")
            yield from _each(look, f"{home}/{name}/envs")
        elif name in (".virtualenvs", ".venvs"):
            yield from _each(look, f"{home}/{name}")
    yield from _projects(look, home, names)


def _projects(look: Look, place: str, names: list[str]) -> Iterator[_Environment]:
    """Virtual environments in these directories of a place and in those one level below."""
    searched = [f"{place}/{name}" for name in names if not name.startswith(".")]
    for directory in searched[:]:
        if len(searched) <= SEARCHED:
            searched += [f"{directory}/{n}" for n in _directories(look, directory) if not n.startswith(".")]
    if len(searched) > SEARCHED:
        why = f"only {SEARCHED} of its directories were searched; [packages] python_paths takes more"
        look.cannot(f"{_BASE}:{place}", why)
    for directory in searched[:SEARCHED]:
        for name in _VIRTUAL:
            yield from _at(look, f"{directory}/{name}", only_virtual=True)


def _each(look: Look, place: str, manager: str = "") -> Iterator[_Environment]:
    """The environments that are directories of a place."""
    for name in _directories(look, place):
        yield from _at(look, f"{place}/{name}", manager)


def _at(look: Look, prefix: str, manager: str = "", only_virtual: bool = False) -> Iterator[_Environment]:
    """The environment with this prefix, if it is one."""
    exact = ""
    with _place(look, prefix) as scope:
        files = look.machine.files
        if files.exists(f"{prefix}/pyvenv.cfg"):
            exact = _exact_version(files.text(f"{prefix}/pyvenv.cfg", 64 << 10))
        elif only_virtual:
            return
    if scope in look.failed:
        return
    interpreters = list(_interpreters(look, f"{prefix}/lib", _SITES[:1]))
    # An environment that was moved to another interpreter still holds the directory of the one before.
    own = [
        one for one in interpreters if exact.startswith(one.version.rpartition(".")[0] + ".")
    ] or interpreters
    exact = exact or "".join(_NUMBER.findall(prefix.rpartition("/")[2])[:1])
    for one in own:
        location = prefix if len(own) == 1 else one.location
        yield _Environment(location, one.sites, exact if len(own) == 1 and exact else one.version, manager)


def _exact_version(configuration: str) -> str:
    """The interpreter's version that a pyvenv.cfg tells."""
    for line in configuration.split("\n"):
        name, _, value = line.partition("=")
        if name.strip() in ("version", "version_info") and (match := _NUMBER.match(value.strip())):
            return match[0]
    return ""


def _interpreters(look: Look, library: str, kinds: tuple[str, ...]) -> Iterator[_Environment]:
    """An environment for each interpreter whose directory is in this one."""
    for name in _directories(look, library):
        if match := _LIBRARY.fullmatch(name):
            inside = _directories(look, f"{library}/{name}", links=True)
            sites = tuple(f"{library}/{name}/{kind}" for kind in kinds if kind in inside)
            if sites:  # of a version of which only the beginning is known, the newest is the likeliest
                yield _Environment(f"{library}/{name}", sites, f"{match[1]}.99")


BROUGHT = (*sorted(MANAGERS - {"rpm"}), "pipx")
WATCHED = tuple(f"/usr/local/lib/python3.{minor}/{kind}" for minor in range(9, 15) for kind in _SITES)
collector = Collector(
    collect,
    (Software, DEPENDS_ON),
    minutes(10),
    watch=WATCHED,
    version=2,
    managers=BROUGHT,
)
