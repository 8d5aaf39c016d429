"""Tailscale's peers, as `tailscale status --json` tells them; its links for logging in are not kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from watchman_mcp.errors import Absent, Broken, Denied
from watchman_mcp.machine.commands import Commands

from . import ACTIVE, DOWN, STALE, Tunnel, status_of

INTERFACE = "tailscale0"


def ask_tailscale(commands: Commands) -> list[Tunnel]:
    """The tunnels of a Tailscale that runs.

    Raises: Absent (no tailscale, or it does not run), Denied, Broken.
    """
    told = commands.run(["tailscale", "status", "--json"], timeout=5)
    if told.code != 0 and not told.stdout.startswith("{"):
        why = told.stderr.strip().split("\n")[-1]
        # The reason stands at the end of a long line, which begins as if nothing ran.
        if "permission denied" in why.lower() or "access denied" in why.lower():
            raise Denied(f"Tailscale may not be asked by this user: {why[-200:]}")
        runs, why = "appears to be running as" in why, why[:200]
        if not runs and ("failed to connect" in why or "not running" in why):
            raise Absent("Tailscale does not run")
        raise Broken(f"tailscale says: {why or 'nothing'}; run `tailscale status` by hand")
    return read_status(told.stdout)


def read_status(text: str) -> list[Tunnel]:
    """The tunnels of the JSON of `tailscale status`.

    Raises: Broken.
    """
    try:
        status = json.loads(text)
        # The first versions have the word and write nothing there.
        running = status["BackendState"] in ("Running", "")
        # In its userspace mode there is no interface.
        interface = INTERFACE if status.get("TUN", True) else None
        return list(_peers(status.get("Peer") or {}, running, interface))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Broken(
            "tailscale answers in another shape than it is known; run `tailscale status --json` by hand"
        ) from error


def _peers(peers: Mapping[str, Any], running: bool, interface: str | None) -> Iterator[Tunnel]:
    named: set[str] = set()
    for key, peer in sorted(peers.items()):
        if peer.get("ShareeNode"):  # one of others that this machine is only shared with
            continue
        name = str(peer.get("DNSName") or "").rstrip(".") or str(peer.get("HostName") or "")
        if not name or name in named:
            name = str(peer.get("PublicKey") or key)
        named.add(name)
        handshake = _time(peer.get("LastHandshake"))
        exits = bool(peer.get("ExitNode"))
        yield Tunnel(
            "tailscale",
            _status(peer, running, handshake),
            interface,
            name,
            endpoint=_text(peer.get("CurAddr")) or (f"relay {peer['Relay']}" if peer.get("Relay") else None),
            last_sign=handshake or _time(peer.get("LastSeen")),
            allowed=_allowed(peer),
            carries=exits and running,
            received=_count(peer.get("RxBytes")),
            sent=_count(peer.get("TxBytes")),
        )


def _status(peer: Mapping[str, Any], running: bool, handshake: datetime | None) -> str:
    """The status of a peer; nothing goes to one whose key has expired, though it is online."""
    if not running or peer.get("Expired"):
        return DOWN
    if "Online" not in peer:  # the first versions do not tell it
        return status_of(True, handshake.timestamp() if handshake else 0)
    return ACTIVE if peer["Online"] else STALE


def _allowed(peer: Mapping[str, Any]) -> tuple[str, ...]:
    """The networks that lead to a peer; older versions tell its addresses, the oldest one of them."""
    told = peer.get("AllowedIPs") or peer.get("TailscaleIPs") or [peer.get("TailAddr")]
    return tuple(str(net) for net in told if net)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**63 else None


def _time(value: Any) -> datetime | None:
    """A moment as Go writes it; its zero, in the year 1, is none."""
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found if found.tzinfo is not None and found.year > 1 else None
