"""Rules of iptables as conditions, effects and verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from watchman_mcp.machine.firewall.ipset import IpSets
from watchman_mcp.machine.firewall.iptables_targets import Module, masked, target_parts
from watchman_mcp.machine.firewall.model import Condition, Opaque, Part
from watchman_mcp.machine.firewall.spans import Spans, merged, of_address, of_network
from watchman_mcp.machine.firewall.terms import FLAGS, PROTOCOLS, SMALLEST, Unknown, match_of

_TEXTS = ("--comment", "--log-prefix", "--nflog-prefix", "--ulog-prefix", "--string", "--hex-string")
"""Options whose value may be anything, such as another option."""


def parts_of(
    words: list[str], family: str, chains: set[str], sets: IpSets
) -> tuple[tuple[Part, ...], str | None, str | None]:
    """The parts of a rule, its target and its comment."""
    modules, jump, target = _modules(words)
    protocol = next(
        (values[0] for negate, name, values in modules[0].options if name == "-p" and values and not negate),
        "",
    )
    parts: list[Part] = []
    comment: str | None = None
    for module in modules:
        if module.name == "comment":
            comment = next((" ".join(values) for _, _, values in module.options), None)
            continue
        try:
            if module.name == "set":
                parts += [*_in_sets(module, family, sets)]
            else:
                parts += _read(module, family, PROTOCOLS.get(protocol, protocol))
        except (Unknown, ValueError, IndexError, KeyError):
            parts.append(Opaque(module.text, _within(module)))
    if target is not None:
        parts += target_parts(jump, target, chains)
    return tuple(parts), target.name if target else None, comment


def _in_sets(module: Module, family: str, sets: IpSets) -> Iterator[Part]:
    for negate, name, values in module.options:
        if name in ("--match-set", "--set"):
            yield replace(sets.condition(values[0], values[1], family), negate=negate)
        elif not name.startswith("--update-"):
            raise Unknown


_RARE = frozenset(("rt", "hbh", "dst", "frag", "ipv6header", "ipv4options", "srh"))
"""Matches of what few packets have."""


def _within(module: Module) -> bool | None:
    """What a match is while its limit is not reached, or without what few packets have; None for others."""
    options = {name: (negate, values) for negate, name, values in module.options}
    if module.name in _RARE:
        return None if any(negate for negate, _ in options.values()) else False
    if module.name == "tcpmss":
        negate, values = options.get("--mss", (False, []))
        low_to_high = _ports(values[0]) if values else ((0, 65535),)
        return negate if low_to_high[-1][1] <= SMALLEST else None
    if module.name == "limit" or (module.name == "hashlimit" and "--hashlimit-upto" in options):
        return True
    if module.name == "hashlimit" and "--hashlimit-above" in options:
        return False
    if module.name == "connlimit":
        return "--connlimit-upto" in options
    if module.name == "recent" and not any(negate for negate, _ in options.values()):
        if "--set" in options:
            return True
        hits = options.get("--hitcount", (False, ["1"]))[1]
        return False if hits and hits[0].isdecimal() and hits[0].lstrip("0") not in ("", "1") else None
    return None


def _turned(words: list[str]) -> list[str]:
    """The words with each ! before the option that it negates; until 1.4.3 it stood behind it."""
    found: list[str] = []
    for word, following in zip(words, [*words, ""][1:], strict=True):
        late = word == "!" and following and not following.startswith("-")
        if late and found and found[-1].startswith("-"):
            found.insert(-1, word)
        else:
            found.append(word)
    return found


def _modules(words: list[str]) -> tuple[list[Module], str, Module | None]:
    """The options of a rule by the module that they belong to; the first are everybody's."""
    modules, jump, target = [Module("")], "", None
    holder, negate = modules[0], False
    words = _turned(words)
    for word, following in zip(words, [*words, ""][1:], strict=True):
        if holder.options and holder.options[-1][1] in _TEXTS and not holder.options[-1][2]:
            holder.options[-1][2].append(word)
        elif word == "!" and following.startswith("-"):
            negate = True
        elif target is None and word == "-m":
            holder = Module(following, [])
            modules.append(holder)
        elif target is None and word in ("-j", "-g"):
            jump, holder = word, Module(following)
            target = holder
        elif holder.name == word and not holder.options:
            pass
        elif word.startswith("-") and not word[1:].isdecimal():
            if target is None and len(word) == 2:
                holder = modules[0]
            holder.options.append((negate, word, []))
            negate = False
        elif holder.options:
            holder.options[-1][2].append(word)
        else:
            holder.options.append((negate, word, []))
    return modules, jump, target


def _read(module: Module, family: str, protocol: str) -> list[Part]:
    reader = _READERS.get(module.name)
    if reader is None:
        raise Unknown
    found: list[Part] = []
    for negate, name, values in module.options:
        found += reader(negate, name, values, (family, protocol))
    return found


Given = tuple[str, str]
"""The family of the table and the protocol of the rule."""


def _generic(negate: bool, name: str, values: list[str], given: Given) -> list[Part]:
    value = values[0] if values else ""
    if name in ("-s", "-d"):
        which = "saddr" if name == "-s" else "daddr"
        return [Condition((f"{given[0]} {which}",), ((of_network(value),),), negate)]
    if name in ("-i", "-o"):
        pattern = f"{value[:-1]}*" if value.endswith("+") else value
        return [Condition((f"{name[1]}if",), (((pattern,),),), negate)]
    if name == "-p":
        word = PROTOCOLS.get(value, value)
        if word in ("all", "0"):
            return []
        return [Condition(("protocol",), ((frozenset((word,)),),), negate)]
    if name == "-f":
        # the second or a further one: it is at some distance from the beginning
        return [Condition((f"{given[0]} fragment",), ((((0, 0),),),), not negate, mask=0x1FFF)]
    try:
        return _transport(negate, name, values, given)
    except (Unknown, ValueError, IndexError):
        return [Opaque(Module("", [(negate, name, values)]).text)]


ANY: Spans = ((0, 65535),)


def _ports(text: str) -> Spans:
    def span(part: str) -> tuple[int, int]:
        low, colon, high = part.partition(":")
        return int(low or 0), int(high or 65535) if colon else int(low)

    return merged(span(part) for part in text.split(","))


def _transport(negate: bool, name: str, values: list[str], given: Given) -> list[Part]:
    protocol = given[1] if given[1] in ("tcp", "udp", "sctp", "dccp", "udplite") else "th"
    if name in ("--dport", "--sport", "--dports", "--sports"):
        which = name.lstrip("-").rstrip("s")
        return [Condition((f"{protocol} {which}",), ((_ports(values[0]),),), negate)]
    if name == "--ports":
        # that of either side
        ports = _ports(values[0])
        return [Condition((f"{protocol} dport", f"{protocol} sport"), ((ports, ANY), (ANY, ports)), negate)]
    if name == "--tcp-flags":
        mask, wanted = (_flags(value) for value in values)
        return [Condition(("tcp flags",), ((((wanted, wanted),),),), negate, mask=mask)]
    if name == "--syn":
        return [Condition(("tcp flags",), ((((2, 2),),),), negate, mask=23)]
    raise Unknown


def _flags(text: str) -> int:
    if text in ("ALL", "NONE"):
        return 63 if text == "ALL" else 0
    return sum(FLAGS[word.lower()] for word in text.split(","))


_STATES = frozenset(("new", "established", "related", "invalid"))
_TRANSLATED = frozenset(("dnat", "snat"))


def _state(words: frozenset[str], negate: bool) -> Condition:
    """A state, or that an address was translated, which iptables takes for one too."""
    if not words & _TRANSLATED:
        return Condition(("state",), ((words,),), negate)
    status = words & _TRANSLATED
    if words == status:
        return Condition(("status",), ((status,),), negate)
    either = ((words - status, _TRANSLATED | {"new"}), (_STATES, status))
    return Condition(("state", "status"), either, negate)


def _conntrack(negate: bool, name: str, values: list[str], given: Given) -> list[Part]:
    if name in ("--ctstate", "--state"):
        return [_state(frozenset(values[0].lower().split(",")), negate)]
    if name == "--ctstatus" and values[0] != "NONE":
        return [Condition(("status",), ((frozenset(values[0].lower().split(",")),),), negate)]
    if name == "--ctorigdstport":
        return [Condition(("origport",), ((_ports(values[0]),),), negate)]
    if name in ("--ctorigsrc", "--ctorigdst"):
        field = "origaddr" if name == "--ctorigdst" else f"{given[0]} saddr"
        return [Condition((field,), ((of_network(values[0]),),), negate)]
    if name == "--ctdir":
        return [Condition(("direction",), ((frozenset((values[0].lower(),)),),), negate)]
    if name == "--ctproto":
        word = PROTOCOLS.get(values[0], values[0])
        return [Condition(("protocol",), ((frozenset((word,)),),), negate)]
    raise Unknown


def _iprange(negate: bool, name: str, values: list[str], given: Given) -> list[Part]:
    low, _, high = values[0].partition("-")
    which = {"--src-range": "saddr", "--dst-range": "daddr"}[name]
    return [Condition((f"{given[0]} {which}",), ((((of_address(low), of_address(high or low)),),),), negate)]


def _addrtype(negate: bool, name: str, values: list[str], given: Given) -> list[Part]:
    if name not in ("--dst-type", "--src-type"):
        raise Unknown
    field = name.strip("-")[0] + "addrtype"
    return [Condition((field,), ((match_of(field, values[0].lower().split(",")),),), negate)]


def _mark(negate: bool, name: str, values: list[str], given: Given) -> list[Part]:
    return [_marked("mark", negate, name, values)]


def _connmark(negate: bool, name: str, values: list[str], given: Given) -> list[Part]:
    return [_marked("ctmark", negate, name, values)]


def _marked(kind: str, negate: bool, name: str, values: list[str]) -> Part:
    if name != "--mark":
        raise Unknown
    value, mask = masked(values[0])
    return Condition((kind,), ((((value, value),),),), negate, mask=mask)


def _pkttype(negate: bool, name: str, values: list[str], given: Given) -> list[Part]:
    return [Condition(("pkttype",), ((frozenset((values[0].lower(),)),),), negate)]


def _icmp(negate: bool, name: str, values: list[str], given: Given) -> list[Part]:
    # what is followed here is never of this protocol, and -p says so already
    return [Condition(("icmp type",), ((frozenset(values[:1]),),), negate)]


def _rpfilter(negate: bool, name: str, values: list[str], given: Given) -> list[Part]:
    if name not in ("--invert", "--loose", "--validmark", "--accept-local"):
        raise Unknown
    return [Condition(("rpf",), ((frozenset(("missing",)),),))] if name == "--invert" else []


_READERS: dict[str, Callable[[bool, str, list[str], Given], list[Part]]] = {
    "": _generic,
    **dict.fromkeys(("tcp", "udp", "sctp", "dccp", "udplite", "multiport"), _transport),
    "conntrack": _conntrack,
    "state": _conntrack,
    "iprange": _iprange,
    "addrtype": _addrtype,
    "mark": _mark,
    "connmark": _connmark,
    "pkttype": _pkttype,
    "icmp": _icmp,
    **dict.fromkeys(("icmp6", "icmpv6", "ipv6-icmp"), _icmp),
    "rpfilter": _rpfilter,
}
