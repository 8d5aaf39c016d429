"""What a firewall does with a new connection, for all its possible sources at once.

A packet is followed through every chain that the kernel shows it to, of nftables and of iptables alike, with
the set of source addresses that may still be on that way. A condition that cannot be told splits the way in
two: what may match goes on inside the rule, and the same goes on behind it. So a source ends in `accepted`
and `dropped` both only where both are possible, and an unknown condition that changes nothing does no harm.
An accept ends one chain, a drop ends all.
"""

from __future__ import annotations

from dataclasses import dataclass

from watchman_mcp.machine.firewall.flows import changed, cut, together, translated
from watchman_mcp.machine.firewall.index import rules_for
from watchman_mcp.machine.firewall.model import (
    Chain,
    ChainId,
    Choice,
    Condition,
    Effect,
    Firewall,
    Opaque,
    Part,
    Rule,
    Verdict,
)
from watchman_mcp.machine.firewall.order import orders_of
from watchman_mcp.machine.firewall.outcome import Decision, Outcome
from watchman_mcp.machine.firewall.packet import (
    EARLY,
    FORWARD,
    INPUT,
    LACKS,
    Flow,
    Packet,
    matching,
    value_of,
)
from watchman_mcp.machine.firewall.runs import FEW, Run, kept, shared
from watchman_mcp.machine.firewall.spans import Spans, intersection, merged, of_address, union, without

DEPTH = 40
"""Jumps within jumps that are followed; the kernel allows fewer."""
TRACKING = -200
"""The priority at which the kernel finds the connection of a packet."""
SOURCES = {4: "ip saddr", 6: "ip6 saddr"}
STEPS = 3_000_000
"""Rules that one packet may meet."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of one packet, accept, drop, reject or unknown, and the rules that decided it."""

    verdict: str
    rules: tuple[Rule, ...]
    arrived: tuple[Flow, ...] = ()
    """Where it arrives, if it may: another port or address where rules translate."""


def decide(firewall: Firewall, packet: Packet, source: str) -> Answer:
    """What becomes of a packet from one address."""
    address = of_address(source)
    outcome = follow(firewall, packet, ((address, address),))
    rules = tuple(one.rule for one in outcome.decisions if one.rule is not None)
    if outcome.accepted and (outcome.dropped or firewall.unseen):
        verdict = "unknown"
    elif outcome.accepted:
        verdict = "accept"
    else:
        verdict = "reject" if any(one.kind == "reject" for one in outcome.decisions) else "drop"
    return Answer(verdict, rules, tuple(outcome.arrived))


def follow(firewall: Firewall, packet: Packet, sources: Spans, *, within: bool = False) -> Outcome:
    """What may become of a packet from each of these sources; `within`: while no limit is reached."""
    walk = _Walk(firewall, packet, within)
    flows = [Flow(sources, daddr=packet.daddr, dport=packet.dport)]
    for hook in ("ingress", "prerouting"):
        flows = walk.hook(hook, flows)
    here = walk.hook("input", [flow for flow in flows if flow.daddr is None or flow.daddr in packet.local])
    away = [flow for flow in flows if flow.daddr is not None and flow.daddr not in packet.local]
    away = walk.hook("forward", away)
    for flow in here + away:
        walk.outcome.accepted = union(walk.outcome.accepted, flow.sources)
        if flow.daddr is None or flow.dport is None:
            walk.ended.extend(flow.sources)
    walk.outcome.dropped = merged(walk.ended)
    walk.outcome.arrived = here + away
    return walk.outcome


class _Walk:
    """One packet on its way."""

    def __init__(self, firewall: Firewall, packet: Packet, within: bool) -> None:
        self.firewall, self.packet, self.within = firewall, packet, within
        self.outcome = Outcome()
        self.stage = INPUT
        self._steps = 0
        self._walking: list[ChainId] = []
        self._base: Chain | None = None
        self._passed: list[Flow] = []
        self.ended: list[tuple[int, int]] = []
        """Sources of packets that may be dropped."""

    def hook(self, name: str, flows: list[Flow]) -> list[Flow]:
        """The ways that are left after all chains of a hook."""
        for orders in orders_of(self.firewall, name, self.packet):
            flows = together([flow for order in orders for flow in self._along(name, order, flows)])
        return flows

    def _along(self, name: str, chains: list[Chain], flows: list[Flow]) -> list[Flow]:
        for chain in chains:
            if not flows:
                break
            early = name in ("ingress", "prerouting") and (chain.priority or 0) <= TRACKING
            self.stage = EARLY if early or name == "ingress" else FORWARD if name == "forward" else INPUT
            done: list[Flow] = []
            if chain.kind == "nat":
                # once an address was translated, later chains are not asked
                done = [flow for flow in flows if flow.translated]
                flows = [flow for flow in flows if not flow.translated]
            flows = together([*done, *self._through(chain, flows)])
        return flows

    def _through(self, chain: Chain, flows: list[Flow]) -> list[Flow]:
        """The ways that go on after a base chain."""
        self._base, self._passed = chain, []
        left = self._walk(chain, flows, 0)
        if chain.policy == "drop":
            for flow in left:
                self._end(flow, "drop", chain.id, None)
            left = []
        elif chain.hook in (INPUT, FORWARD):
            self.outcome.decisions += [Decision(chain.id, None, "policy", flow.sources) for flow in left]
        return left + self._passed

    def _walk(self, chain: Chain, flows: list[Flow], depth: int) -> list[Flow]:
        """The ways that come back out of a chain."""
        back: list[Flow] = []
        again = chain.id in self._walking[:depth]  # the kernel takes no chain that leads back into itself
        self._walking[depth:] = [chain.id]
        todo = rules_for(self.firewall, chain, self.packet, flows, self.stage)[::-1]
        while flows and todo:
            step = todo.pop()
            self._steps += len(flows)
            if again or depth > DEPTH or self._steps > STEPS:
                rule = step.rules[0] if isinstance(step, Run) else step
                for flow in flows:
                    self._any(flow, rule, back)
                break
            if isinstance(step, Run):
                flows, rest = self._meet_run(step, flows, back, depth)
                todo += reversed(rest)
            else:
                flows = self._meet(step, flows, back, depth)
        return together(back + flows)

    def _meet_run(
        self, run: Run, flows: list[Flow], back: list[Flow], depth: int
    ) -> tuple[list[Flow], list[Rule]]:
        """The ways that go on behind rules that take their sources, and the rules that they still meet."""
        if any(value_of("state", self.packet, flow, self.stage) != run.state for flow in flows):
            # a rule of this chain changed it
            return flows, run.rules
        shares = [(flow, shared(run.pieces, flow.sources)) for flow in flows]
        for place in sorted({place for _, share in shares for place in share.taken}):
            rule, returned = run.rules[place], list[Flow]()
            verdict = rule.parts[-1]
            assert isinstance(verdict, Verdict)
            for flow, share in shares:
                if sources := share.taken.pop(place, None):
                    taken = Flow(tuple(sources), *flow.kind)
                    self._verdict(verdict, rule, taken, returned, back, depth)
            if returned:
                # what comes back from a jump may be for any rule behind it
                left = [one for flow, share in shares for one in cut(flow, share.rest())]
                return together([*left, *returned]), run.rules[place + 1 :]
        return [one for flow, share in shares for one in cut(flow, tuple(share.left))], []

    def _meet(self, rule: Rule, flows: list[Flow], back: list[Flow], depth: int) -> list[Flow]:
        """The ways that go on behind a rule; those that leave the chain by it are put into `back`."""
        behind = [flow for flow in flows if self._misses(rule, flow)]
        if len(behind) == len(flows):
            return flows
        inside = [flow for flow in flows if flow not in behind] if behind else flows
        for part in rule.parts:
            if not inside:
                break
            inside = self._part(part, rule, inside, behind, back, depth)
        return together(behind + inside)

    def _misses(self, rule: Rule, flow: Flow) -> bool:
        """Whether a rule is surely about something else, which is so of most, before it changes anything."""
        for part in rule.parts:
            if isinstance(part, Condition):
                if not matching(part.fields, part, self.packet, flow, self.stage)[0]:
                    return True
            elif not isinstance(part, Opaque):
                break
        return False

    def _part(
        self, part: Part, rule: Rule, inside: list[Flow], behind: list[Flow], back: list[Flow], depth: int
    ) -> list[Flow]:
        """The ways that go on within a rule after one part of it."""
        on: list[Flow] = []
        for flow in inside:
            if isinstance(part, Condition):
                may, must = matching(part.fields, part, self.packet, flow, self.stage)
                on += cut(flow, intersection(flow.sources, may))
                behind += cut(flow, without(flow.sources, must))
            elif isinstance(part, Opaque):
                known = part.within if self.within else None
                on += [] if known is False else [flow]
                behind += [] if known is True else [flow]
            elif isinstance(part, Effect):
                on.append(changed(flow, part))
            elif isinstance(part, Choice):
                on += self._choose(part, rule, flow, behind, back, depth)
            else:
                on += self._verdict(part, rule, flow, behind, back, depth)
        return on

    def _choose(
        self, choice: Choice, rule: Rule, flow: Flow, behind: list[Flow], back: list[Flow], depth: int
    ) -> list[Flow]:
        on: list[Flow] = []
        if len(choice.elements) >= FEW and choice.fields == (SOURCES[self.packet.version],):
            share = shared(kept(self.firewall, id(choice), choice.matches), flow.sources)
            for place, sources in sorted(share.taken.items()):
                met = Flow(tuple(sources), *flow.kind)
                on += self._verdict(choice.elements[place][1], rule, met, behind, back, depth)
            return on + self._otherwise(choice, rule, [*cut(flow, tuple(share.left))], behind, back, depth)
        left = [flow]
        for element, verdict in choice.elements:
            test = Condition(choice.fields, (element,))
            may, must = matching(test.fields, test, self.packet, flow, self.stage)
            if not may:
                continue
            for one in left:
                for met in cut(one, intersection(one.sources, may)):
                    on += self._verdict(verdict, rule, met, behind, back, depth)
            left = [rest for one in left for rest in cut(one, without(one.sources, must))]
        return on + self._otherwise(choice, rule, left, behind, back, depth)

    def _otherwise(
        self, choice: Choice, rule: Rule, left: list[Flow], behind: list[Flow], back: list[Flow], depth: int
    ) -> list[Flow]:
        """What comes of those that are no element: a packet without such fields is not looked up at all."""
        on: list[Flow] = []
        for flow in left:
            values = (value_of(name, self.packet, flow, self.stage) for name in choice.fields)
            if choice.otherwise is None or any(value is LACKS for value in values):
                behind.append(flow)
            else:
                on += self._verdict(choice.otherwise, rule, flow, behind, back, depth)
        return on

    def _verdict(
        self, verdict: Verdict, rule: Rule, flow: Flow, behind: list[Flow], back: list[Flow], depth: int
    ) -> list[Flow]:
        """The ways that go on within the rule: none but after `continue`."""
        kind = verdict.kind
        if kind == "continue":
            return [flow]
        if kind in ("drop", "reject"):
            self._end(flow, kind, rule.chain, rule)
        elif kind == "accept":
            self._accept(flow, rule)
        elif kind == "return":
            back.append(flow)
        elif kind in ("jump", "goto"):
            target = self.firewall.chains.get(rule.chain._replace(name=verdict.chain))
            if target is None:
                self._any(flow, rule, behind)
            else:
                (behind if kind == "jump" else back).extend(self._walk(target, [flow], depth + 1))
        elif kind in ("dnat", "redirect"):
            self._accept(translated(flow, verdict, self.packet.primary), rule)
        else:
            self._any(flow, rule, behind)
        return []

    def _accept(self, flow: Flow, rule: Rule) -> None:
        self._passed.append(flow)
        self.outcome.decisions.append(Decision(rule.chain, rule, "accept", flow.sources))

    def _end(self, flow: Flow, kind: str, chain: ChainId, rule: Rule | None) -> None:
        self.ended.extend(flow.sources)
        self.outcome.decisions.append(Decision(chain, rule, kind, flow.sources))

    def _any(self, flow: Flow, rule: Rule, on: list[Flow]) -> None:
        """Whatever can become of a packet may."""
        self._end(flow, "unknown", rule.chain, rule)
        self._passed.append(flow)
        on.append(flow)
