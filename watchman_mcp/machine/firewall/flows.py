"""What becomes of ways through the firewall: they are cut, changed and put together again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from watchman_mcp.machine.firewall.model import Effect, Verdict
from watchman_mcp.machine.firewall.packet import Flow
from watchman_mcp.machine.firewall.spans import Spans, merged, of_address, union

FLOWS = 64
"""Different marks that are told apart."""


def cut(flow: Flow, sources: Spans) -> Iterator[Flow]:
    """The way of these sources only; nothing where there are none."""
    if len(sources) == len(flow.sources) and sources == flow.sources:
        yield flow
    elif sources:
        yield Flow(sources, *flow.kind)


def changed(flow: Flow, effect: Effect) -> Flow:
    """A way after an effect."""
    if effect.kind == "notrack":
        return replace(flow, state="untracked")
    old = flow.mark if effect.kind in ("mark", "ctmark>mark") else flow.ctmark
    new: int | None
    if effect.kind == "ctmark>mark":
        new = flow.ctmark
    elif effect.kind == "mark>ctmark":
        new = flow.mark
    elif effect.value is None or (old is None and effect.keep):
        new = None
    else:
        new = ((old or 0) & effect.keep) ^ effect.value
    return replace(flow, mark=new) if effect.kind in ("mark", "ctmark>mark") else replace(flow, ctmark=new)


def translated(flow: Flow, verdict: Verdict, primary: int | None) -> Flow:
    """A way after its address was translated."""
    port = flow.dport if verdict.port is None else None if verdict.port < 0 else verdict.port
    if verdict.kind == "redirect":
        return replace(flow, daddr=flow.daddr if primary is None else primary, dport=port, translated=True)
    if verdict.address is None:
        return replace(flow, dport=port, translated=True)
    address = None if verdict.address == "?" else of_address(verdict.address)
    return replace(flow, daddr=address, dport=port, translated=True)


def together(flows: Iterable[Flow]) -> list[Flow]:
    """The same ways, those that differ in their sources only as one."""
    flows = list(flows)
    if len(flows) < 2:
        return flows
    found: dict[tuple[object, ...], list[Flow]] = {}
    for flow in flows:
        if len(found) > FLOWS:
            flow = replace(flow, mark=None, ctmark=None)
        found.setdefault(flow.kind, []).append(flow)
    return [same[0] if len(same) == 1 else _joined(same) for same in found.values()]


def _joined(flows: list[Flow]) -> Flow:
    if len(flows) == 2:
        return replace(flows[0], sources=union(flows[0].sources, flows[1].sources))
    return replace(flows[0], sources=merged(span for flow in flows for span in flow.sources))
