"""Targets of iptables as effects and verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field

from watchman_mcp.machine.firewall.model import Effect, Opaque, Part, Verdict
from watchman_mcp.machine.firewall.spans import of_address
from watchman_mcp.machine.firewall.terms import Unknown

_TOP = 2**32 - 1
_NOTHING = frozenset(
    (
        "LOG",
        "NFLOG",
        "ULOG",
        "TRACE",
        "CHECKSUM",
        "TCPMSS",
        "AUDIT",
        "SET",
        "CLASSIFY",
        "TOS",
        "DSCP",
        "TTL",
        "HL",
        "ECN",
        "TEE",
        "LED",
        "SECMARK",
        "CONNSECMARK",
        "RATEEST",
        "ACCOUNT",
        "FLOWOFFLOAD",
        "IPV4OPTSSTRIP",
        "LOGMARK",
        "NETFLOW",
        "TCPOPTSTRIP",
        "IDLETIMER",
    )
)
"""Targets that decide nothing."""
_FATES = {
    "ACCEPT": "accept",
    "DROP": "drop",
    "REJECT": "reject",
    "RETURN": "return",
    # of xtables-addons: they answer themselves, or not at all, and what listens never hears of it
    "TARPIT": "drop",
    "DELUDE": "drop",
    "CHAOS": "drop",
    "STEAL": "drop",
}


@dataclass(slots=True)
class Module:
    """A match or target with its options: each is (whether a ! stood before it, its name, its values)."""

    name: str
    options: list[tuple[bool, str, list[str]]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The module as it is written."""
        words = [f"-m {self.name}"] if self.name else []
        for negate, name, values in self.options:
            words += [*(["!"] if negate else []), name, *values]
        return " ".join(words)


def masked(text: str) -> tuple[int, int]:
    """A value and its mask; all bits where none is given."""
    value, _, mask = text.partition("/")
    return int(value, 0), int(mask, 0) if mask else _TOP


def target_parts(jump: str, target: Module, chains: set[str]) -> list[Part]:
    """What a target does; one that is not known may do anything."""
    name = target.name
    if name in _FATES and jump == "-j":
        return [Verdict(_FATES[name])]
    if name in chains:
        return [Verdict("jump" if jump == "-j" else "goto", chain=name)]
    if name in _NOTHING:
        return []
    try:
        return _changing(target)
    except (Unknown, ValueError, IndexError, KeyError):
        return [Opaque(f"-j {target.text.removeprefix('-m ')}"), Verdict("unknown")]


def _changing(target: Module) -> list[Part]:
    name, options = target.name, {option: values for _, option, values in target.options}
    if name == "MARK":
        return [_set_mark("mark", options)]
    if name == "CONNMARK":
        if "--restore-mark" in options or "--save-mark" in options:
            whole = all(int(options[mask][0], 0) == _TOP for mask in options if mask.endswith("mask"))
            pair = ("mark", "ctmark") if "--restore-mark" in options else ("ctmark", "mark")
            return [Effect(f"{pair[1]}>{pair[0]}") if whole else Effect(pair[0])]
        return [_set_mark("ctmark", options)]
    if name == "NOTRACK" or (name == "CT" and "--notrack" in options):
        return [Effect("notrack")]
    if name == "CT":
        return []
    if name in ("SNAT", "MASQUERADE", "NETMAP"):
        return [Verdict("accept")] if name != "NETMAP" else [Verdict("unknown")]
    if name == "REDIRECT":
        return [
            Verdict("redirect", port=_port(options["--to-ports"][0]) if "--to-ports" in options else None)
        ]
    if name == "DNAT":
        return [_dnat(options["--to-destination"][0])]
    raise Unknown


def _port(text: str) -> int:
    return int(text) if text.isdecimal() else -1


def _dnat(text: str) -> Verdict:
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") > 1:
        address, port = text, ""
    else:
        address, _, port = text.partition(":")
    try:
        where: str | None = str(of_address(address)) and address if address else None
    except ValueError:
        where = "?"
    return Verdict("dnat", address=where, port=_port(port) if port else None)


def _set_mark(kind: str, options: dict[str, list[str]]) -> Effect:
    for name, values in options.items():
        if name in ("--set-xmark", "--set-mark"):
            value, mask = masked(values[0])
            # set-mark clears the bits of the value too
            gone = mask if name == "--set-xmark" else mask | value
            return Effect(kind, _TOP & ~gone, value)
        if name in ("--and-mark", "--or-mark", "--xor-mark"):
            number = int(values[0], 0)
            keep = {"--and-mark": number, "--or-mark": _TOP & ~number, "--xor-mark": _TOP}[name]
            return Effect(kind, keep, 0 if name == "--and-mark" else number)
    raise Unknown
