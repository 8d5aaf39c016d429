"""The rules of alerts, as data: what raises one, what ends it, and how long each must last to count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["critical", "warning", "notice"]
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "notice")
"""Worst first."""
DAY = 86_400


@dataclass(frozen=True)
class Rule:
    """What makes an alert, in queries of our own over the store.

    `raised` gives rows of `subject` (one alert is open for each), `thing` (the id of a node) and the fields
    of `text`. For a rule over events it is given `:above` and `:upto`, numbers of rows; for one over a state
    (`state`) it gives everything that is so now. `over` is given `:subject` and has a row when all is well
    with it again; without it an alert ends by time alone.
    """

    name: str
    severity: Severity
    text: str
    """The message: constant, with strangers' words in fields, written between quotation marks."""
    labels: frozenset[str]
    """The labels that it rests on: it is looked at again when one of them changed."""
    raised: str
    over: str = ""
    state: bool = False
    after: float = 0
    """Seconds that it must last before an alert opens."""
    calm: float = 600
    """Seconds that all must be well before it closes; what comes back meanwhile is counted in it."""
    lasts: float = DAY
    """Seconds after which it closes as old news, if nothing new came; a state is never old news."""


def _events(label: str, columns: str, where: str = "1") -> str:
    """New events about nodes of a label, `e` and `t`, in the order in which they were written.

    The cross join keeps SQLite from going through all nodes first.
    """
    return (
        f'SELECT {columns}, e.acted_on AS thing FROM Event e CROSS JOIN "{label}" t ON t.id = e.acted_on '
        f"WHERE e.seq > :above AND e.seq <= :upto AND e.source = 'observed' AND ({where}) ORDER BY e.seq"
    )


def _value(side: str, field: str) -> str:
    """What an event says a field was before or after; NULL where it tells of no change of it."""
    return (
        f"(SELECT s.value FROM json_each(e.fields) f JOIN json_each(e.{side}) s ON s.key = f.key "
        f"WHERE f.value = '{field}')"
    )


_TUNNEL = "t.type || coalesce(' ' || t.interface, '') || coalesce(' ' || t.peer, '')"
_PORT = "t.protocol || ' ' || t.port || coalesce(' in ' || t.namespace, '')"
_CHAIN = (
    "t.backend || ' ' || t.family || ' ' || t.\"table\" || ' ' || t.name "
    "|| coalesce(' in ' || t.namespace, '')"
)
_FILLED = "coalesce(t.rules, '[]') <> '[]'"
_NEWS = "substr(e.type, instr(e.type, '_') + 1) AS news"


def _exposed(name: str, severity: Severity, to: str, text: str, where: str = "1") -> Rule:
    """A port that came to be reached from somewhere."""
    there = (
        f"SELECT 1 FROM NetworkEndpoint t WHERE {_PORT} = :subject "
        f"AND t.gone_at IS NULL AND t.exposure = '{to}'"
    )
    return Rule(
        name,
        severity,
        text,
        frozenset({"NetworkEndpoint"}),
        _events(
            "NetworkEndpoint",
            f"{_PORT} AS subject, coalesce(t.process, t.unit, t.container, 'unknown') AS process",
            f"e.type IN ('port_opened', 'port_exposure_changed') AND t.exposure = '{to}' "
            # of what is published the port that leads there tells
            f"AND t.port IS NOT NULL AND t.published_as IS NULL AND {where}",
        ),
        f"SELECT 1 WHERE NOT EXISTS ({there})",
        after=60,
        lasts=7 * DAY,
    )


def _tunnel(name: str, severity: Severity, text: str, where: str, over: str) -> Rule:
    """A tunnel that is not what it was."""
    lost = (
        f"e.type = 'vpn_disconnected' OR (e.type = 'vpn_changed' AND {_value('after', 'status')} IS NOT NULL)"
    )
    return Rule(
        name,
        severity,
        text,
        frozenset({"VPNConnection"}),
        _events("VPNConnection", f"{_TUNNEL} AS subject", f"({lost}) AND ({where})"),
        f"SELECT 1 FROM VPNConnection t WHERE {_TUNNEL} = :subject AND ({over})",
        after=60,
    )


def _full(percent: int) -> str:
    """File systems that are so full at the newest sample, which keeps thousandths."""
    return (
        "SELECT s.mount_point AS subject, "
        "(SELECT id FROM Host WHERE gone_at IS NULL ORDER BY seq DESC LIMIT 1) AS thing "
        'FROM "_DiskMetrics_series" s CROSS JOIN "_DiskMetrics" m ON m.series = s.series '
        'AND m.ts = (SELECT ts FROM "_DiskMetrics" ORDER BY seq DESC LIMIT 1) '
        f"WHERE m.use_percent >= {percent * 1000}"
    )


RULES = (
    Rule(
        "name_servers_changed",
        "warning",
        "The name servers that this machine asks changed; the newest change: {ip} {news}",
        frozenset({"DNSServer"}),
        _events("DNSServer", f"'name servers' AS subject, t.ip AS ip, {_NEWS}"),
    ),
    Rule(
        "default_route_changed",
        "warning",
        "The default route changed; the newest change: {via} {news}",
        frozenset({"Route"}),
        _events(
            "Route",
            f"'default ' || t.family AS subject, coalesce(t.gateway, t.interface, t.type) AS via, {_NEWS}",
            "t.destination = 'default' AND t.\"table\" = 'main' AND t.namespace IS NULL",
        ),
    ),
    _tunnel(
        "vpn_down",
        "warning",
        "The tunnel {subject} is no longer connected",
        "t.gone_at IS NOT NULL OR t.status = 'down'",
        "t.gone_at IS NULL AND t.status = 'active'",
    ),
    _tunnel(
        "vpn_stale",
        "notice",
        "The tunnel {subject} has had no sign of its peer for minutes; it may only be idle",
        "t.gone_at IS NULL AND t.status = 'stale'",
        "t.gone_at IS NOT NULL OR t.status <> 'stale'",
    ),
    _exposed(
        "port_open_to_internet",
        "critical",
        "internet",
        "The port {subject} of {process} can be reached from the internet since a change",
    ),
    _exposed(
        "port_open_to_lan",
        "notice",
        "lan",
        "The port {subject} of {process} can be reached from the local network since a change",
        f"coalesce({_value('before', 'exposure')}, '') <> 'internet'",
    ),
    Rule(
        "firewall_flushed",
        "critical",
        "The firewall chain {subject} lost all of its rules",
        frozenset({"FirewallChain"}),
        _events(
            "FirewallChain",
            f"{_CHAIN} AS subject",
            "t.hook IN ('input', 'forward') AND (e.type = 'firewall_flushed' "
            f"OR (e.type = 'firewall_chain_vanished' AND {_FILLED}))",
        ),
        f"SELECT 1 FROM FirewallChain t WHERE t.gone_at IS NULL AND {_CHAIN} = :subject AND {_FILLED}",
        after=30,
    ),
    Rule(
        "firewall_input_accepts",
        "critical",
        "The firewall chain {subject} accepts now what no rule decides",
        frozenset({"FirewallChain"}),
        _events(
            "FirewallChain",
            f"{_CHAIN} AS subject",
            f"t.hook = 'input' AND lower({_value('after', 'policy')}) = 'accept'",
        ),
        f"SELECT 1 FROM FirewallChain t WHERE t.gone_at IS NULL AND {_CHAIN} = :subject "
        "AND lower(t.policy) <> 'accept'",
        after=30,
    ),
    Rule(
        "file_system_full",
        "critical",
        "The file system {subject} is at least 95 % full",
        frozenset({"DiskMetrics"}),
        _full(95),
        f"SELECT 1 WHERE :subject NOT IN (SELECT subject FROM ({_full(93)}))",
        state=True,
        after=120,
    ),
)
"""Every rule; a setting turns single ones off by their names."""
NAMES = tuple(rule.name for rule in RULES)
