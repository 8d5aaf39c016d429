"""What conda and those like it keep of an environment in `conda-meta`: text in, values out."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import NamedTuple

from watchman_mcp.errors import Broken
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.places import Search

META = "conda-meta"
RECORD_CAP = 64 << 20
LIST_CAP = 1 << 20
LISTED = 200
"""So many environments of one `environments.txt` are looked at."""
_ROOTS = (
    "miniconda3",
    "anaconda3",
    "miniforge3",
    "mambaforge",
    "micromamba",
    "miniconda",
    "anaconda",
    "conda",
    "anaconda2",
    "miniconda2",
)
ENVIRONMENTS = (
    *(
        f"/opt/{place}"
        for place in ("*", "*/envs/*", "homebrew/Caskroom/*/base", "homebrew/Caskroom/*/base/envs/*")
    ),
    *(f"/usr/local/{root}{envs}" for root in _ROOTS for envs in ("", "/envs/*")),
    *(f"~/{place}{root}{envs}" for place in ("", "opt/") for root in _ROOTS for envs in ("", "/envs/*")),
    "~/.conda/envs/*",
    "~/.local/share/mamba",
    "~/.local/share/mamba/envs/*",
    "~/.pixi/envs/*",
)
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,199}")
_FILE = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)-(?P<build>[^-]+)")
_SPEC = re.compile(r"(?:[^\s:]+::)?([A-Za-z0-9_][A-Za-z0-9_.-]*)")


class Package(NamedTuple):
    """One package of an environment."""

    name: str
    version: str
    build: str
    requested: bool | None
    """Whether somebody asked for it; None where its record does not say."""
    needs: tuple[str, ...] = ()
    """Names of the packages that it needs."""


def environments(search: Search) -> dict[str, None]:
    """The environments in the usual places, and those that people's own lists name."""
    found = {
        path.rpartition("/")[0]: None for path in search.find(f"{place}/{META}" for place in ENVIRONMENTS)
    }
    for home in search.homes:
        lines = (search.text(f"{home}/.conda/environments.txt", LIST_CAP) or "").split("\n")
        paths = [line.strip().rstrip("/") for line in lines]
        paths = [path for path in paths if path.startswith("/") and not {"..", "."} & set(path.split("/"))]
        for path in paths[:LISTED]:
            if path not in found and search.holds(f"{path}/{META}"):
                found[path] = None
        if len(paths) > LISTED:
            search.refused[f"{home}/.conda"] = f"its list of environments names more than {LISTED}"
    return found


@lru_cache(maxsize=8192)
def package_at(files: Files, path: str, inode: int, mtime: float, size: int) -> Package:
    """The package of a record file, which is read anew only when it is another file: records are large.

    Raises: Absent, Denied, Broken.
    """
    return read_record(files.read(path, RECORD_CAP))


def owners(files: Files, paths: Collection[str]) -> Iterator[tuple[str, str]]:
    """Environment and name of the packages whose records list a file known by any of these paths.

    Only the environments that the file is below are read, one record at a time.

    Raises: Denied, Broken (a record that cannot be read, where no other names the file).
    """
    above = {path[:at] for path in paths for at, letter in enumerate(path) if letter == "/" and at}
    for prefix in sorted(above):
        if not files.exists(f"{prefix}/{META}"):
            continue
        wanted = {path.removeprefix(f"{prefix}/") for path in paths if path.startswith(f"{prefix}/")}
        lost: Broken | None = None
        found = False
        with files.directory(f"{prefix}/{META}") as directory:
            for entry in directory.entries():
                if not entry.name.endswith(".json") or entry.kind == "directory":
                    continue
                try:
                    name = _lists(directory.read(entry.name, RECORD_CAP), wanted)
                except Broken as error:
                    lost = error
                    continue
                if name:
                    found = True
                    yield prefix, name
        if lost and not found:
            raise lost


def _lists(content: bytes, wanted: set[str]) -> str | None:
    """The name of the package whose record this is, if it lists one of these files."""
    words = {path.rpartition("/")[2] for path in wanted}
    # Names beyond ASCII, and those with a quote or a backslash, may be written in several ways.
    if all(word.isascii() and not {'"', "\\"} & set(word) for word in words) and not any(
        word.encode() in content for word in words
    ):
        return None
    package = read_record(content)
    names = json.loads(content).get("files")
    return package.name if isinstance(names, list) and not wanted.isdisjoint(map(str, names)) else None


def read_record(content: bytes) -> Package:
    """The package that a record in `conda-meta` tells of.

    Raises: Broken.
    """
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Broken("its record is no JSON text; install the package again") from error
    if not isinstance(fields, dict):
        raise Broken("its record holds no object; install the package again")
    name, version, build = (fields.get(field) for field in ("name", "version", "build"))
    if not (isinstance(name, str) and isinstance(version, str) and _NAME.fullmatch(name) and version):
        raise Broken("its record has no name or no version; install the package again")
    needs = fields.get("depends")
    wanted = (
        [m[1] for need in needs if isinstance(need, str) and (m := _SPEC.match(need))]
        if isinstance(needs, list)
        else []
    )
    return Package(
        name,
        version,
        build if isinstance(build, str) else "",
        _requested(fields),
        tuple(dict.fromkeys(wanted)),
    )


def named(file_name: str) -> Package | None:
    """What the name of a record, or a line of the history, says of a package."""
    match = _FILE.fullmatch(file_name)
    if match is None or not _NAME.fullmatch(match["name"]):
        return None
    return Package(match["name"], match["version"], match["build"], None)


def _requested(fields: dict[str, object]) -> bool | None:
    told = [fields[name] for name in ("requested_spec", "requested_specs") if name in fields]
    if not told:
        return None
    return any(isinstance(one, list | str) and bool(one) and one != "None" for one in told)
