"""The core of the graph: the host, what happened on it, what people should know, and how collectors fare."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, ClassVar

from pydantic import Field

from .base import EdgeType, Label


class Host(Label):
    """A machine. Everything else belongs to one."""

    identity: ClassVar = ("machine",)
    volatile: ClassVar = frozenset({"boot_time"})
    word: ClassVar = "host"

    machine: str = Field(description="This machine's id in the graph, derived from its machine id.")
    name: str = Field(description="Host name.")
    os: str | None = Field(default=None, description="Operating system and version, as it calls itself.")
    os_id: str | None = Field(default=None, description="Short name of the operating system: debian, fedora.")
    os_version: str | None = Field(default=None, description="Version of the operating system.")
    kernel: str | None = Field(default=None, description="Kernel release.")
    architecture: str | None = Field(default=None, description="Processor architecture.")
    cpu_count: int | None = Field(default=None, description="Logical processors.")
    memory_total_gb: float | None = Field(default=None, description="Memory in GiB.")
    boot_time: datetime | None = Field(default=None, description="When the machine was started.")
    boot_id: str | None = Field(
        default=None, description="The kernel's name for this run of it; another one is a reboot."
    )
    time_zone: str | None = Field(default=None, description="The host's time zone.")

    @classmethod
    def event_type(cls, before: object, after: object) -> str:
        """Another run of the kernel is a start; anything else is a change of the host."""
        if isinstance(before, dict) and isinstance(after, dict) and before["boot_id"] != after["boot_id"]:
            return "host_boot"
        return Label.event_type.__func__(cls, before, after)  # type: ignore[attr-defined, no-any-return] # a classmethod of the base, asked for this class


class Event(Label):
    """Something that happened, at a time, to a thing."""

    identity: ClassVar = ("key",)

    key: str = Field(
        description="evt_ and a hash of what happened, so that the same line read twice is one event."
    )
    ts: datetime = Field(description="When it happened.")
    type: str = Field(
        description="Domain word and what happened: package_install, package_update, host_boot."
    )
    source: str = Field(description="Who says so: apt, dpkg, observed (seen by comparing two looks).")
    subject: str | None = Field(default=None, description="Name of the thing it happened to.")
    package_name: str | None = Field(default=None, description="The package, for package events.")
    version: str | None = Field(
        default=None, description="Version after the change; the one removed, for removals."
    )
    previous: str | None = Field(default=None, description="Version before the change.")
    manager: str | None = Field(default=None, description="Package manager: apt, pip, uv, pipx.")
    architecture: str | None = Field(default=None, description="Architecture of the package.")
    location: str | None = Field(
        default=None, description="Environment of the package where a manager has several."
    )
    command: str | None = Field(default=None, description="Command line that caused it, secrets removed.")
    by: str | None = Field(default=None, description="Who asked for it, where the log says so.")
    transaction_id: str | None = Field(default=None, description="Events of one run of a manager share this.")
    error: str | None = Field(default=None, description="What the manager says went wrong in that run.")
    ts_earliest: datetime | None = Field(
        default=None, description="It happened after this, for observed changes."
    )
    fields: list[str] | None = Field(
        default=None, description="Properties that changed, parallel to before and after."
    )
    before: list[str] | None = Field(default=None, description="Values before, as text.")
    after: list[str] | None = Field(default=None, description="Values after, as text.")


class Alert(Label):
    """Something that a person should know: open until it is over, and vanished from then on."""

    identity: ClassVar = ("key",)
    volatile: ClassVar = frozenset({"last_at", "count", "message"})
    word: ClassVar = "alert"

    key: str = Field(description="alr_ and a hash of the rule, the subject and when it was opened.")
    rule: str = Field(description="Name of the rule, which a setting can turn off.")
    subject: str = Field(description="What it is about; one alert of a rule is open for each.")
    severity: str = Field(description="critical, warning or notice.")
    message: str = Field(description="What is so, as of the newest time that it was raised.")
    opened_at: datetime = Field(description="When it was opened.")
    closed_at: datetime | None = Field(
        default=None, description="When it was closed; not there while it is open."
    )
    last_at: datetime = Field(description="When it was raised for the newest time.")
    count: int = Field(
        description="How often it was raised, which is more than once where it comes and goes."
    )

    @classmethod
    def event_type(cls, before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
        """An alert is opened and closed; nothing else about it is an event."""
        return "alert_closed" if after is None else "alert_opened"

    @classmethod
    def event_values(cls, before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any]:
        """An event about an alert says what the alert says, and bears its key."""
        values = after or before or {}
        told = {"fields": ["message"], "before": [""], "after": [values["message"]]}
        return {"subject": values["subject"], "transaction_id": values["key"], **told}


class CollectorRun(Label):
    """A stretch of time in which one collector fared the same way."""

    identity: ClassVar = ("collector", "started_at")
    volatile: ClassVar = frozenset({"last_at", "runs", "duration_ms", "items", "edges_left_out"})

    collector: str = Field(description="Name of the collector.")
    started_at: datetime = Field(description="First look of the stretch.")
    last_at: datetime = Field(description="Newest look of the stretch.")
    status: str = Field(description="ok, partial, unavailable, failed or stuck.")
    runs: int = Field(description="Looks in the stretch.")
    duration_ms: float = Field(description="How long the newest look took.")
    items: int = Field(description="Nodes, edges and records of the newest look.")
    edges_left_out: int | None = Field(
        default=None, description="Edges of the newest look whose other end is not known."
    )
    looks_for: list[str] = Field(description="Labels that it brings.")
    managers: list[str] | None = Field(default=None, description="Package managers that it looks for.")
    unobserved: list[str] | None = Field(default=None, description="What could not be looked at, and why.")
    error: str | None = Field(default=None, description="Why a look failed.")


RAISED_FOR = EdgeType("RAISED_FOR", (Alert,), (Label,), "The alert was raised for this thing.")
ACTED_ON = EdgeType("ACTED_ON", (Event,), (Label,), "The event happened to this thing.")
ON_HOST = EdgeType("ON_HOST", (Label,), (Host,), "The thing belongs to this machine.")


@dataclass(frozen=True, slots=True)
class Record:
    """A change that the machine's own log tells: an event, and the thing it acted on.

    `subject` is that thing as the log knows it; it is written as a vanished node when it is not known yet.
    """

    event: Event
    subject: Label | None = None


def event_key(*content: object) -> str:
    """The key of a recorded event: the hash of what the log says of it, without free text and who asked.

    Give a last value that counts equal records of the same second, so that two of them stay two.
    """
    text = "\x1f".join([str(part) for part in content])
    return "evt_" + blake2b(text.encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()
