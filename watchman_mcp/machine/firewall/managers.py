"""Programs that make firewall rules from settings of their own, ufw and firewalld, and what these are."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from watchman_mcp.errors import Absent, Broken, Denied
from watchman_mcp.machine import Machine
from watchman_mcp.machine.firewall.model import Firewall
from watchman_mcp.machine.firewall.zones import read_zone_file

UFW = "/etc/ufw"
FIREWALLD = "/etc/firewalld"
FIREWALLD_SHIPPED = "/usr/lib/firewalld"
UFW_CONFIG = f"{UFW}/ufw.conf"
UFW_DEFAULTS = "/etc/default/ufw"
FIREWALLD_CONFIG = f"{FIREWALLD}/firewalld.conf"
_BUS = ("org.fedoraproject.FirewallD1", "/org/fedoraproject/FirewallD1")
_TUPLE = "### tuple ### "
_SETTING = re.compile(r"""\s*([A-Za-z_0-9]+)\s*=\s*["']?([^"'#\s]*)["']?\s*(?:#.*)?""")


@dataclass(slots=True)
class Manager:
    """A program that makes firewall rules, and what it is set to."""

    name: str
    active: bool | None
    """Whether its rules are in the kernel; None where that cannot be told."""
    enabled: bool | None = None
    """Whether its own settings turn it on; None where these do not say."""
    incoming: str | None = None
    """What it does with connections that no setting names."""
    settings: list[str] = field(default_factory=list)
    unread: int = 0
    """Lines that were not understood."""
    unseen: str | None = None
    """Why its settings could not be read."""


def settings_of(text: str) -> dict[str, str]:
    """The settings of a file of NAME=VALUE lines."""
    found = (_SETTING.fullmatch(line) for line in text.split("\n"))
    return {one[1]: one[2] for one in found if one}


def ufw(machine: Machine, firewall: Firewall) -> Manager:
    """What ufw is set to.

    Raises: Absent, Denied, Broken.
    """
    chains = [one.name.startswith(("ufw-user-", "ufw6-user-")) for one in firewall.chains]
    active = True if any(chains) else None if firewall.unseen else False
    manager = Manager(
        "ufw", active, settings_of(machine.files.text(UFW_CONFIG)).get("ENABLED", "").lower() == "yes"
    )
    with suppress(Absent):
        policy = settings_of(machine.files.text(UFW_DEFAULTS)).get("DEFAULT_INPUT_POLICY")
        manager.incoming = policy.lower() if policy else None
    for name in ("user.rules", "user6.rules"):
        try:
            # until 0.34 they were no settings
            place = next((one for one in (UFW, "/lib/ufw") if machine.files.exists(f"{one}/{name}")), UFW)
            rules, unread = read_tuples(machine.files.text(f"{place}/{name}"))
        except Absent:
            continue
        except (Denied, Broken) as error:
            manager.unseen = str(error)
            continue
        manager.settings += [rule for rule in rules if rule not in manager.settings]
        manager.unread += unread
    return manager


def read_tuples(text: str) -> tuple[list[str], int]:
    """The rules that a file of ufw's own keeps as comments, and how many of these are not understood."""
    found: list[str] = []
    unread = 0
    for line in text.split("\n"):
        if not line.startswith("### tuple"):
            continue
        rule = _rule(line.removeprefix(_TUPLE).split()) if line.startswith(_TUPLE) else None
        if rule is None:
            unread += 1
        else:
            found.append(rule)
    return found, unread


def _rule(words: list[str]) -> str | None:
    """A rule as it would be given to ufw; None where its words are others than ufw writes."""
    comment = next((word for word in words if word.startswith("comment=")), None)
    words = [word for word in words if word is not comment]
    action, _, log = words[0].partition("_") if words else ("", "", "")
    route, _, action = action.rpartition(":")
    # action protocol port address port address [application application] direction
    if action not in ("allow", "deny", "reject", "limit") or len(words) not in (6, 7, 8, 9):
        return None
    protocol, to_port, to, from_port, source = words[1:6]
    ways = [one.partition("_") for one in (words[-1] if len(words) in (7, 9) else "in").split("!")]
    if any(way not in ("in", "out") for way, _, _ in ways):
        return None
    text = " ".join([*([route] if route else []), action])
    text += "".join(f" {way} on {name}" if name else f" {way}" for way, _, name in ways)
    text += f" {log}" if log else ""
    text += f" from {_end(source, from_port)} to {_end(to, to_port)}"
    if protocol != "any":
        text += f" proto {protocol}"
    if len(words) > 7:
        for given, before in zip(words[6:8], (" app ", " from app "), strict=True):
            text += "" if given == "-" else f"{before}{given.replace('%20', ' ')}"
    return text + (f" comment {_comment(comment)}" if comment else "")


def _end(address: str, port: str) -> str:
    where = "any" if address in ("0.0.0.0/0", "::/0") else address
    return where if port == "any" else f"{where} port {port}"


def _comment(text: str) -> str:
    try:
        return json.dumps(bytes.fromhex(text.removeprefix("comment=")).decode(), ensure_ascii=False)
    except ValueError:
        return json.dumps(text, ensure_ascii=False)


def firewalld(machine: Machine, firewall: Firewall) -> Manager:
    """What firewalld is set to, as it says itself while it runs.

    Raises: Absent, Denied, Broken.
    """
    manager = Manager("firewalld", None)
    settings = settings_of(machine.files.text(FIREWALLD_CONFIG))
    manager.incoming = f"zone {settings['DefaultZone']}" if settings.get("DefaultZone") else None
    there = any(one.table == "firewalld" or one.name == "INPUT_ZONES" for one in firewall.chains)
    if not there and not firewall.unseen:
        manager.active = False
        return _kept(machine, manager, settings.get("DefaultZone", ""))
    try:
        zones = _asked(machine, "zone", "getActiveZones")
    except Absent:
        manager.active = False
        return _kept(machine, manager, settings.get("DefaultZone", ""))
    except (Denied, Broken) as error:
        # such as of firewalld before 0.9 or busctl before systemd 240; its files tell what it began with
        manager.active, manager.unseen = there or None, str(error)
        return _kept(machine, manager, settings.get("DefaultZone", ""))
    manager.active = True
    for name, bound in sorted(zones.items()):
        told = _asked(machine, "zone", "getZoneSettings2", "s", str(name))
        manager.settings += list(read_zone(str(name), bound, told))
    return manager


def _kept(machine: Machine, manager: Manager, default: str) -> Manager:
    """The settings that its files keep: of the default zone, and of those that were changed here."""
    places = dict.fromkeys([default] if default else [], f"{FIREWALLD_SHIPPED}/zones")
    with suppress(Absent):
        for entry in machine.files.entries(f"{FIREWALLD}/zones"):
            if entry.name.endswith(".xml"):
                places[entry.name.removesuffix(".xml")] = f"{FIREWALLD}/zones"
    for name, place in sorted(places.items()):
        try:
            zone = read_zone_file(machine.files.text(f"{place}/{name}.xml"))
        except Absent:
            continue
        except (Denied, Broken) as error:
            manager.unseen = f"{name}: {error}"
            continue
        manager.settings += read_zone(name, zone.bound, zone.told)
        manager.unread += zone.unread
    return manager


def _asked(machine: Machine, interface: str, method: str, *arguments: str) -> dict[str, Any]:
    """What firewalld answers on the bus; it is not started for this.

    Raises: Absent (it does not run), Denied, Broken.
    """
    name, path = _BUS
    argv = ["busctl", "--json=short", "--auto-start=no", "--timeout=10", "call", name, path]
    done = machine.commands.run([*argv, f"{name}.{interface}", method, *arguments])
    said = done.stderr.strip()[:200].lower()
    if done.code == 0:
        try:
            (answer,) = json.loads(done.stdout)["data"]
            return dict(answer)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Broken("the answer of firewalld is not the JSON that busctl writes") from error
    if any(word in said for word in ("not provided", "unknown", "no such file", "connection refused")):
        raise Absent(f"firewalld does not run: {said}")
    if "denied" in said or "authoriz" in said:
        raise Denied(f"firewalld may not be asked by this user: {said}")
    raise Broken(f"firewalld does not answer: {said}")


def read_zone(name: str, bound: Any, told: Any) -> list[str]:
    """What a zone holds, one line for each thing, from answers of busctl.

    Raises: Broken.
    """
    try:
        return _zone(name, bound, told)
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise Broken(f"firewalld tells the zone {name} in another shape than it is known") from error


def _zone(name: str, bound: Any, told: Any) -> list[str]:
    lines = []
    for what, values in sorted(_plain(bound).items()) if isinstance(_plain(bound), dict) else []:
        lines.append(f"zone {name}: {what} {', '.join(map(str, values))}")
    given = {key: _plain(value) for key, value in told.items()}
    if given.get("target") and given["target"] != "default":
        lines.append(f"zone {name}: target {given['target']}")
    for what in ("services", "protocols", "icmp_blocks"):
        lines += [f"zone {name}: {what.removesuffix('s')} {one}" for one in given.get(what) or ()]
    for what in ("ports", "source_ports"):
        lines += [
            f"zone {name}: {what.removesuffix('s')} {port}/{kind}" for port, kind in given.get(what) or ()
        ]
    for port, kind, to, address in given.get("forward_ports") or ():
        lines.append(f"zone {name}: forward port {port}/{kind} to {address}:{to}")
    for what in ("masquerade", "forward"):
        if given.get(what):
            lines.append(f"zone {name}: {what}")
    return lines + [f"zone {name}: {one}" for one in given.get("rules_str") or ()]


def _plain(value: Any) -> Any:
    """A value of busctl's JSON without the types that it writes beside it."""
    if isinstance(value, dict) and set(value) == {"type", "data"}:
        return _plain(value["data"])
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return value
