"""The name servers that this machine asks: of resolv.conf, systemd-resolved, NetworkManager and dnsmasq.

Each server is asked one question, for the root's name servers, at most once per interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from posixpath import normpath

from watchman_mcp.errors import Absent
from watchman_mcp.machine.dns_servers import NameServer, interface_name, merged
from watchman_mcp.machine.dns_servers.asking import Check, checked, key_of
from watchman_mcp.machine.dns_servers.dnsmasq import LEFT_OVER, Settings, at_work, counts, read_dnsmasq
from watchman_mcp.machine.dns_servers.dnsmasq import SOURCE as DNSMASQ
from watchman_mcp.machine.dns_servers.network_manager import SOURCE as MANAGER
from watchman_mcp.machine.dns_servers.network_manager import ask_manager
from watchman_mcp.machine.dns_servers.providers import provider_of
from watchman_mcp.machine.dns_servers.resolv import read_resolv
from watchman_mcp.machine.dns_servers.resolved import SOURCE as RESOLVED
from watchman_mcp.machine.dns_servers.resolved import ask_resolved
from watchman_mcp.schema import Edge, path_of
from watchman_mcp.schema.network import USED_BY, DNSServer, NetworkInterface

from . import Collector, Look

RESOLV = "/etc/resolv.conf"
RESOLVED_FILES = ("/run/systemd/resolve/resolv.conf", "/run/systemd/resolve/stub-resolv.conf")
MANAGER_FILES = ("/run/NetworkManager/no-stub-resolv.conf", "/run/NetworkManager/resolv.conf")
BUS = "/run/dbus/system_bus_socket"
DNSMASQ_FILE, DNSMASQ_FOLDER = "/etc/dnsmasq.conf", "/etc/dnsmasq.d"
DNSMASQ_RESOLV = "/run/dnsmasq/resolv.conf"
_FILES_AT_MOST = 200


def collect(look: Look) -> Iterator[DNSServer | Edge]:
    """Every server of every program that names some.

    Raises: Absent (nothing names any).
    """
    sources: dict[str, Callable[[Look], list[NameServer]]] = {
        "resolv.conf": _resolv,
        RESOLVED: _resolved,
        MANAGER: _manager,
        DNSMASQ: _dnsmasq,
    }
    found: dict[str, list[NameServer]] = {}
    for source, read in sources.items():
        with look.part(f"{look.scope}:{source}"):
            found[source] = merged(read(look))
    look.searched(bool(found or look.failed), {}, f"no {RESOLV}, and nothing else that names servers")
    checks = _checks(look, [server for servers in found.values() for server in servers])
    for source, servers in found.items():
        with look.part(f"{look.scope}:{source}"):
            for server in servers:
                node = _node(server, checks.get(key_of(server.ip, server.port)))
                yield node
                if server.interface:
                    end = path_of(NetworkInterface, None, server.interface)
                    yield Edge(USED_BY, node.node_id, end)


def _node(server: NameServer, check: Check | None) -> DNSServer:
    return DNSServer(
        ip=server.ip,
        port=server.port,
        provider=provider_of(server.ip),
        source=server.source,
        interface=server.interface,
        position=server.position,
        domains=list(server.domains) or None,
        transport=server.transport or "plain",
        options=list(server.options) or None,
        answers=check.answers if check else None,
        latency_ms=check.latency_ms if check else None,
        checked_at=check.when if check else None,
    )


def _checks(look: Look, servers: list[NameServer]) -> dict[str, Check]:
    """How they answer; those that want TLS, and those that are never asked, are not tested."""
    if not look.machine.live:
        return {}
    known = look.marks.get("checks")
    before = {key: Check(*row) for key, row in known.items()} if isinstance(known, dict) else {}
    wanted = [
        (server.ip, server.port, server.interface)
        for server in servers
        if server.transport != "tls" and (server.position is not None or server.domains)
    ]
    keys, named = [key_of(ip, port) for ip, port, _ in wanted], look.marks.get("named")
    look.marks["named"] = keys
    if isinstance(named, list) and not set(named).issuperset(keys):
        # That there is another server is told at once; whether it answers can take a second, and comes next.
        look.again = True
        return {key: check for key, check in before.items() if key in keys}
    # A little less than the interval, so that the look that comes a moment early asks.
    checks = checked(wanted, before, look.settings.network.scan_interval * 0.9)
    look.marks["checks"] = {key: list(check) for key, check in checks.items()}
    return checks


def _resolv(look: Look, path: str = RESOLV, source: str = "resolv.conf") -> list[NameServer]:
    resolv = read_resolv(look.machine.files.text(path))
    if resolv.unreadable:
        look.cannot(f"{look.scope}:{path}", f"{resolv.unreadable} lines cannot be read and were left out")
    servers = resolv.named(source)
    if not look.machine.live:
        return servers
    # A scope may be written as the number of its interface.
    return [
        one._replace(interface=interface_name(one.interface) if one.interface else None) for one in servers
    ]


def _resolved(look: Look) -> list[NameServer]:
    files = look.machine.files
    if not look.machine.live:
        return _resolv(look, RESOLVED_FILES[0], RESOLVED)
    if not files.exists("/run/systemd/resolve") or not files.exists(BUS):
        raise Absent("systemd-resolved does not run")
    servers = ask_resolved(look.machine.commands, interface_name)
    if servers is None:
        raise Absent("systemd-resolved does not run")
    return servers


def _manager(look: Look) -> list[NameServer]:
    files = look.machine.files
    if not look.machine.live:
        return _resolv(look, MANAGER_FILES[0], MANAGER)
    if not files.exists("/run/NetworkManager") or not files.exists(BUS):
        raise Absent("NetworkManager does not run")
    servers = ask_manager(look.machine.commands)
    if servers is None:
        raise Absent("NetworkManager does not run")
    return servers


def _dnsmasq(look: Look) -> list[NameServer]:
    """What its usual configuration says, where it runs, as far as that can be told."""
    files = look.machine.files
    if not files.exists(DNSMASQ_FILE) and not files.exists(DNSMASQ_FOLDER):
        raise Absent("dnsmasq has no configuration")
    if look.machine.live and not at_work(DNSMASQ_FILE):
        raise Absent("dnsmasq does not run, or not with its usual configuration")
    told = Settings()
    todo, done = [DNSMASQ_FILE, DNSMASQ_FOLDER], set[str]()
    endings: dict[str, tuple[str, ...]] = {DNSMASQ_FOLDER: LEFT_OVER}
    while todo and len(done) < _FILES_AT_MOST:
        path = todo.pop(0)
        if path in done or not files.exists(path):
            continue
        done.add(path)
        look.watch(path)
        if files.stat(path).kind == "directory":
            names = (entry.name for entry in files.entries(path))
            todo += [f"{path}/{name}" for name in names if counts(name, endings.get(path, ()))]
        else:
            before = len(told.folders), len(told.more)
            read_dnsmasq(files.text(path), told)
            folders = {normpath(folder): skipped for folder, skipped in told.folders[before[0] :]}
            endings |= folders
            todo += [*folders, *told.more[before[1] :]]
    if todo:
        look.cannot(f"{look.scope}:files", f"more than {_FILES_AT_MOST} files; the rest is not read")
    if told.unreadable:
        look.cannot(f"{look.scope}:lines", f"{told.unreadable} lines about servers cannot be read")
    if told.off:
        return []
    return told.servers + _upstream(look, told)


def _upstream(look: Look, told: Settings) -> list[NameServer]:
    """The usual servers, of files of its own."""
    found: list[NameServer] = []
    if told.no_resolv:
        return found
    for path in told.resolv_files or [DNSMASQ_RESOLV]:
        if look.machine.files.exists(path):
            look.watch(path)
            servers = read_resolv(look.machine.files.text(path)).servers
            first = 1 + len(found) + sum(not server.domains for server in told.servers)
            found += [
                NameServer(DNSMASQ, ip, interface=scope, position=place)
                for place, (ip, scope) in enumerate(servers, first)
            ]
    return found


collector = Collector(
    collect,
    emits=(DNSServer, USED_BY),
    every=lambda settings: settings.network.scan_interval,
    watch=(RESOLV, *RESOLVED_FILES, *MANAGER_FILES, DNSMASQ_FILE, DNSMASQ_FOLDER),
    feature="network_scanning",
)
