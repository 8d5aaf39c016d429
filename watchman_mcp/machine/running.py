"""Finds running programs by name."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress


def running(names: Collection[bytes], proc: str = "/proc") -> dict[int, bytes]:
    """The processes of these programs, by id; a name has at most 15 bytes. None where /proc hides them."""
    found: dict[int, bytes] = {}
    with suppress(OSError):
        for pid in filter(str.isdecimal, os.listdir(proc)):
            with suppress(OSError), open(f"{proc}/{pid}/comm", "rb", buffering=0) as stream:
                name = stream.read(32).rstrip(b"\n")
                if name in names:
                    found[int(pid)] = name
    return found
