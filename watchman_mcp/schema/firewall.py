"""The programs that make firewall rules; the rules themselves are with the network."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from .base import Label


class FirewallManager(Label):
    """A program that makes firewall rules from settings of its own."""

    identity: ClassVar = ("name",)
    word: ClassVar = "firewall"

    name: str = Field(description="ufw or firewalld.")
    active: bool | None = Field(
        default=None, description="Whether its rules are in force; none: that cannot be told."
    )
    enabled: bool | None = Field(default=None, description="Whether its settings turn it on; none: not told.")
    incoming: str | None = Field(
        default=None, description="What it does with connections that no setting is for: drop, zone public."
    )
    settings: list[str] | None = Field(default=None, description="Its rules, in its own words.")

    @classmethod
    def event_type(cls, before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
        """One that is turned on or off has events of these names."""
        was, now = (bool(side and side["active"]) for side in (before, after))
        if was != now:
            return "firewall_enabled" if now else "firewall_disabled"
        what = "appeared" if before is None else "vanished" if after is None else "changed"
        return f"firewall_manager_{what}"
