"""What a rule is about, field by field, for those who ask for the rules of a port or a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from watchman_mcp.machine.firewall.model import ChainId, Choice, Condition, Match, Opaque, Rule, Verdict
from watchman_mcp.machine.firewall.spans import Spans, merged, networks, numbers

MOST_NETWORKS = 20
_TRANSPORTS = ("tcp", "udp", "sctp", "dccp", "udplite")
_MAKERS = (
    ("ufw-", "ufw"),
    ("ufw6-", "ufw"),
    ("DOCKER", "docker"),
    ("KUBE-", "kubernetes"),
    ("cali-", "calico"),
    ("CILIUM_", "cilium"),
    ("f2b-", "fail2ban"),
    ("LIBVIRT_", "libvirt"),
    ("ts-", "tailscale"),
    ("NETAVARK", "podman"),
    ("CNI-", "cni"),
    ("sshguard", "sshguard"),
    ("fail2ban-", "fail2ban"),
    ("PVEFW-", "proxmox"),
    ("nixos-fw", "nixos"),
    ("FLANNEL-", "flannel"),
    ("WEAVE-", "weave"),
    ("ISTIO_", "istio"),
    ("ANTREA-", "antrea"),
    ("MINIUPNPD", "miniupnpd"),
    ("zone_", "openwrt"),
    *(
        (name, "firewalld")
        for name in ("INPUT_ZONES", "FORWARD_ZONES", "FORWARD_IN_ZONES", "FORWARD_OUT_ZONES")
    ),
    *((name, "firewalld") for name in ("PREROUTING_ZONES", "POSTROUTING_ZONES", "FWDI_", "FWDO_")),
    *((name, "csf") for name in ("LOCALINPUT", "LOCALOUTPUT", "DENYIN", "DENYOUT")),
)
_TABLES = {
    "firewalld": "firewalld",
    "f2b-table": "fail2ban",
    "libvirt_network": "libvirt",
    "netavark": "podman",
    "sshguard": "sshguard",
    "crowdsec": "crowdsec",
    "crowdsec6": "crowdsec",
    "docker-bridges": "docker",
    "kube-proxy": "kubernetes",
    "fw4": "openwrt",
    "foomuuri": "foomuuri",
    "nixos-fw": "nixos",
    "proxmox-firewall": "proxmox",
    "proxmox-firewall-guests": "proxmox",
    "lxd": "lxd",
    "incus": "incus",
}


@dataclass(slots=True)
class Summary:
    """The fields of a rule's row; None is any."""

    protocol: str | None = None
    port: int | None = None
    ports: str | None = None
    source: str | None = None
    destination: str | None = None
    in_interface: str | None = None
    out_interface: str | None = None
    states: list[str] | None = None
    opaque: str | None = None


def made_by(chain: ChainId) -> str | None:
    """Whose chain it is, as far as its name or its table's tells."""
    if chain.table in _TABLES:
        return _TABLES[chain.table]
    return next((maker for beginning, maker in _MAKERS if chain.name.startswith(beginning)), None)


def summary(rule: Rule) -> Summary:
    """What a rule is about."""
    found = Summary()
    opaque: list[str] = []
    for part in rule.parts:
        if isinstance(part, Opaque):
            opaque.append(part.text)
        elif isinstance(part, Verdict) and part.kind == "unknown" and not opaque:
            opaque.append(rule.text)
        elif isinstance(part, Condition | Choice):
            for name, matches in _columns(part):
                _note(found, name, matches, isinstance(part, Condition) and part.negate, part)
    found.opaque = "; ".join(opaque) or None
    return found


def _columns(part: Condition | Choice) -> Iterator[tuple[str, list[Match]]]:
    """Each field with all that it may be."""
    elements = part.elements if isinstance(part, Condition) else [element for element, _ in part.elements]
    for place, name in enumerate(part.fields):
        yield name, [element[place] for element in elements]


def _note(found: Summary, name: str, matches: list[Match], negate: bool, part: Condition | Choice) -> None:
    if isinstance(part, Condition) and part.mask is not None:
        return
    bang = "!" if negate else ""
    family, _, what = name.partition(" ")
    if what == "dport":
        _note_ports(found, matches, negate)
    if family in _TRANSPORTS:
        found.protocol = family
    elif name == "protocol" or what == "protocol":
        found.protocol = bang + _words(matches)
    elif what in ("saddr", "daddr"):
        shown = networks(_all(matches), 4 if family == "ip" else 6, MOST_NETWORKS)
        field = "source" if what == "saddr" else "destination"
        before = getattr(found, field)
        setattr(found, field, (f"{before} and " if before else "") + bang + ", ".join(shown))
    elif name in ("iif", "oif"):
        setattr(found, "in_interface" if name == "iif" else "out_interface", bang + _words(matches))
    elif name == "state":
        found.states = sorted(bang + str(word) for match in matches for word in match)


def _note_ports(found: Summary, matches: list[Match], negate: bool) -> None:
    some = [match for match in matches if match != ((0, 65535),)]
    spans = _all(some or matches)
    found.ports = ("!" if negate else "") + numbers(spans)
    if len(spans) == 1 and spans[0][0] == spans[0][1] and not negate:
        found.port = spans[0][0]


def _all(matches: list[Match]) -> Spans:
    # readers give addresses and ports as numbers
    if len(matches) == 1:
        return matches[0]  # type: ignore[return-value]
    return merged(span for match in matches for span in match)  # type: ignore[misc]


def _words(matches: list[Match]) -> str:
    return ", ".join(dict.fromkeys(str(word) for match in matches for word in sorted(match, key=str)))
