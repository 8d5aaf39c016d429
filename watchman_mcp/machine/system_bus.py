"""Asks services on the system's D-Bus for properties, by systemd's busctl, in JSON where it knows that."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from watchman_mcp.errors import Absent, Broken, Denied
from watchman_mcp.machine.bus_lines import read_line
from watchman_mcp.machine.commands import Commands, Output

_ASK = ["busctl", "--system", "--no-pager", "--auto-start=no", "--timeout=3"]
_JSON = "--json=short"
_SECONDS = 5.0


class Lacking(Broken):
    """The object has no property of this name, as where the service is of an older version."""


def runs(commands: Commands, service: str) -> bool:
    """Whether a service is on the bus now; it is not started by the question.

    Raises: Denied, Broken.
    """
    bus = "org.freedesktop.DBus"
    try:
        rows = _asked(commands, ["call", bus, "/", bus, "NameHasOwner", "s", service], 1)
    except Absent as error:
        raise Broken(f"the system bus cannot be asked: {error}") from error
    return rows[0] in (True, [True])


def properties(commands: Commands, service: str, path: str, interface: str, *names: str) -> dict[str, Any]:
    """Properties of an object of a service, each as plain JSON.

    Raises: Absent (no busctl), Denied, Lacking, Broken.
    """
    rows = _asked(commands, ["get-property", service, path, interface, *names], len(names))
    return dict(zip(names, rows, strict=True))


def _asked(commands: Commands, words: list[str], count: int) -> list[Any]:
    told = commands.run([*_ASK, _JSON, *words], timeout=_SECONDS)
    if told.code != 0 and "unrecognized option" in told.stderr:  # systemd before 240, as RHEL 8 has it
        told = commands.run([*_ASK, *words], timeout=_SECONDS)
        return _rows(told, count, read_line)
    return _rows(told, count, _of_json)


def _of_json(line: str) -> Any:
    return json.loads(line)["data"]


def _rows(told: Output, count: int, read: Callable[[str], Any]) -> list[Any]:
    if told.code != 0:
        why = told.stderr.strip().split("\n")[-1][:200]
        if "access denied" in why.lower() or "not permitted" in why.lower():
            raise Denied(f"the system bus may not be asked this by this user: {why}")
        kind = Lacking if "unknown property" in why.lower() else Broken
        raise kind(f"busctl says: {why or 'nothing'}; run it by hand")
    try:
        rows = [read(line) for line in told.stdout.strip().split("\n")]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Broken("busctl answers in another shape than JSON; run it by hand") from error
    if len(rows) != count:
        raise Broken(f"busctl gives {len(rows)} answers to {count} questions; run it by hand")
    return rows


def object_path(prefix: str, name: str) -> str:
    """The object of a name below a prefix, as systemd encodes it: what is no letter is written as hex."""
    encoded = "".join(
        letter
        if letter.isascii() and (letter.isalpha() or (place and letter.isdigit()))
        else f"_{ord(letter):02x}"
        for place, letter in enumerate(name)
    )
    return f"{prefix}/{encoded or '_'}"


def shaped(value: Any, *kinds: type) -> list[list[Any]]:
    """The rows of a list whose fields have these types; another shape is Broken.

    Raises: Broken.
    """
    if isinstance(value, list) and all(
        isinstance(row, list)
        and len(row) == len(kinds)
        and all(isinstance(part, kind) for part, kind in zip(row, kinds, strict=True))
        for row in value
    ):
        return value
    raise Broken("the service answers in another shape than it is documented; run busctl by hand")
