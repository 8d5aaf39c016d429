"""Packages of rpm as its database describes them: what rpm's query answers, and what needs what."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from watchman_mcp.errors import Broken
from watchman_mcp.machine.versions.rpm import compare_part, split

# Every text is quoted as for a shell, which is the one way of rpm's, old and new, that no text breaks out of.
QUERY = (
    "N %{NAME:shescape} %{EPOCH:shescape} %{VERSION:shescape} %{RELEASE:shescape} %{ARCH:shescape}"
    " %{INSTALLTIME} %{LONGSIZE} %{SOURCERPM:shescape} %{SUMMARY:shescape} %{MODULARITYLABEL:shescape}\n"
    "[P %{PROVIDENAME:shescape} %{PROVIDEFLAGS} %{PROVIDEVERSION:shescape}\n]"
    "[R %{REQUIRENAME:shescape} %{REQUIREFLAGS} %{REQUIREVERSION:shescape}\n]"
)
"""The format in which rpm is asked for packages."""
LESS, GREATER, EQUAL = 2, 4, 8
LAST_MOMENT = 1 << 33
KEYS = "gpg-pubkey"
"""What rpm calls the keys that it keeps among the packages."""
INSTALL_ONLY = frozenset(
    {
        "kernel",
        "kernel-PAE",
        "installonlypkg(kernel)",
        "installonlypkg(kernel-module)",
        "installonlypkg(vm)",
        "multiversion(kernel)",
    }
)
"""Names of which dnf's packages provide one if they are to be installed beside their older versions."""
MULTIVERSION = frozenset({"multiversion(kernel)"})
"""The same for libzypp."""

VALUE = r"(?:'[^']*+(?:'\\''[^']*+)*+'|\([a-z ]++\)|[0-9]++)"
_LINE = re.compile(rf"([NPR])((?: {VALUE})++)\n")
_VALUES = re.compile(VALUE)
_RICH = re.compile(r"\(|\)|[^\s()]+(?:\([^\s()]*\))*")
_JOINING = frozenset({"and", "or", "with", "else"})
_CONDITION = frozenset({"if", "unless", "without"})
_SENSE = frozenset({"<", "<=", "=", ">=", ">"})


class Relation(NamedTuple):
    """Something that a package provides or requires; without version it has no flags."""

    name: str
    flags: int
    version: str


@dataclass(slots=True)
class Package:
    """One installed package."""

    name: str
    version: str
    """With epoch, unless that is 0, and release."""
    arch: str
    installed_at: int = 0
    size: int | None = None
    source: str | None = None
    """File name of the source package."""
    summary: str | None = None
    stream: str | None = None
    """Name and stream of the module that it was built in."""
    provides: list[Relation] = field(default_factory=list)
    requires: list[Relation] = field(default_factory=list)


def full_version(epoch: int | str | None, version: str, release: str) -> str:
    """Epoch, version and release as rpm writes them together; an epoch of 0 is none."""
    known = f"{version}-{release}" if release else version
    return f"{epoch}:{known}" if epoch and str(epoch) != "0" else known


def stream_of(label: str | None) -> str | None:
    """NAME:STREAM of a module's label NAME:STREAM:VERSION:CONTEXT; None for none."""
    name, _, rest = (label or "").partition(":")
    stream = rest.partition(":")[0]
    return f"{name}:{stream}" if name and stream else None


def without_modules(query: str) -> str:
    """The format for an rpm that does not know of modules yet."""
    return query.replace("%{MODULARITYLABEL:shescape}", "(none)")


def moment(seconds: int) -> int:
    """Seconds since 1970 that are a moment of these centuries.

    Raises: ValueError.
    """
    if not 0 <= (known := int(seconds)) <= LAST_MOMENT:
        raise ValueError(f"{seconds} seconds are no moment")
    return known


def read_query(text: str) -> list[Package]:
    """The packages that rpm told in the format `QUERY`, without its keys.

    Raises: Broken.
    """
    found: list[Package] = []
    place = 0
    while place < len(text):
        line = _LINE.match(text, place)
        values = [plain(value) for value in _VALUES.findall(line[2])] if line else []
        try:
            if line is None:
                raise ValueError(text[place : place + 80])
            if line[1] == "N":
                found.append(_package(values))
            elif values[0] is not None:
                name, flags, version = values
                relation = Relation(name or "", int(flags or 0), version or "")
                (found[-1].provides if line[1] == "P" else found[-1].requires).append(relation)
        except (ValueError, IndexError) as error:
            raise Broken(
                "rpm's answer cannot be understood; run `rpm -qa` to see whether it is well"
            ) from error
        place = line.end()
    return [package for package in found if package.name != KEYS]


def _package(values: list[str | None]) -> Package:
    name, epoch, version, release, arch, installed, size, source, summary, label = values
    return Package(
        name or "",
        full_version(epoch, version or "", release or ""),
        arch or "",
        moment(int(installed or 0)),
        None if size is None else int(size),
        source,
        summary,
        stream_of(label),
    )


def plain(value: str) -> str | None:
    """A value of rpm's answer without its quotes; None for one that says that there is none."""
    if value.startswith("'"):
        return value[1:-1].replace("'\\''", "'")
    return None if value.startswith("(") else value


def install_only(packages: Sequence[Package], provided: frozenset[str]) -> frozenset[str]:
    """The names of the packages whose new versions are put beside the old ones."""
    found = (package for package in packages if any(one.name in provided for one in package.provides))
    return frozenset(package.name for package in found)


def newest(packages: Sequence[Package], several: frozenset[str]) -> list[Package]:
    """The packages, each but those there in `several` versions in the version that was installed last.

    While a package is updated rpm knows both versions; what an interrupted update leaves looks the same.
    """
    chosen: dict[tuple[str, ...], Package] = {}
    for package in packages:
        key = (package.name, package.arch, *([package.version] if package.name in several else []))
        if key not in chosen or chosen[key].installed_at <= package.installed_at:
            chosen[key] = package
    return list(chosen.values())


def wanted_files(packages: Sequence[Package]) -> list[str]:
    """The paths that are required and that no package provides by name."""
    provided = {one.name for package in packages for one in package.provides}
    required = {name for package in packages for one in package.requires for name in _names(one.name)}
    return sorted(name for name in required - provided if name.startswith("/"))


def needs(
    packages: Sequence[Package], owners: Mapping[str, Sequence[tuple[str, str]]]
) -> Iterator[tuple[int, int]]:
    """Pairs of places in `packages`: one that requires, and one that serves it by name, version or file.

    `owners` are name and architecture of the packages that own a file.
    """
    providers: dict[str, list[tuple[int, Relation]]] = {}
    for place, package in enumerate(packages):
        for one in package.provides:
            providers.setdefault(one.name, []).append((place, one))
    places: dict[tuple[str, str], list[int]] = {}
    for place, package in enumerate(packages):
        places.setdefault((package.name, package.arch), []).append(place)
    for place, package in enumerate(packages):
        serving: dict[int, None] = {}
        for required in package.requires:
            for name in _names(required.name):
                serving |= dict.fromkeys(_serving(required, providers.get(name, ())))
                if name not in providers:
                    serving |= dict.fromkeys(
                        p for owner in owners.get(name, ()) for p in places.get(owner, ())
                    )
        serving.pop(place, None)
        for other in serving:
            yield place, other


def _serving(required: Relation, providers: Sequence[tuple[int, Relation]]) -> list[int]:
    # rpm saw to it that the version fits; it is compared where it may tell one provider from another.
    if len(providers) > 1:
        return [place for place, one in providers if _fits(required, one)]
    return [place for place, _ in providers]


def _fits(required: Relation, provided: Relation) -> bool:
    """Whether the range of versions that is provided meets the one that is required."""
    if not required.version or not provided.version or required.name.startswith("("):
        return True
    sense = order(provided.version, required.version)
    if sense < 0:
        return bool(provided.flags & GREATER or required.flags & LESS)
    if sense > 0:
        return bool(provided.flags & LESS or required.flags & GREATER)
    return bool(provided.flags & required.flags & (LESS | GREATER | EQUAL))


def order(one: str, other: str) -> int:
    """As rpm compares versions in dependencies: a release counts where both have one."""
    (epoch, version, release), (other_epoch, other_version, other_release) = split(one), split(other)
    sense = compare_part(epoch, other_epoch) or compare_part(version, other_version)
    if sense or release is None or other_release is None:
        return sense
    return compare_part(release, other_release)


def _names(required: str) -> list[str]:
    """The names that a requirement is about; of a rich one all alternatives, but not its conditions."""
    if not required.startswith("("):
        return [] if required.startswith("rpmlib(") else [required]
    names: list[str] = []
    depth, muted, versions = 0, 0, False
    for word in _RICH.findall(required):
        if word == "(":
            depth += 1
        elif word == ")":
            depth -= 1
            muted = 0 if depth < muted else muted
        elif word in _CONDITION:
            muted = muted or depth
        elif word in _JOINING:
            muted = 0 if word == "else" and depth <= muted else muted
        elif word in _SENSE:
            versions = True
        elif versions:
            versions = False
        elif not muted:
            names.append(word)
    return names
