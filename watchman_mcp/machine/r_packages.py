"""The DESCRIPTION of installed R packages, and where R's libraries are: text in, values out."""

from __future__ import annotations

import re
from typing import NamedTuple

from watchman_mcp.errors import Broken

SYSTEM = (
    "/usr/local/lib/R/site-library",
    "/usr/lib/R/site-library",
    "/usr/local/lib/R/library",
    "/usr/lib/R/library",
    "/usr/lib64/R/library",
    "/usr/share/R/library",
)
"""Libraries of the machine's own R, in the order in which it searches them."""
OTHERS = (
    "/opt/R/*/lib/R/site-library",
    "/opt/R/*/lib/R/library",
    *(
        f"{prefix}/lib/R/*/site-library"
        for prefix in ("/opt/homebrew", "/usr/local", "/home/linuxbrew/.linuxbrew")
    ),
    "/Library/Frameworks/R.framework/Versions/*/Resources/site-library",
    "/Library/Frameworks/R.framework/Versions/*/Resources/library",
)
"""Libraries of other R's: those in one directory are of the same one."""
PERSONAL = ("~/R/*/*", "~/Library/R/*/library", "~/Library/R/*/*/library")

_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9@/_-]*):[ \t]*(.*)", re.ASCII)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9.]{0,199}", re.ASCII)
_NEED = re.compile(r"\s*([A-Za-z][A-Za-z0-9.]*)\s*(?:\([^()]*\)\s*)?", re.ASCII)
_CAME_ALONG = ("base", "recommended")


class Package(NamedTuple):
    """What a DESCRIPTION says of an installed package."""

    name: str
    version: str
    title: str | None
    came_along: bool
    """Whether it is one of those that come with R."""
    needs: tuple[str, ...]


def is_name(name: str) -> bool:
    """Whether a package, and so its directory, may be called so."""
    return _NAME.fullmatch(name) is not None


def read_description(content: bytes) -> Package | None:
    """The package of a DESCRIPTION; None for one that was not installed: R adds how it was built.

    Raises: Broken.
    """
    fields = _fields(content.decode("utf-8", "surrogateescape"))
    if fields.get("Encoding", "").lower() in ("latin1", "latin-1", "iso-8859-1"):
        fields = _fields(content.decode("latin-1"))
    if "Built" not in fields:
        return None
    name, version = fields.get("Package", ""), fields.get("Version", "")
    if not is_name(name) or not version:
        raise Broken("its DESCRIPTION has no name or no version; install the package again")
    wanted = ",".join(fields.get(field, "") for field in ("Depends", "Imports")).split(",")
    found = [match[1] for need in wanted if (match := _NEED.fullmatch(need))]
    return Package(
        name,
        version,
        " ".join(fields.get("Title", "").split()) or None,
        fields.get("Priority") in _CAME_ALONG,
        tuple(one for one in dict.fromkeys(found) if one not in ("R", name)),
    )


def _fields(text: str) -> dict[str, str]:
    """The fields of the first record, the first of each name; a line that begins with space goes on."""
    fields: dict[str, list[str]] = {}
    name = ""
    for line in text.strip("\n").split("\n"):
        line = line.rstrip("\r")
        if not line.strip():
            break
        if line[0] in " \t":
            fields.setdefault(name, []).append(line.strip())
        elif match := _FIELD.fullmatch(line):
            name = match[1] if match[1] not in fields else ""
            fields[name] = [match[2].strip()]
        else:
            name = ""
    return {name: "\n".join(lines) for name, lines in fields.items()}
