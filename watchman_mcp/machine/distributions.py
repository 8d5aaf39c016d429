"""The metadata of Python distributions: text in, values out."""

import re
from email.parser import BytesHeaderParser
from email.policy import compat32
from functools import lru_cache

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidName, canonicalize_name

from watchman_mcp.errors import Broken


def read_metadata(content: bytes) -> tuple[str, str | None, str | None, tuple[str, ...]]:
    """Name, version, summary and requirements of a METADATA or PKG-INFO file.

    Raises: Broken.
    """
    head = re.split(rb"\r?\n\r?\n", content, maxsplit=1)[0]
    fields = BytesHeaderParser(policy=compat32).parsebytes(head)
    name, version = (str(fields.get(field) or "").strip() for field in ("Name", "Version"))
    if not name or b"\0" in head:
        raise Broken("its metadata has no name or holds NUL bytes; install the distribution again")
    if not is_name(name):
        raise Broken("the name in its metadata is none that a distribution may have; install it again")
    summary = str(fields.get("Summary") or "").strip().partition("\n")[0].strip()
    return name, version or None, summary or None, tuple(map(str, fields.get_all("Requires-Dist") or ()))


def is_name(name: str) -> bool:
    """Whether a distribution may be called so."""
    try:
        canonicalize_name(name, validate=True)
    except InvalidName:
        return False
    return True


@lru_cache(maxsize=8192)
def needed(requirement: str, python: str) -> str | None:
    """The normal name of what a requirement asks for with this Python; None for an extra or for nothing.

    None too where it cannot be read, or where its marker compares what cannot be compared.
    """
    try:
        wanted = Requirement(requirement)
    except InvalidRequirement:
        return None
    major_minor = ".".join(python.split(".")[:2])
    here = {"python_version": major_minor, "python_full_version": python, "extra": ""}
    environment = {**default_environment(), **here}
    values = {name: str(value) for name, value in environment.items()}
    try:
        asked = wanted.marker is None or wanted.marker.evaluate(values)
    except (ValueError, LookupError):  # what its comparisons raise, and a name that none of ours stands for
        return None
    return canonicalize_name(wanted.name) if asked else None
