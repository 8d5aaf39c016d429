"""Services: what the machine's service manager can run."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from .base import Label


class Service(Label):
    """A service that is set up on the machine, whether it runs or not."""

    identity: ClassVar = ("type", "name")
    word: ClassVar = "service"

    name: str = Field(description="Bare name: nginx.")
    type: str = Field(description="What runs it: systemd.")
    unit: str | None = Field(default=None, description="Full name of the unit: nginx.service.")
    unit_file: str | None = Field(default=None, description="Path of the unit file that counts.")
    enabled: str | None = Field(
        default=None, description="enabled, disabled, static, masked, ...: whether it is started by itself."
    )
