"""Debian's control files, versions and dependencies, and apt's history; text in, values out."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from watchman_mcp.errors import Broken
from watchman_mcp.machine.dpkg import STEP_TIME, Clock, written
from watchman_mcp.machine.logs import Line
from watchman_mcp.machine.versions.deb import compare as compare_versions

KEPT_TRANSACTIONS = 500
"""So many at most are read again to find those of steps that were open at the last look."""
Stanza = Mapping[str, str]

_NAMES = re.compile(r"(?:^|[,|])\s*([^\s:(,|\[<]+)(?::([^\s(,|\[<]+))?")
_GONE = ("not-installed", "config-files")
_LISTED = re.compile(r"(?<![^\s,])([A-Za-z0-9][A-Za-z0-9+._-]*)(?::([a-z0-9][a-z0-9-]*))? \(([^()]*)\)")
_LISTS = frozenset({"Install", "Upgrade", "Downgrade", "Reinstall", "Remove", "Purge", "Disappeared"})


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
    """NAME:ARCH of the packages that apt remembers to have come as dependencies."""
    return frozenset(
        f"{stanza.get('Package')}:{stanza.get('Architecture')}"
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


class Change(NamedTuple):
    """What was to be done with a package: the versions before and after it, None for none."""

    kind: str
    """The log's own word."""
    name: str
    arch: str
    before: str | None
    after: str | None

    @property
    def outcome(self) -> str:
        """One of install, update, downgrade, reinstall, remove and purge."""
        if self.after is None:
            return "purge" if self.kind in ("purge", "Purge") else "remove"
        if self.before is None:
            return "install"
        if self.before == self.after:
            return "reinstall"
        return "downgrade" if compare_versions(self.after, self.before) < 0 else "update"


@dataclass(slots=True, eq=False)
class Transaction:
    """One run of apt."""

    line: Line
    fold: int
    at: datetime
    starts: tuple[datetime, datetime]
    """The earliest and the latest moment that its local time may mean."""
    latest: datetime | None = None
    """The latest moment at which it may have changed something; None while it may still run."""
    ended: bool = False
    command: str | None = None
    by: str | None = None
    error: str | None = None
    changes: list[Change] = field(default_factory=list)


class Transactions:
    """Transactions in the order of apt's history, found by what they list."""

    def __init__(self, found: list[Transaction]) -> None:
        self._found = found
        self._listed: dict[tuple[str, str | None], list[tuple[Change, Transaction]]] = {}
        self._purged = {(c.name, t.at) for t in found for c in t.changes if c.kind == "Purge"}
        for transaction in found:
            for change in transaction.changes:
                self._listed.setdefault((change.name, change.after), []).append((change, transaction))

    def cause(self, change: Change, at: datetime, nth: int) -> Transaction | None:
        """The one that lists this change and lasted then; `nth` such changes came before in that second."""
        fitting = [
            transaction
            for listed, transaction in self._listed.get((change.name, change.after), ())
            if transaction.starts[0] <= at
            and (transaction.latest is None or at <= transaction.latest)
            and (listed.before == change.before or (change.after is None and not listed.before))
            and (listed.kind == "Purge" or change.kind != "purge")
            # apt counts packages for all architectures among the machine's own.
            and (listed.arch == change.arch or change.arch in ("all", "") or not listed.arch)
        ]
        if len(fitting) < 2:
            return fitting[0] if fitting else None
        begun = [transaction for transaction in fitting if at in transaction.starts]
        return begun[min(nth, len(begun) - 1)] if begun else fitting[-1]

    def purges(self, name: str, cause: Transaction) -> bool:
        """Whether this run was to purge the package; dpkg logs a mere removal where nothing was left."""
        return (name, cause.at) in self._purged

    def over(self, since: str) -> Iterator[Transaction]:
        """The first ones, as long as they were over before this moment, or at all if it is empty."""
        for transaction in self._found:
            if transaction.latest is None or (since and written(transaction.latest) >= since):
                return
            yield transaction

    def needed(self, oldest: datetime | None) -> Transaction | None:
        """Where the next read must begin: at the last one, or the first that lasted at `oldest` or later."""
        last = len(self._found) - 1
        first = max(last, 0)
        if oldest is not None:
            lasting = (
                number
                for number in range(max(last - KEPT_TRANSACTIONS, 0), last)
                if (latest := self._found[number].latest) and latest >= oldest
            )
            first = next(lasting, first)
        # Equal ones of one second are told apart by counting from the first.
        while first and self._found[first - 1].at == self._found[first].at:
            first -= 1
        return self._found[first] if self._found else None


def read_transactions(lines: Iterable[Line], clock: Clock) -> tuple[list[Transaction], int]:
    """The transactions of apt's history in its order, and how many lines could not be read."""
    found: list[Transaction] = []
    current: Transaction | None = None
    unreadable = 0
    for line in lines:
        name, colon, value = line.text.strip("\0\r").partition(": ")
        try:
            if name == "Start-Date":
                current = None
                at, earliest, latest = clock.moment(" ".join(value.split()))
                current = Transaction(line, clock.fold, at, (earliest, latest))
                if found and not found[-1].ended:
                    # It was killed; if the clock was set back since, this start says nothing of when.
                    found[-1].latest = latest if latest >= found[-1].at else found[-1].at + STEP_TIME
                found.append(current)
            elif current and colon:
                _fill(current, name, value.strip(), clock)
            elif name.strip():
                unreadable += 1
        except ValueError:
            unreadable += 1
    return found, unreadable


def _fill(transaction: Transaction, name: str, value: str, clock: Clock) -> None:
    if name == "Commandline":
        transaction.command = value or None
    elif name == "Requested-By":
        transaction.by = value or None
    elif name == "Error":
        transaction.error = value or None
    elif name == "End-Date":
        transaction.latest = clock.moment(" ".join(value.split()))[2]
        transaction.ended = True
    elif name in _LISTS:
        transaction.changes += [_change(name, *item) for item in _LISTED.findall(value)]


def _change(kind: str, name: str, arch: str, words: str) -> Change:
    versions = [word for word in words.split(", ") if word and word != "automatic"]
    first = versions[0] if versions else None
    before = None if kind == "Install" else first
    gone = kind in ("Remove", "Purge", "Disappeared")
    return Change(kind, name, arch, before, None if gone else versions[-1] if versions else None)
