"""The network: interfaces, routes, firewall, name servers, tunnels, open ports, and how it was used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field

from watchman_mcp.errors import InvalidRequest
from watchman_mcp.schema.firewall import FirewallRule
from watchman_mcp.schema.network import (
    DNSServer,
    ExternalAddress,
    NetworkEndpoint,
    NetworkInterface,
    ReachMetrics,
    VPNConnection,
)
from watchman_mcp.schema.resources import InterfaceMetrics
from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools import reads
from watchman_mcp.tools.answers import Frame, Limit, Since, Window, clamp, fit, frame_of
from watchman_mcp.tools.resources.answer import Traffic
from watchman_mcp.tools.resources.charts import courses
from watchman_mcp.tools.resources.source import Local

from . import rows
from .answer import NetworkAnswer, Reach
from .firewall import rules
from .ports import listening

View = Literal[
    "summary", "interfaces", "routes", "firewall", "dns", "vpn", "ports", "connections", "external_ip",
    "bandwidth", "quality",
]  # fmt: skip
RESTS_ON: dict[str, tuple[type[Any], ...]] = {
    "interfaces": (NetworkInterface,),
    "routes": (NetworkInterface,),
    "firewall": (FirewallRule,),
    "dns": (DNSServer,),
    "vpn": (VPNConnection,),
    "ports": (NetworkEndpoint,),
    "connections": (NetworkEndpoint,),
    "external_ip": (ExternalAddress,),
    "bandwidth": (InterfaceMetrics,),
    "quality": (ReachMetrics,),
}
EVERY = tuple({label for labels in RESTS_ON.values() for label in labels})
FAR = (ExternalAddress, ReachMetrics)
"""What is asked of others, who may let wait: only questions about it wait for its first look."""
DOUBTED = ("dns", "firewall", "vpn")
"""Parts of which nothing is no answer while something of them could not be looked at."""
SHOWN = 8
"""Lines that each part of a summary has at most."""


def _waits(arguments: Mapping[str, Any]) -> tuple[type[Any], ...]:
    """What a question waits for."""
    near = tuple(label for label in EVERY if label not in FAR)
    return RESTS_ON.get(arguments.get("view", "summary"), near)


@reads(title="Network", needs=EVERY, always=True, waits=_waits)
def network_status(
    store: Store,
    view: Annotated[
        View, Field(description="ports: listeners with process and who can reach them")
    ] = "summary",
    port: Annotated[int, Field(ge=0, le=65_535, description="0: all")] = 0,
    interface: Annotated[str, Field(description="eth0, wg0, ...; empty: all")] = "",
    process: Annotated[str, Field(description="Process, service or container")] = "",
    since: Since = "",
    limit: Limit = 50,
) -> NetworkAnswer:
    """Network now: interfaces, routes, firewall rules, DNS servers, VPN, open ports and exposure verdict,
    external IP, traffic per interface (over time with since). Past changes: what_changed.
    """
    if since and view not in ("bandwidth", "quality"):
        raise InvalidRequest(
            f"view={view} is about now; what_changed has the past, and since is for bandwidth and quality"
        )
    if view == "summary" and (port or process):
        view = "ports"
    frame = frame_of(store, RESTS_ON.get(view, EVERY))
    answer = NetworkAnswer(found="yes", source="the kernel and its services", **frame.envelope())
    asked = Asked(store, frame, answer, port, interface.strip(), process.strip(), since, clamp(limit))
    VIEWS[view](asked)
    return answer


class Asked:
    """One question, and the answer as it grows."""

    def __init__(
        self,
        store: Store,
        frame: Frame,
        answer: NetworkAnswer,
        port: int,
        interface: str,
        process: str,
        since: str,
        limit: int,
    ) -> None:
        self.store, self.frame, self.answer = store, frame, answer
        self.port, self.interface, self.process = port, interface, process
        self.since, self.limit = since, limit

    def put(self, part: str, found: list[Any], totals: dict[str, int] | None = None) -> None:
        """The rows of a part, as many as fit; the answer says where that is not all."""
        page = found[: min(self.limit, fit(found))]
        setattr(self.answer, part, page or None)
        self.answer.totals = totals or {"items": len(found)}
        if not found:
            self.answer.found = "cannot_tell" if self.frame.blind else "none"
        if part in DOUBTED and self.answer.found == "none" and self.frame.unseen():
            self.answer.found = "cannot_tell"
        if len(page) < len(found):
            self.answer.cut = f"{len(page)} of {len(found)}; narrow with port, interface or process"


def _interfaces(asked: Asked) -> None:
    newest = Local(asked.store).newest("InterfaceMetrics")
    asked.put("interfaces", rows.interfaces(asked.store, newest, asked.interface))


def _routes(asked: Asked) -> None:
    asked.answer.default_route = rows.default_routes(asked.store) or None
    asked.put("routes", rows.routes(asked.store, asked.interface))


def _firewall(asked: Asked) -> None:
    found, totals = rules(asked.store, asked.port, asked.interface)
    asked.put("firewall", found, totals)
    made = asked.store.read(
        "SELECT DISTINCT coalesce(made_by, backend) AS by_whom FROM FirewallChain "
        "WHERE gone_at IS NULL ORDER BY 1"
    )
    asked.answer.firewall_by = [row["by_whom"] for row in made] or None
    if asked.port:
        listeners, _ = listening(asked.store, asked.port, asked.interface, asked.process)
        asked.answer.ports = listeners[:SHOWN] or None


def _dns(asked: Asked) -> None:
    asked.put("dns", rows.name_servers(asked.store, asked.interface))


def _vpn(asked: Asked) -> None:
    found = rows.tunnels(asked.store, asked.frame, asked.interface)
    asked.put("vpn", found)
    asked.answer.default_route = rows.default_routes(asked.store) or None
    own = [one for one in found if not one.namespace]
    active = [one for one in own if one.status == "active"]
    carrying = [one.interface or one.type for one in own if one.carries_default]
    if found and not own:
        asked.answer.note = "none of this machine's own network; these are of other network namespaces"
    if own:
        asked.answer.note = f"{len(active)} of {len(own)} active; traffic to the internet goes " + (
            f"through {', '.join(carrying)}" if carrying else "past all of them"
        )


def _ports(asked: Asked) -> None:
    asked.put("ports", *listening(asked.store, asked.port, asked.interface, asked.process))


def _connections(asked: Asked) -> None:
    newest = Local(asked.store).newest("ConnectionMetrics")
    found = rows.peers(newest, asked.port, asked.process)
    asked.put("connections", found, {"items": len(found), "connections": sum(one.count for one in found)})


def _external(asked: Asked) -> None:
    found = rows.addresses(asked.store, asked.frame)
    asked.put("external", found)
    if found and not any(one.ip for one in found):
        asked.answer.found = "cannot_tell"


def _bandwidth(asked: Asked) -> None:
    if asked.since:
        _course(asked, "network")
        return
    newest = [
        row for row in Local(asked.store).newest("InterfaceMetrics") if _wanted(asked, row["interface"])
    ]
    newest.sort(key=lambda row: -(row["rx_mb_s"] or 0) - (row["tx_mb_s"] or 0))
    asked.put("traffic", [rows.as_a(Traffic, row) for row in newest])


def _quality(asked: Asked) -> None:
    if asked.since:
        _course(asked, "quality")
        return
    asked.put("quality", [rows.as_a(Reach, row) for row in Local(asked.store).newest("ReachMetrics")])
    if not asked.answer.quality:
        asked.answer.note = "Nothing is measured unless [network] quality_targets names it."


def _wanted(asked: Asked, name: str) -> bool:
    return asked.interface in ("", name)


def _course(asked: Asked, view: str) -> None:
    window = asked.frame.window(asked.since, "", timedelta(hours=24))
    start = window.since or asked.frame.now - timedelta(hours=24)
    things = courses(Local(asked.store), asked.frame, view, start, window.until)
    things = [thing for thing in things if _wanted(asked, thing[0].of)]
    asked.put("series", [series for thing in things for series in thing])
    asked.answer.window = Window(
        since=asked.frame.show(start),
        until=asked.frame.show(window.until),
        covered=asked.frame.covered(start),
    )


def _summary(asked: Asked) -> None:
    answer, store = asked.answer, asked.store
    found = rows.interfaces(store, [], asked.interface)
    found = [one for one in found if one.kind != "loopback" and not one.namespace]
    answer.interfaces = [one for one in found if one.state == "UP"][:SHOWN] or None
    answer.default_route = rows.default_routes(store) or None
    answer.external = rows.addresses(store, asked.frame) or rows.unasked(asked.frame) or None
    answer.dns = rows.name_servers(store, asked.interface)[:SHOWN] or None
    answer.vpn = rows.tunnels(store, asked.frame, asked.interface)[:SHOWN] or None
    listeners, totals = listening(store, 0, asked.interface, "")
    reached = [one for one in listeners if one.exposure in ("internet", "lan") and not one.namespace]
    answer.ports = [one.model_copy(update={"decided_by": None}) for one in reached[:SHOWN]] or None
    named = {"ports" if word == "items" else f"ports_{word}": n for word, n in totals.items()}
    answer.totals = {"interfaces": len(found), **named}
    if not found:
        answer.found = "cannot_tell" if asked.frame.blind else "none"


VIEWS: dict[str, Callable[[Asked], None]] = {
    "summary": _summary,
    "interfaces": _interfaces,
    "routes": _routes,
    "firewall": _firewall,
    "dns": _dns,
    "vpn": _vpn,
    "ports": _ports,
    "connections": _connections,
    "external_ip": _external,
    "bandwidth": _bandwidth,
    "quality": _quality,
}
