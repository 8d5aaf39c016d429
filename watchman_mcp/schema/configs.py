"""Configuration files."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from pydantic import Field

from .base import Label


class ConfigFile(Label):
    """A configuration file of the machine; its text is not kept."""

    identity: ClassVar = ("path",)
    word: ClassVar = "config"
    changed_at: ClassVar = "modified_at"

    path: str = Field(description="Where it is.")
    size_bytes: int | None = Field(default=None, description="Size in bytes.")
    modified_at: datetime | None = Field(default=None, description="When its text was last written.")
    mode: str | None = Field(default=None, description="Permissions, in octal: 0644.")
    owner: int | None = Field(default=None, description="User id of its owner.")
