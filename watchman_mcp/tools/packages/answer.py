"""What an answer about packages holds."""

from __future__ import annotations

from pydantic import BaseModel

from watchman_mcp.tools.answers import Answer, Tail


class Change(BaseModel):
    """One package in a transaction."""

    action: str
    name: str
    version: str | None = None
    previous: str | None = None
    what: str | None = None


class Transaction(BaseModel):
    """Changes that one run of a manager made, or that one look found."""

    ts: str
    host: str | None = None
    manager: str | None = None
    source: str | None = None
    command: str | None = None
    by: str | None = None
    location: str | None = None
    earliest: str | None = None
    error: str | None = None
    changes: list[Change]
    more: int | None = None


class Package(BaseModel):
    """One installed, or formerly installed, package."""

    name: str
    version: str | None = None
    other: str | None = None
    available: str | None = None
    available_from: str | None = None
    security: bool | None = None
    manager: str
    architecture: str | None = None
    location: str | None = None
    stream: str | None = None
    hosts: list[str] | None = None
    installed_at: str | None = None
    removed_at: str | None = None
    requested: bool | None = None
    held: bool | None = None
    state: str | None = None
    size_mb: float | None = None
    source_package: str | None = None
    summary: str | None = None
    depends_on: list[str] | None = None
    needed_by: list[str] | None = None
    provides: list[str] | None = None
    configs: list[str] | None = None
    history: list[str] | None = None


class PackagesAnswer(Answer, Tail):
    """Packages, or their history by transaction."""

    items: list[Package | Transaction] = []
