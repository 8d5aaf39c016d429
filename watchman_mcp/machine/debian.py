"""Debian's control files and dependencies; text in, values out."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from watchman_mcp.errors import Broken

Stanza = Mapping[str, str]

_NAMES = re.compile(r"(?:^|[,|])\s*([^\s:(,|\[<]+)(?::([^\s(,|\[<]+))?")
_GONE = ("not-installed", "config-files")


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """The stanzas of a control file; a folded field keeps its line ends and loses its indentation."""
    for block in text.replace("\r\n", "\n").split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in block.split("\n"):
            if line[:1] in (" ", "\t"):
                if name:
                    fields[name] += "\n" + line.strip()
            elif line:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
        if fields:
            yield fields


def present(text: str, path: str, default: str = "") -> list[Stanza]:
    """The stanzas of a status file whose packages are there; `default` is the status of one that says none.

    Raises: Broken (no package at all, or a damaged stanza).
    """
    found = list(stanzas(text)) if "\0" not in text else []
    if not found:
        raise Broken(f"{path} names no package or holds NUL bytes; restore it from {path}-old")
    kept: list[Stanza] = []
    for number, stanza in enumerate(found, 1):
        words = stanza.get("Status", default).split()
        whole = "Package" in stanza and len(words) in (0, 3)
        if whole and words and words[2] not in _GONE:
            whole = "Version" in stanza or words[2] == "half-installed"
            kept.append(stanza | {"Status": " ".join(words)})
        # dpkg ends each stanza with an empty line and, near enough, with its description.
        if number == len(found) and not (text.endswith("\n\n") or default):
            whole = whole and text.endswith("\n") and "Description" in stanza
        if not whole:
            raise Broken(f"{path} is damaged at its stanza {number}; restore it from {path}-old")
    return kept


def read_automatic(text: str) -> frozenset[str]:
    """NAME:ARCH of the packages that apt remembers to have come as dependencies.

    Before its version 0.8 it knew but one architecture, and wrote none: these are a mere NAME.
    """
    return frozenset(
        ":".join(stanza[field] for field in ("Package", "Architecture") if field in stanza)
        for stanza in stanzas(text)
        if stanza.get("Auto-Installed") == "1"
    )


def read_removed(text: str) -> frozenset[str]:
    """NAME:ARCH of the packages whose removal is complete, for their configuration files are to stay."""
    kept = [block for block in text.split("\n\n") if "\nStatus: deinstall ok config-files" in block]
    found = stanzas("\n\n".join(kept))
    return frozenset(":".join(s[name] for name in ("Package", "Architecture") if name in s) for s in found)


def native_of(packages: Iterable[Stanza]) -> str:
    """The machine's own architecture: that of dpkg, or of most packages where there is no dpkg."""
    counts: dict[str, int] = {}
    for package in packages:
        arch = package.get("Architecture", "all")
        if package["Package"] == "dpkg":
            return arch
        if arch != "all":
            counts[arch] = counts.get(arch, 0) + 1
    return max(counts, key=lambda arch: counts[arch], default="")


def needs(packages: Sequence[Stanza], native: str) -> Iterator[tuple[int, int]]:
    """Pairs of places in `packages`: one that depends, and one that can serve it by whichever alternative."""
    serving: dict[str, list[int]] = {}
    for place, package in enumerate(packages):
        serving.setdefault(package["Package"], []).append(place)
        for name, _ in _NAMES.findall(package.get("Provides", "")):
            serving.setdefault(name, []).append(place)
    for place, package in enumerate(packages):
        found: dict[int, None] = {}
        for kind in ("Pre-Depends", "Depends"):
            for name, wanted in _NAMES.findall(package.get(kind, "")):
                others = serving.get(name, ())
                found |= dict.fromkeys(o for o in others if _serves(packages[o], package, wanted, native))
        found.pop(place, None)
        for other in found:
            yield place, other


def _serves(other: Stanza, package: Stanza, wanted: str, native: str) -> bool:
    """Whether a package is of an architecture that the dependency of another one accepts."""
    shared = other.get("Multi-Arch", "")
    if shared == "foreign" or (wanted == "any" and shared == "allowed"):
        return True
    own = _machine_of(package, native)
    asked = native if wanted == "native" else own if wanted in ("", "any") else wanted
    return _machine_of(other, native) == asked


def _machine_of(package: Stanza, native: str) -> str:
    arch = package.get("Architecture", "")
    return native if arch == "all" else arch
