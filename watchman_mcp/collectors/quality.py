"""Latency and loss to the default gateway and other hosts, as `[network] quality_targets` names them."""

from __future__ import annotations

from collections.abc import Iterator

from watchman_mcp.errors import Absent
from watchman_mcp.machine.probes import address_of, reach
from watchman_mcp.schema.network import ReachMetrics

from . import Collector, Look


def collect(look: Look) -> Iterator[ReachMetrics]:
    """One sample of each target.

    Raises: Absent (the settings name no target, or another machine's files are read), Denied, Broken.
    """
    wanted = dict.fromkeys(look.settings.network.quality_targets)
    if not wanted:
        raise Absent("[network] quality_targets is empty: latency and loss are not measured")
    if not look.machine.live:
        raise Absent("latency is measured on a running machine and this one is read as files")
    known: dict[str, str] = {}
    for target in wanted:
        ip = address_of(look.machine.files, target)
        if ip is None:
            why = "there is no default gateway" if target == "gateway" else "its name cannot be looked up"
            look.cannot(f"{look.scope}:{target}", why)
        else:
            known[target] = ip
    for target, reached in reach(known).items():
        yield ReachMetrics(
            target=target,
            timestamp=reached.at,
            latency_ms=reached.latency_ms,
            loss_percent=reached.loss_percent,
        )


collector = Collector(
    collect,
    emits=(ReachMetrics,),
    every=lambda settings: settings.network.scan_interval,
    feature="network_scanning",
)
