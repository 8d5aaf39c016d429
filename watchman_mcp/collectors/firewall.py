"""The firewall: chains and rules of nftables and of legacy iptables, and what ufw and firewalld are set to.

Those inside another network namespace are a scope, `firewall:netns/NAME`. A machine that has neither rules
nor a program that could make them is Absent. What this user may not read is named, and the rest is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from watchman_mcp.collectors import Collector, Look
from watchman_mcp.errors import Absent, Broken, WatchmanError
from watchman_mcp.machine import Machine
from watchman_mcp.machine.containers import Containers, namespaces
from watchman_mcp.machine.firewall import managers
from watchman_mcp.machine.firewall.model import Chain, Firewall, Rule
from watchman_mcp.machine.firewall.reading import read_firewall
from watchman_mcp.machine.firewall.summary import made_by, summary
from watchman_mcp.machine.network_namespaces import inside
from watchman_mcp.schema import Edge, path_of
from watchman_mcp.schema.firewall import HOLDS, FirewallChain, FirewallManager, FirewallRule

Row = FirewallChain | FirewallRule | FirewallManager | Edge
MANAGERS: tuple[Callable[[Machine, Firewall], managers.Manager], ...] = (managers.ufw, managers.firewalld)


def collect(look: Look) -> Iterator[Row]:
    """Every chain, its rules in their order, and the programs that make them.

    Raises: Absent, Denied, Broken.
    """
    firewall = read_firewall(look.machine)
    for what, why in firewall.unseen.items():
        look.cannot(f"{look.scope}:{what}", why)
    there = list(_managers(look, firewall))
    if firewall.absent and not there:
        raise Absent("this machine has no firewall: neither rules nor nft or iptables to make any")
    yield from there
    yield from _rows(firewall)
    look.seen.add(look.scope)
    yield from _others(look)


def _others(look: Look) -> Iterator[Row]:
    """The firewalls of the other network namespaces that may be entered."""
    known = namespaces(Containers(look.marks))
    for one in known.others:
        with look.part(f"{look.scope}:netns/{one.name}"):
            firewall = inside(one, partial(read_firewall, look.machine, one.name))
            if firewall.unseen and not firewall.chains:
                raise Broken("; ".join(firewall.unseen.values()))
            for what, why in firewall.unseen.items():
                look.cannot(f"{look.scope}:{what}", why)
            yield from _rows(firewall)
    if known.left_out:
        look.cannot(f"{look.scope}:netns", known.left_out)


def _rows(firewall: Firewall) -> Iterator[Row]:
    for chain in firewall.chains.values():
        yield from _chain(chain, firewall.namespace)


def _chain(chain: Chain, namespace: str | None) -> Iterator[Row]:
    name = chain.id
    row = FirewallChain(
        namespace=namespace,
        backend=name.backend,
        family=name.family,
        table=name.table,
        name=name.name,
        hook=chain.hook,
        priority=chain.priority,
        policy=chain.policy.upper() if chain.policy else None,
        rules=[rule.key for rule in chain.rules],
        made_by=made_by(name),
    )
    yield row
    start = row.node_id
    for rule in chain.rules:
        yield _row(rule)
        yield Edge(HOLDS, start, path_of(FirewallRule, namespace, *name, rule.key))


def _row(rule: Rule) -> FirewallRule:
    told = summary(rule)
    return FirewallRule(
        key=rule.key,
        namespace=rule.namespace,
        backend=rule.chain.backend,
        family=rule.chain.family,
        table=rule.chain.table,
        chain=rule.chain.name,
        rule_num=rule.number,
        handle=rule.handle,
        target=rule.target,
        protocol=told.protocol,
        port=told.port,
        ports=told.ports,
        source=told.source,
        destination=told.destination,
        in_interface=told.in_interface,
        out_interface=told.out_interface,
        states=told.states,
        opaque=told.opaque,
        text=rule.text,
        comment=rule.comment,
        packets=rule.packets,
        bytes=rule.bytes,
    )


def _managers(look: Look, firewall: Firewall) -> Iterator[FirewallManager]:
    for read in MANAGERS:
        where = f"{look.scope}:{read.__name__}"
        try:
            found = read(look.machine, firewall)
        except Absent:
            continue
        except WatchmanError as error:
            look.cannot(where, str(error))
            continue
        if found.unseen:
            look.cannot(where, found.unseen)
        if found.unread:
            look.cannot(where, f"{found.unread} of its lines cannot be read and were left out")
        yield FirewallManager(
            name=found.name,
            active=found.active,
            enabled=found.enabled,
            incoming=found.incoming,
            settings=found.settings,
        )


collector = Collector(
    collect,
    (FirewallChain, FirewallRule, FirewallManager, HOLDS),
    lambda settings: settings.network.scan_interval,
    watch=(
        managers.UFW_CONFIG,
        managers.UFW_DEFAULTS,
        f"{managers.UFW}/user.rules",
        f"{managers.UFW}/user6.rules",
        managers.FIREWALLD_CONFIG,
        f"{managers.FIREWALLD}/zones",
        f"{managers.FIREWALLD}/direct.xml",
        "/etc/nftables.conf",
        "/etc/iptables",
        "netlink:firewall",
    ),
    feature="network_scanning",
)
