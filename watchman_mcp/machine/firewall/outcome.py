"""What may become of a packet, by its source, and what decided it."""

from __future__ import annotations

from dataclasses import dataclass, field

from watchman_mcp.machine.firewall.model import ChainId, Rule
from watchman_mcp.machine.firewall.packet import Flow
from watchman_mcp.machine.firewall.spans import NONE, Spans, intersection, without


@dataclass(slots=True)
class Decision:
    """A rule, or a policy where it is None, that let packets of these sources end."""

    chain: ChainId
    rule: Rule | None
    kind: str
    sources: Spans
    namespace: str | None = None


@dataclass(slots=True)
class Outcome:
    """What may become of a packet, by its source."""

    accepted: Spans = NONE
    dropped: Spans = NONE
    arrived: list[Flow] = field(default_factory=list)
    """The ways that end with a delivery, or with being handed on."""
    decisions: list[Decision] = field(default_factory=list)

    @property
    def open(self) -> Spans:
        """The sources that are surely accepted."""
        return without(self.accepted, self.dropped)

    @property
    def unknown(self) -> Spans:
        """The sources for which both is possible."""
        return intersection(self.accepted, self.dropped)
