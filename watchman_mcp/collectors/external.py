"""The address by which the internet sees this machine, as the configured sources tell it.

They are asked when the ways to the internet change, and otherwise once per `[network] external_ip_interval`.
"""

from __future__ import annotations

from collections.abc import Iterator

from watchman_mcp.errors import Absent
from watchman_mcp.machine.external_address import Seen, seen
from watchman_mcp.schema.network import ExternalAddress

from . import Collector, Look


def collect(look: Look) -> Iterator[ExternalAddress]:
    """One row for each family, also where it has no address.

    Raises: Absent (the settings want none, or another machine's files are read).
    """
    wanted = look.settings.network
    if not wanted.external_ip:
        raise Absent("[network] external_ip is false")
    if not look.machine.live:
        raise Absent("others see the running machine and this one is read as files")
    for family in ("ipv4", "ipv6"):
        with look.part(f"{look.scope}:{family}"):
            row = look.marks.get(family)
            known = Seen(*row) if isinstance(row, list) else None
            found = seen(
                look.machine.files,
                family,
                wanted.external_ip_sources,
                known,
                # A little less, so that the look that comes a moment early asks.
                wanted.external_ip_interval * 0.95,
            )
            look.marks[family] = list(found)
            yield ExternalAddress(
                family=family, ip=found.ip, source=found.source, checked_at=found.when, why=found.why
            )


collector = Collector(
    collect,
    emits=(ExternalAddress,),
    every=lambda settings: min(settings.network.scan_interval, settings.network.external_ip_interval),
    watch=("netlink:address", "netlink:route"),
    feature="network_scanning",
)
