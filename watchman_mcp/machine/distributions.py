"""The metadata of Python distributions: text in, values out."""

import json
import re
from email.parser import BytesHeaderParser
from email.policy import compat32
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

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


class Origin(NamedTuple):
    """Where a distribution is from that was not asked of an index."""

    source: str
    """Its address, without what may be secret; `git+ADDRESS@COMMIT` where it is of a repository."""
    editable: bool
    """Whether only a link to its sources was installed."""


def read_origin(content: bytes) -> Origin:
    """What a direct_url.json tells.

    Raises: Broken.
    """
    try:
        fields = json.loads(content)
        url = fields["url"] if isinstance(fields, dict) else None
        parts = urlsplit(url) if isinstance(url, str) else None
    except (ValueError, LookupError, RecursionError) as error:
        raise Broken("its direct_url.json does not say where it is from; install it again") from error
    if parts is None or not parts.scheme:
        raise Broken("its direct_url.json does not say where it is from; install it again")
    source = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    repository, directory = fields.get("vcs_info"), fields.get("dir_info")
    if isinstance(repository, dict):
        kind, commit = repository.get("vcs"), repository.get("commit_id")
        source = f"{kind}+{source}@{commit}" if isinstance(kind, str) and isinstance(commit, str) else source
    return Origin(source, isinstance(directory, dict) and directory.get("editable") is True)


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
