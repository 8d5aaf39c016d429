"""yum's log, for where nothing else tells; lines in, changes out."""

import re
from collections.abc import Iterable, Iterator

from watchman_mcp.machine.dnf_logs import Named, read_named
from watchman_mcp.machine.dpkg import Clock
from watchman_mcp.machine.log_years import STAMP, Written, local_times
from watchman_mcp.machine.logs import Line
from watchman_mcp.machine.rpm_changes import Change, Told, numbered

YUM_LOG = "/var/log/yum.log"

_YUM = re.compile(rf"{STAMP} ([A-Z][A-Za-z-]+): (\S.*)", re.ASCII)
_WORDS = {"Installed": "install", "Dep-Installed": "install", "Updated": "update", "Erased": "remove"}
_WORDS |= {"Dep-Updated": "update", "Obsoleted": "remove"}


class YumLog:
    """Reads yum's log, whose times have neither year nor zone; the times of its files say more."""

    def __init__(self, clock: Clock, written: Written) -> None:
        self.unreadable = 0
        self.place: tuple[Line, int] | None = None
        """Where the last second begins, and the clock's fold there."""
        self._clock = clock
        self._written = written

    def told(self, lines: Iterable[Line]) -> Iterator[Told]:
        """The changes, oldest first."""
        return numbered(self._told(list(lines)))

    def _told(self, lines: list[Line]) -> Iterator[Told]:
        last = ""
        for line, local in zip(lines, local_times(lines, self._written), strict=True):
            found = _YUM.match(line.text)
            package = _read_package(found[5]) if found else None
            kind = _WORDS.get(found[4]) if found else None
            try:
                stamp = local.isoformat(" ") if local else ""
                at = self._clock.moment(stamp)[0]
            except ValueError:
                kind = None
            if package is None or kind is None:
                self.unreadable += bool(line.text.strip("\0 \r"))
                continue
            if stamp != last:
                last, self.place = stamp, (line, self._clock.fold)
            yield Told(at, Change(kind, package.name, package.arch, None, package.version))


def _read_package(text: str) -> Named | None:
    """A package as yum wrote it at its time; of one that was erased yum 3.2 writes but the name.

    Since 3.2 it is `1:app-2.0-1.noarch`, before that `app - 1:2.0-1.noarch` and in yum 2
    `app.noarch 1:2.0-1`.
    """
    words = text.split()
    if not words:
        return None
    if len(words) == 1:
        return read_named(words[0]) or Named(words[0], None, "")
    if len(words) == 3 and words[1] == "-":
        return read_named(f"{words[0]}-{words[2]}")
    name, _, arch = words[0].rpartition(".")
    return read_named(f"{name}-{words[1]}.{arch}") if name and len(words) == 2 else None
