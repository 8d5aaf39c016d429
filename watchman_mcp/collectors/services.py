"""Services that are set up on the machine: the unit files of its service manager, as systemd finds them.

A name that several directories have counts as in the first of them; one that leads to /dev/null is masked,
and a link to another unit is a second name, not a second service. A machine without any unit directory is
Absent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from watchman_mcp.collectors import Collector, Look, minutes
from watchman_mcp.errors import Absent, WatchmanError
from watchman_mcp.machine.entries import Entry
from watchman_mcp.machine.files import Directory
from watchman_mcp.machine.unit_files import DIRECTORIES, NULL, bare, installable, is_alias, wanted
from watchman_mcp.schema.services import Service

UNIT_CAP = 1 << 20


def collect(look: Look) -> Iterator[Service]:
    """The services that there are unit files of.

    Raises: Absent, Denied, Broken.
    """
    found: dict[str, tuple[str, bool, bool | None]] = {}
    started: set[str] = set()
    looked = set[str]()
    for path in DIRECTORIES:
        with suppress(Absent):
            if (real := look.machine.files.real(path)) not in looked:
                looked.add(real)
                _directory(look, path, found, started)
    if not looked:
        raise Absent("this machine has no directory of systemd units")
    for name, (path, masked, can) in found.items():
        on = name in started or (name.endswith("@") and any(one.startswith(name) for one in started))
        enabled = (
            "masked"
            if masked
            else "enabled"
            if on
            else None
            if can is None
            else "disabled"
            if can
            else "static"
        )
        yield Service(name=name, type="systemd", unit=f"{name}.service", unit_file=path, enabled=enabled)


def _directory(
    look: Look, path: str, found: dict[str, tuple[str, bool, bool | None]], started: set[str]
) -> None:
    """Add the services that one directory of units has first, and those that its links start."""
    with look.machine.files.directory(path) as directory:
        for entry in directory.entries():
            if wanted(entry.name):
                with suppress(Absent), directory.directory(entry.name) as links:
                    started.update(name for one in links.entries() if (name := bare(one.name)))
            elif (name := bare(entry.name)) and name not in found:
                unit = f"{path}/{entry.name}"
                target = look.machine.files.target(unit) if entry.kind == "link" else ""
                if entry.kind in ("file", "link") and not is_alias(entry, target):
                    masked = target == NULL or (entry.kind == "file" and not entry.size)
                    found[name] = (unit, masked, None if masked else _can_be_enabled(look, directory, entry))


def _can_be_enabled(look: Look, directory: Directory, entry: Entry) -> bool | None:
    """Whether the unit can be enabled; None where its file cannot be read, which is said."""
    try:
        return installable(directory.text(entry.name, UNIT_CAP))
    except WatchmanError as error:
        look.cannot(f"{directory.path}/{entry.name}", str(error))
        return None


collector = Collector(collect, (Service,), minutes(10), DIRECTORIES)
