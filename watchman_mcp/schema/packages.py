"""Packages: installed software of every manager, what it needs, what it brings, and what it could become."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, NamedTuple

from pydantic import Field

from watchman_mcp.machine.versions import compare_versions

from .base import EdgeType, Label
from .configs import ConfigFile
from .services import Service

PASSING = ("half-installed", "unpacked", "half-configured", "triggers-awaited", "triggers-pending")
"""States of dpkg between two others."""
WHOLE = ("installed", "linked", "disabled")
"""States of what is there with nothing missing: a link to sources, and a snap that is switched off, too."""


class Software(Label):
    """A package that is, or was, installed by a package manager."""

    identity: ClassVar = ("manager", "key", "architecture", "location")
    volatile: ClassVar = frozenset(
        {"installed_at", "size_bytes", "available", "available_from", "security_update"}
    )
    word: ClassVar = "package"
    changed_at: ClassVar = "installed_at"

    key: str = Field(description="Bare package name, in the manager's normal form: docker-ce, pyyaml.")
    name: str = Field(description="Package name as the package itself writes it.")
    version: str | None = Field(default=None, description="Installed version, with epoch and revision.")
    scheme: str | None = Field(
        default=None, description="How its versions are ordered: deb, rpm, pep440, ...; empty: as pep440."
    )
    manager: str = Field(description="Package manager: apt, dnf, brew, pip, npm, ...")
    architecture: str | None = Field(default=None, description="Architecture the package was built for.")
    location: str | None = Field(
        default=None, description="Environment or prefix, where a manager has several."
    )
    source_package: str | None = Field(default=None, description="Source package it was built from.")
    installed_at: datetime | None = Field(default=None, description="When this version was put on the disk.")
    requested: bool | None = Field(
        default=None, description="Asked for by a person; false: came as a dependency."
    )
    held: bool | None = Field(default=None, description="Kept from updates by a hold or a pin.")
    state: str | None = Field(
        default=None, description="installed, or what is wrong: unpacked, half-configured, ..."
    )
    size_bytes: int | None = Field(default=None, description="Installed size in bytes.")
    summary: str | None = Field(default=None, description="One line about the package, by its author.")
    stream: str | None = Field(
        default=None,
        description="Module stream, channel or branch that it follows, where a manager has them.",
    )
    available: str | None = Field(
        default=None, description="Newer version that the manager would install, by its own cache."
    )
    available_from: str | None = Field(
        default=None, description="Repository, suite or channel of that version."
    )
    security_update: bool | None = Field(
        default=None, description="Whether the manager marks that version as a security update."
    )

    @classmethod
    def event_type(cls, before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
        """Installs, removals and version changes have the names that package logs give them."""
        if before is None:
            return "package_install"
        if after is None:
            return "package_remove"
        if before["version"] == after["version"]:
            return "package_changed"
        order = compare_versions(after["scheme"], str(after["version"]), str(before["version"]))
        return "package_downgrade" if order < 0 else "package_update"

    @classmethod
    def event_values(cls, before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any]:
        """Name and versions as package logs give them."""
        values = after or before or {}
        same = {name: values[name] for name in ("version", "manager", "architecture", "location")}
        previous = before["version"] if before and after and before["version"] != after["version"] else None
        return {"subject": values["key"], "package_name": values["key"], "previous": previous, **same}

    @classmethod
    def explained_by(
        cls, event: dict[str, Any], before: dict[str, Any] | None, after: dict[str, Any] | None
    ) -> bool:
        """An install or update to the version that is there; a removal of what is not; never a hold."""
        gone = event["type"] in ("package_remove", "package_purge")
        if after is None or gone:
            return gone and after is None
        same = before is not None and all(before[name] == after[name] for name in ("version", "state"))
        return not same and not cls.passing(after) and bool(event["version"] == after["version"])

    @classmethod
    def passing(cls, values: dict[str, Any]) -> bool:
        """A package that is unpacked and not configured yet, or waits for what others do."""
        return values["state"] in PASSING


DEPENDS_ON = EdgeType("DEPENDS_ON", (Software,), (Software,), "The package needs this one to be installed.")
PROVIDES = EdgeType("PROVIDES", (Software,), (Service,), "The package owns the service's unit file.")
OWNS = EdgeType("OWNS", (Software,), (ConfigFile,), "The package brought this configuration file.")


class PackageIndex(Label):
    """What a manager knows of the versions that it could install: it keeps one, and this is how old it is.

    A manager without one knows no updates, which is not the same as having none.
    """

    identity: ClassVar = ("manager", "location")
    volatile: ClassVar = frozenset({"refreshed_at"})
    word: ClassVar = "package"

    manager: str = Field(description="Package manager: apt, dnf, brew, ...")
    location: str | None = Field(default=None, description="Environment or prefix, where it has several.")
    refreshed_at: datetime | None = Field(
        default=None, description="When the manager last fetched what its repositories offer."
    )

    @classmethod
    def event_type(cls, before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
        """Not the package itself came or went."""
        return f"package_index_{'appeared' if before is None else 'vanished'}"


class Owner(NamedTuple):
    """A package that owns a file, by the parts of its identity that its manager tells; None: any."""

    manager: str
    key: str
    architecture: str | None = None
    location: str | None = None
