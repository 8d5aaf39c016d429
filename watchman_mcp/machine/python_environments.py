"""Where Python's interpreters and virtual environments are, in the usual places and around a file.

Nothing found is executed and no link is followed. What refuses is kept in the search, never taken for empty.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from watchman_mcp.errors import Absent, WatchmanError
from watchman_mcp.machine import conda
from watchman_mcp.machine.places import Search

SEARCHED = 2_000
"""So many directories of one home or other place are searched at most."""
CONFIGURATION_CAP = 64 << 10
SITES = ("site-packages", "dist-packages")

_LIBRARY = re.compile(r"(?:python|pypy)(\d\.\d{1,2})t?")
_NUMBER = re.compile(r"\d\.\d{1,2}\.\d{1,2}")
_SYSTEM = (("/usr/lib", SITES[:1]), ("/usr/lib64", SITES[:1]), ("/usr/local/lib", SITES))
_OF_PERSON = "/.local"
_CONDA = ("miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba", ".conda")
_VIRTUAL = (".venv", "venv", "env")
_OF_MANAGERS = (
    ".local/share/uv/python",
    ".local/share/virtualenvs",
    ".local/share/mise/installs/python",
    ".pyenv/versions",
    ".asdf/installs/python",
    ".cache/pypoetry/virtualenvs",
    "Library/Caches/pypoetry/virtualenvs",
)
"""Below a home: where managers of Python's versions, Pipenv and Poetry keep interpreters and environments."""
_FRAMEWORK = "/Library/Frameworks/Python.framework/Versions"
_MANAGED = {
    "/opt/pipx/venvs": "pipx",
    "/.local/share/pipx/venvs": "pipx",
    "/.local/pipx/venvs": "pipx",
    "/Library/Application Support/pipx/venvs": "pipx",
    "/.local/share/uv/tools": "uv",
}
"""Places whose environments one manager makes; all but the first are in homes."""


class Environment(NamedTuple):
    """One interpreter's or virtual environment's distributions."""

    location: str
    sites: tuple[str, ...]
    version: str
    manager: str = ""
    """Who installed all of it, where the place says so."""

    @property
    def prefix(self) -> str:
        """The directory above its `lib`."""
        return self.sites[0].rsplit("/lib", 1)[0]


def environments(search: Search, more: Iterable[str]) -> Iterator[Environment]:
    """All environments of the usual places, and of `more` places or prefixes; one may come twice."""
    for library, sites in _SYSTEM:
        yield from _interpreters(search, library, sites)
    yield from _each(search, "/opt/pipx/venvs")
    yield from _each(search, _FRAMEWORK)
    for place in ("/opt", "/srv", "/var/www"):
        names = _directories(search, place)
        for name in names:
            yield from _at(search, f"{place}/{name}")
        yield from _projects(search, place, names)
    for home in search.homes:
        yield from _of_home(search, home)
    for path in conda.environments(search):
        yield from _at(search, path)
    for path in more:
        yield from _at(search, path)
        yield from _each(search, path)


def around(search: Search, paths: Collection[str]) -> list[Environment]:
    """The environments that a file known by these paths may be a part of: those whose prefix it is below."""
    above = {path[:at] for path in paths for at, letter in enumerate(path) if letter == "/" and at}
    found: list[Environment] = []
    for prefix in sorted(above):
        system = [(library, kinds) for library, kinds in _SYSTEM if library.startswith(f"{prefix}/lib")]
        for library, kinds in system:
            found += _interpreters(search, library, kinds)
        if prefix.endswith(_OF_PERSON):
            found += _interpreters(search, f"{prefix}/lib", SITES[:1])
        elif not system:
            found += _at(search, prefix)
    return found


def _directories(search: Search, path: str, *, links: bool = False) -> list[str]:
    """The names of the directories, and links if wanted, in a directory; none if it is not there."""
    wanted = ("directory", "link") if links else ("directory",)
    try:
        return [entry.name for entry in search.files.entries(path) if entry.kind in wanted]
    except Absent:
        pass
    except WatchmanError as error:
        search.refused[path] = str(error)
    return []


def _of_home(search: Search, home: str) -> Iterator[Environment]:
    names = _directories(search, home)
    if ".local" in names:
        yield from _interpreters(search, f"{home}{_OF_PERSON}/lib", SITES[:1])
    for place in (*(place[1:] for place in list(_MANAGED)[1:]), *_OF_MANAGERS):
        if place.partition("/")[0] in names:
            yield from _each(search, f"{home}/{place}")
    if "Library" in names:
        yield from _of_mac(search, f"{home}/Library/Python")
    for name in names:
        if name in _CONDA:
            yield from _at(search, f"{home}/{name}")
            yield from _each(search, f"{home}/{name}/envs")
        elif name in (".virtualenvs", ".venvs"):
            yield from _each(search, f"{home}/{name}")
    yield from _projects(search, home, names)


def _of_mac(search: Search, place: str) -> Iterator[Environment]:
    """What macOS's own Python and that of python.org install for one person: their version is a directory."""
    for version in _directories(search, place):
        site = f"{place}/{version}/lib/python/{SITES[0]}"
        if re.fullmatch(r"\d\.\d{1,2}", version) and search.holds(site):
            yield Environment(f"{place}/{version}", (site,), f"{version}.99")


def _projects(search: Search, place: str, names: list[str]) -> Iterator[Environment]:
    """Virtual environments in these directories of a place and in those one level below."""
    searched = [f"{place}/{name}" for name in names if not name.startswith(".")]
    for directory in searched[:]:
        if len(searched) <= SEARCHED:
            inside = _directories(search, directory)
            searched += [f"{directory}/{name}" for name in inside if not name.startswith(".")]
    if len(searched) > SEARCHED:
        why = f"only {SEARCHED} of its directories were searched; [packages] python_paths takes more"
        search.refused[place] = why
    for directory in searched[:SEARCHED]:
        for name in _VIRTUAL:
            yield from _at(search, f"{directory}/{name}", only_virtual=True)


def _each(search: Search, place: str) -> Iterator[Environment]:
    """The environments that are directories of a place."""
    for name in _directories(search, place):
        yield from _at(search, f"{place}/{name}")


def _at(search: Search, prefix: str, only_virtual: bool = False) -> Iterator[Environment]:
    """The environment with this prefix, if it is one."""
    exact = ""
    try:
        if search.files.exists(f"{prefix}/pyvenv.cfg"):
            exact = _exact_version(search.files.text(f"{prefix}/pyvenv.cfg", CONFIGURATION_CAP))
        elif only_virtual:
            return
    except Absent:
        return
    except WatchmanError as error:
        search.refused[prefix] = str(error)
        return
    interpreters = list(_interpreters(search, f"{prefix}/lib", SITES[:1]))
    # An environment that was moved to another interpreter still holds the directory of the one before.
    own = [
        one for one in interpreters if exact.startswith(one.version.rpartition(".")[0] + ".")
    ] or interpreters
    exact = exact or "".join(_NUMBER.findall(prefix.rpartition("/")[2])[:1])
    for one in own:
        location = prefix if len(own) == 1 else one.location
        version = exact if len(own) == 1 and exact else one.version
        yield Environment(location, one.sites, version, _manager(prefix))


def _manager(prefix: str) -> str:
    """The manager that made the environment with this prefix, where the place says so."""
    place = prefix.rpartition("/")[0]
    first, *others = _MANAGED
    found = [one for one in others if place.endswith(one)] + [first] * (place == first)
    return _MANAGED[found[0]] if found else ""


def _exact_version(configuration: str) -> str:
    """The interpreter's version that a pyvenv.cfg tells."""
    for line in configuration.split("\n"):
        name, _, value = line.partition("=")
        if name.strip() in ("version", "version_info") and (match := _NUMBER.match(value.strip())):
            return match[0]
    return ""


def _interpreters(search: Search, library: str, kinds: tuple[str, ...]) -> Iterator[Environment]:
    """An environment for each interpreter whose directory is in this one."""
    for name in _directories(search, library):
        if match := _LIBRARY.fullmatch(name):
            inside = _directories(search, f"{library}/{name}", links=True)
            sites = tuple(f"{library}/{name}/{kind}" for kind in kinds if kind in inside)
            if sites:  # of a version of which only the beginning is known, the newest is the likeliest
                yield Environment(f"{library}/{name}", sites, f"{match[1]}.99")
