"""Newer versions that a package manager would install."""

from __future__ import annotations

from typing import NamedTuple


class Update(NamedTuple):
    """A newer version of an installed package, as its manager names them both; kept as JSON as it is."""

    name: str
    architecture: str | None
    version: str
    origin: str | None = None
    """Repository, suite or channel."""
    security: bool | None = None
    """Whether the manager marks it as a security update; None where it marks nothing."""
