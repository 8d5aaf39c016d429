"""systemd's unit files: where they lie, and which services they make."""

from __future__ import annotations

from watchman_mcp.machine.entries import Entry

DIRECTORIES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
"""Where system units lie, the directory that counts first."""
ENDING = ".service"
NULL = "/dev/null"


def service_of(path: str) -> str | None:
    """The bare name of the service whose unit file may lie at this path; None for anything else."""
    directory, _, name = path.rpartition("/")
    return bare(name) if directory in DIRECTORIES else None


def bare(name: str) -> str | None:
    """The bare name of a service from the name of its unit; None for a unit that is none."""
    return name.removesuffix(ENDING) if name.endswith(ENDING) and name != ENDING else None


def wanted(directory: str) -> bool:
    """Whether a directory beside unit files holds links to units that another one starts."""
    return directory.endswith((".wants", ".requires", ".upholds"))


def installable(text: str) -> bool:
    """Whether a unit file says what enabling it would do."""
    section = ""
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == "[Install]" and line and line[0] not in "#;":
            return True
    return False


def is_alias(entry: Entry, target: str) -> bool:
    """Whether a link in a unit directory is another name of a unit, rather than a unit elsewhere."""
    return entry.kind == "link" and target != NULL and "/" not in target.removeprefix("./")
