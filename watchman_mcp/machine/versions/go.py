"""Versions of Go's modules, and of Go itself."""

import re

from watchman_mcp.machine.versions import semver

_SHORT = re.compile(r"v(\d+)(?:\.(\d+))?", re.ASCII)
_TOOLCHAIN = re.compile(
    r"go(0|[1-9]\d*)(?:\.(0|[1-9]\d*))?(?:\.(0|[1-9]\d*)|(alpha|beta|rc)(0|[1-9]\d*))?", re.ASCII
)


def compare(one: str, other: str) -> int:
    """-1, 0 or 1 as Go sorts `one` before, beside or after `other`.

    Raises: ValueError for what is neither two versions of modules nor two of Go itself.
    """
    if one.startswith("go") and other.startswith("go"):
        first, second = _toolchain(one), _toolchain(other)
        return (first > second) - (first < second)
    return semver.compare(_whole(one), _whole(other))


def _whole(version: str) -> str:
    """A version of a module with all its three numbers."""
    match = _SHORT.fullmatch(version)
    if not version.startswith("v"):
        raise ValueError(f"{version[:40]!r} is no version of a Go module")
    return f"v{match[1]}.{match[2] or 0}.0" if match else version


def _toolchain(version: str) -> tuple[int, int, str, int, int]:
    # go1.22.1 X:boringcrypto and go1.22.1-fips are builds of go1.22.1
    word = version[: semver.LONGEST].partition(" ")[0].partition("-")[0]
    match = _TOOLCHAIN.fullmatch(word)
    if match is None:
        raise ValueError(f"{version[:40]!r} is no version of Go")
    major, minor, patch, kind, number = match.groups()
    # Since Go 1.21 the first release is 1.21.0 and 1.21 is the language, which is older than 1.21rc1.
    stage = kind or ("release" if patch or int(minor or 0) < 21 else "")
    return int(major), int(minor or 0), stage, int(number or 0), int(patch or 0)
