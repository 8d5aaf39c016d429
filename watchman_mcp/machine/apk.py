"""apk's database of installed packages, its world and its log; text in, values out."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from watchman_mcp.errors import Broken
from watchman_mcp.machine.dpkg import written
from watchman_mcp.machine.logs import Line

COMMAND_LINES = 200
"""So many lines at most is a command line taken to have."""

_WANTED = re.compile(r"(?P<name>[^\s@<>=~!]+)(?P<order>[<>=~]+)?(?P<version>[^\s@]*)(?:@\S+)?")
_RUNNING = "Running `"
_BEGUN = re.compile(r"(?P<command>.*)` at (?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", re.DOTALL | re.ASCII)
_COUNT = r"\( *\d+/\d+\) "
_CHANGE = re.compile(
    rf"{_COUNT}(?P<verb>Installing|Purging|Reinstalling) (?P<name>[^\s@]+)(?:@\S+)? \((?P<version>\S+)\)"
)
_STEP = re.compile(
    rf"{_COUNT}(?P<verb>Upgrading|Downgrading|Replacing) (?P<name>[^\s@]+)(?:@\S+)? "
    r"\((?P<previous>\S+) -> (?P<version>\S+)\)"
)
_COUNTED = re.compile(rf"{_COUNT}(?:Installing|Purging|Reinstalling|Upgrading|Downgrading|Replacing)\b.*")
_TYPES = {
    "Installing": "package_install",
    "Purging": "package_remove",
    "Reinstalling": "package_reinstall",
    "Upgrading": "package_update",
    "Downgrading": "package_downgrade",
    "Replacing": "package_reinstall",
}
_OUTCOME = re.compile(r"(?:OK:|\d+ errors?[;,:]).*")
_BROKEN = {"f": "files not extracted", "s": "script failed", "x": "attributes not set"}
"""What apk remembers of a package with which something went wrong."""

Fields = Mapping[str, str]


def read_installed(text: str, path: str) -> list[Fields]:
    """The fields of each installed package, by their letters; its files are passed over.

    Raises: Broken (no package at all, one without name or version, or a file that ends in the middle of one).
    """
    found: list[Fields] = []
    # Of a package all about it comes before its directories.
    for block in text.split("\n\n"):
        fields: dict[str, str] = {}
        for line in block.lstrip("\n").split("\n"):
            letter, colon, value = line.partition(":")
            if letter == "F":
                break
            if colon:
                fields.setdefault(letter, value)
        if not fields and not block.strip("\n"):
            continue
        if not fields.get("P") or not fields.get("V") or "\0" in block:
            raise Broken(f"{path} is damaged at its package {len(found) + 1}; apk fix restores it")
        if broken := [_BROKEN[letter] for letter in fields.get("f", "") if letter in _BROKEN]:
            fields["state"] = ", ".join(broken)
        found.append(fields)
    if not found or not text.endswith("\n\n"):
        raise Broken(f"{path} ends too early, after {len(found)} packages; apk fix restores it")
    return found


def read_world(text: str) -> dict[str, bool]:
    """The names that were asked for, and whether each is held at one version."""
    found: dict[str, bool] = {}
    for word in text.split():
        if match := _WANTED.fullmatch(word):
            found[match["name"]] = match["order"] in ("=", "~", "~=", "=~")
    return found


def needs(packages: Sequence[Fields]) -> Iterator[tuple[int, int]]:
    """Pairs of places in `packages`: one that depends, and one that serves it by name or what it provides."""
    serving: dict[str, list[int]] = {}
    for place, package in enumerate(packages):
        serving.setdefault(package["P"], []).append(place)
        for provided in package.get("p", "").split():
            serving.setdefault(re.split("[<>=~]", provided, maxsplit=1)[0], []).append(place)
    for place, package in enumerate(packages):
        found: dict[int, None] = {}
        for wanted in package.get("D", "").split():
            if match := _WANTED.fullmatch(wanted):  # what begins with ! must not be there
                found |= dict.fromkeys(serving.get(match["name"], ()))
        found.pop(place, None)
        for other in found:
            yield place, other


@dataclass(slots=True, eq=False)
class Run:
    """One run of apk: where it begins in the log, and what it was told to do."""

    at: datetime
    line: Line
    name: str
    command: str
    others: int = 0
    """So many more runs began in its second."""
    equal: dict[tuple[object, ...], int] = field(default_factory=dict)


class Change(NamedTuple):
    """What became of one package."""

    type: str
    name: str
    previous: str | None
    version: str
    run: Run
    nth: int
    """So many equal changes came before in runs of the same second."""
    error: str | None


class ApkLog:
    """Follows the log that apk keeps since its version 3; what is found does not depend on how it is cut.

    That holds if each read begins at the `place` of the one before. Only the beginning of a run has a time,
    which is in UTC. A line says what apk begins to do; what goes wrong with it follows, so that a change is
    told when something else is. What a package's script prints follows that script's name, and is not taken
    for apk's own.
    """

    def __init__(self) -> None:
        self.unreadable = 0
        self._run: Run | None = None
        self._first: Run | None = None
        """The first run of the second in which the present one began."""
        self._opening: tuple[Line, list[str]] | None = None
        self._held: Change | None = None

    def changes(self, lines: Iterable[Line]) -> Iterator[Change]:
        """The changes, in the order of the log."""
        for line in lines:
            text = line.text.strip("\0\r")
            match = _CHANGE.fullmatch(text) or _STEP.fullmatch(text)
            begins = text.startswith(_RUNNING)
            if self._held and (begins or match or _OUTCOME.fullmatch(text)):
                yield self._held
                self._held = None
            if begins:
                self._opening, self._run = (line, []), None
            if self._opening:
                self._open(text)
            elif match and self._run:
                self._held = self._change(match, self._run)
            elif text.startswith("ERROR: ") and self._held:
                error = text.removeprefix("ERROR: ")
                told = self._held.error
                self._held = self._held._replace(error=f"{told}; {error}" if told else error)
            elif _COUNTED.fullmatch(text):
                self.unreadable += 1

    def place(self) -> Line | None:
        """Where the next read must begin: at the first run of the last second; None if there is no run."""
        if self._first:
            return self._first.line
        return self._opening[0] if self._opening else None

    def _open(self, text: str) -> None:
        """The beginning of a run, whose command line may have several lines."""
        assert self._opening is not None
        line, lines = self._opening
        lines.append(text)
        if match := _BEGUN.fullmatch("\n".join(lines).removeprefix(_RUNNING)):
            self._opening = None
            try:
                at = datetime.fromisoformat(match["time"]).replace(tzinfo=UTC)
            except ValueError:
                self.unreadable += 1
            else:
                self._begin(at, line, match["command"])
        elif len(lines) > COMMAND_LINES:
            self._opening = None
            self.unreadable += 1

    def _begin(self, at: datetime, line: Line, command: str) -> None:
        run = Run(at, line, f"apk:{written(at)}", command)
        if self._first and self._first.at == at:  # what is alike in one second is told apart by counting
            self._first.others += 1
            run.name += f".{self._first.others}"
            run.equal = self._first.equal
        else:
            self._first = run
        self._run = run

    def _change(self, match: re.Match[str], run: Run) -> Change:
        found = match.groupdict()
        kind, version = _TYPES[found["verb"]], found["version"]
        previous = version if found["verb"] == "Reinstalling" else found.get("previous")
        content = (kind, found["name"], previous, version)
        nth = run.equal.get(content, 0)
        run.equal[content] = nth + 1
        return Change(kind, found["name"], previous, version, run, nth, None)
