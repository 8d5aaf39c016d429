"""The accounts of the machine."""

from __future__ import annotations


def read_users(text: str) -> dict[int, str]:
    """User names by uid, the first name of each, from a passwd file."""
    users: dict[int, str] = {}
    for line in text.split("\n"):
        name, *rest = line.split(":")
        # no number of the kernel is longer, and a much longer one cannot be read
        if len(rest) >= 2 and rest[1].isascii() and rest[1].isdecimal() and len(rest[1]) <= 10:
            users.setdefault(int(rest[1]), name)
    return users
