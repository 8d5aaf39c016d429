"""What `cargo install` keeps of itself, in `.crates.toml` and `.crates2.json`: text in, values out."""

from __future__ import annotations

import json
import re
import tomllib
from typing import NamedTuple

from watchman_mcp.errors import Broken

_ID = re.compile(
    r"(?P<name>[A-Za-z_][A-Za-z0-9_-]{0,99}) (?P<version>\S{1,256}) \((?P<source>[^\n]{1,4096})\)"
)


class Crate(NamedTuple):
    """One installed crate."""

    name: str
    version: str
    source: str
    """Where it is from: `registry+https://...`, `git+https://...#COMMIT`, `path+file:///...`."""
    programs: tuple[str, ...]


def read_crates(text: str) -> tuple[list[Crate], int]:
    """The crates that a `.crates.toml` lists, and how many of its entries could not be read.

    Raises: Broken.
    """
    try:
        table = tomllib.loads(text).get("v1")
    except (ValueError, RecursionError) as error:
        raise Broken(".crates.toml is no TOML text; restore it or install the crates again") from error
    return _crates(table, ".crates.toml")


def read_crates2(text: str) -> tuple[list[Crate], int]:
    """The crates that a `.crates2.json` lists, and how many of its entries could not be read.

    Raises: Broken.
    """
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Broken(".crates2.json is no JSON text; restore it or install the crates again") from error
    installs = table.get("installs") if isinstance(table, dict) else None
    programs = {
        crate: entry.get("bins", []) if isinstance(entry, dict) else None
        for crate, entry in (installs if isinstance(installs, dict) else {}).items()
    }
    return _crates(programs if isinstance(installs, dict) else None, ".crates2.json")


def _crates(table: object, name: str) -> tuple[list[Crate], int]:
    if not isinstance(table, dict):
        raise Broken(f"{name} holds no table of crates; restore it or install the crates again")
    found, unreadable = list[Crate](), 0
    for crate, programs in table.items():
        match = _ID.fullmatch(crate)
        if match is None or not isinstance(programs, list) or not all(isinstance(p, str) for p in programs):
            unreadable += 1
        else:
            found.append(Crate(match["name"], match["version"], match["source"], tuple(programs)))
    return found, unreadable
