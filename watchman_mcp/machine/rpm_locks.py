"""What keeps packages of rpm from updates: the lists of dnf's plugin versionlock, of dnf 5 and of libzypp."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from configparser import Error
from typing import Any, NamedTuple

from watchman_mcp.errors import Broken
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.ini import read_ini
from watchman_mcp.machine.patterns import LONGEST, fits
from watchman_mcp.machine.rpm import Package, order
from watchman_mcp.machine.versions.rpm import split

VERSIONLOCK = "/etc/dnf/plugins/versionlock.conf"
LOCKLIST = "/etc/dnf/plugins/versionlock.list"
DNF5_LOCKS = "/etc/dnf/versionlock.toml"
ZYPP_LOCKS = "/etc/zypp/locks"

_NAME, _PART, _ARCH = r"(?P<name>[^:(/=<> ]+)", r"[^-:(/=<> ]+", r"(?P<arch>[^-:.(/=<> ]+)"
_EPOCH = r"(?:(?P<epoch>[0-9]+):)?"
_FORMS = tuple(
    re.compile(form)
    for form in (
        rf"{_NAME}-{_EPOCH}(?P<version>{_PART})-(?P<release>{_PART})\.{_ARCH}",
        rf"{_NAME}-{_EPOCH}(?P<version>{_PART})-(?P<release>{_PART})",
        rf"{_NAME}-{_EPOCH}(?P<version>{_PART})",
        rf"{_NAME}\.{_ARCH}",
        _NAME,
    )
)
"""What dnf takes a lock for, in this order: the first that is there."""
_KEYS = frozenset({"epoch", "evr", "arch"})
_KEEPING = frozenset({"=", "==", "<", "<="})
_COMPARING = _KEEPING | {">", ">=", "<>", "!="}
_ORDERS = {"<": (-1,), "<=": (-1, 0), "=": (0,), "==": (0,), ">=": (0, 1), ">": (1,), "!=": (-1, 1)}
_RANGE = re.compile(r"(<=|>=|==|!=|<|>|=)? *(\S+)")
_KNOWN = frozenset(
    {"type", "kind", "match_type", "case_sensitive", "solvable_name", "name", "repo", "version"}
)


class Locked(NamedTuple):
    """Which packages are kept, by name, architecture and version, and how many locks were not understood."""

    packages: frozenset[tuple[str, str, str]] = frozenset()
    unreadable: int = 0


def _key(package: Package) -> tuple[str, str, str]:
    return package.name, package.arch, package.version


def locked_by_dnf(files: Files, packages: Sequence[Package]) -> Locked:
    """What the plugin of dnf 4 keeps, if it is there and switched on.

    Raises: Denied, Broken.
    """
    if not files.exists(VERSIONLOCK):
        return Locked()
    try:
        settings = read_ini(files.text(VERSIONLOCK))
        enabled = settings.getboolean("main", "enabled", fallback=True)
    except (Error, ValueError) as error:
        raise Broken(
            f"{VERSIONLOCK} cannot be read: {str(error)[:200]}; run `dnf versionlock list`"
        ) from error
    path = settings.get("main", "locklist", fallback=LOCKLIST)
    if not enabled or not path.startswith("/") or not files.exists(path):
        return Locked()
    return match_locklist(files.text(path).split("\n"), packages)


def match_locklist(lines: Iterable[str], packages: Sequence[Package]) -> Locked:
    """The packages that locks keep; a line with `!` in front refuses one version and keeps nothing."""
    found = [line.strip() for line in lines if line.strip() and not line.startswith(("#", "!"))]
    names, unreadable = set[str](), 0
    for pattern, times in Counter(found).items():
        matches = [match for form in _FORMS if (match := form.fullmatch(pattern))]
        unreadable += 0 if matches and len(pattern) <= LONGEST else times
        names |= _names([match.groupdict() for match in matches], packages)
    return Locked(frozenset(_key(p) for p in packages if _any(p.name, names)), unreadable)


def _names(forms: Iterable[dict[str, str | None]], packages: Sequence[Package]) -> set[str]:
    """The names whose versions a lock limits: of each form that it may have, up to the first that is there.

    One that is not there limits too. One that is, without a version, allows every version.
    """
    names = set[str]()
    for said in forms:
        name = said["name"] or ""
        there = any(_is(package, said) for package in packages if fits(package.name, name))
        if not there or said.get("version"):
            names.add(name)
        if there:
            break
    return names


def _is(package: Package, said: dict[str, str | None]) -> bool:
    epoch, version, release = split(package.version)
    parts = {"version": version, "release": release or "", "arch": package.arch}
    same = said.get("epoch") in (None, epoch)
    return same and all(fits(text, said.get(part) or "*") for part, text in parts.items())


def _any(name: str, patterns: Iterable[str]) -> bool:
    return any(fits(name, pattern) for pattern in patterns)


def locked_by_dnf5(files: Files, packages: Sequence[Package]) -> Locked:
    """What dnf 5 keeps.

    Raises: Denied, Broken.
    """
    if not files.exists(DNF5_LOCKS):
        return Locked()
    try:
        told = tomllib.loads(files.text(DNF5_LOCKS))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Broken(f"{DNF5_LOCKS} cannot be read: {error}; run `dnf5 versionlock list`") from error
    if "version" not in told:
        return Locked()  # dnf 5 does not heed it either
    if told["version"] != "1.0":
        raise Broken(f"{DNF5_LOCKS} is of another version than 1.0; run `dnf5 versionlock list`")
    return match_versionlock(told.get("packages", []), packages)


def match_versionlock(entries: Any, packages: Sequence[Package]) -> Locked:
    """The packages that entries keep: by a bound above, which one that only refuses versions has not."""
    patterns, unreadable = set[str](), 0
    for entry in entries if isinstance(entries, list) else [None]:
        table = entry if isinstance(entry, dict) else {}
        name, conditions = table.get("name"), table.get("conditions")
        if not isinstance(name, str) or not name or not isinstance(conditions, list) or not conditions:
            unreadable += 1
            continue
        valid = [one for one in conditions if _valid(one)]
        unreadable += len(valid) < len(conditions)
        if any(one["key"] != "arch" and one["comparator"] in _KEEPING for one in valid):
            patterns.add(name)
    return Locked(frozenset(_key(p) for p in packages if _any(p.name, patterns)), unreadable)


def _valid(condition: Any) -> bool:
    if not isinstance(condition, dict):
        return False
    values = [condition.get(part) for part in ("key", "comparator", "value")]
    return all(isinstance(one, str) and one for one in values) and (
        condition["key"] in _KEYS and condition["comparator"] in _COMPARING
    )


def locked_by_zypp(files: Files, packages: Sequence[Package]) -> Locked:
    """What libzypp keeps.

    Raises: Denied, Broken.
    """
    return match_zypp(files.text(ZYPP_LOCKS), packages) if files.exists(ZYPP_LOCKS) else Locked()


def match_zypp(text: str, packages: Sequence[Package]) -> Locked:
    """The packages that the locks of a file keep; one of a repository keeps nothing that is installed."""
    found, unreadable = set[tuple[str, str, str]](), 0
    for paragraph in re.split(r"\n\s*\n", text):
        said: dict[str, list[str]] = {}
        for line in paragraph.split("\n"):
            key, colon, value = line.partition(":")
            if line.startswith("#") or not line.strip():
                continue
            if colon:
                said.setdefault(key.strip(), []).append(value.strip())
            else:
                unreadable += 1
        kinds = [*said.get("type", ()), *said.get("kind", ())]
        if not said or (kinds and "package" not in kinds) or "repo" in said:
            continue
        if understood := _understood(said):
            found |= {_key(package) for package in packages if _locks(said, understood, package)}
        else:
            unreadable += 1
    return Locked(frozenset(found), unreadable)


def _understood(said: dict[str, list[str]]) -> list[str]:
    """The names or patterns of a lock whose rules are known here; empty where they are not."""
    known = said.keys() <= _KNOWN and all(_RANGE.fullmatch(one) for one in said.get("version", ()))
    how = said.get("match_type", ["substring"])[-1]
    names = [*said.get("solvable_name", ()), *said.get("name", ())]
    return names if known and how in ("exact", "substring", "glob", "word") else []


def _locks(said: dict[str, list[str]], names: Sequence[str], package: Package) -> bool:
    exact = said.get("case_sensitive", ["off"])[-1] in ("on", "true", "1")
    how, own = said.get("match_type", ["substring"])[-1], package.name
    if not exact:
        names, own = [name.casefold() for name in names], own.casefold()
    return any(_fits(how, own, name) for name in names) and all(
        _in_range(package.version, range) for range in said.get("version", ())
    )


def _fits(how: str, name: str, pattern: str) -> bool:
    if how == "substring":
        return pattern in name
    if how == "word":
        return re.search(rf"\b{re.escape(pattern)}\b", name) is not None
    return name == pattern or (how == "glob" and fits(name, pattern))


def _in_range(version: str, range: str) -> bool:
    match = _RANGE.fullmatch(range)
    return match is None or order(version, match[2]) in _ORDERS[match[1] or "="]
