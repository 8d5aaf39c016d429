"""Firewalls made at random, of nftables and of both kinds of iptables, for two small namespaces."""

from dataclasses import dataclass, field
from random import Random

PORTS = (22, 80, 443, 8080, 5432)
NETWORKS = (
    "203.0.113.0/24",
    "203.0.113.5",
    "198.51.100.0/24",
    "10.0.0.0/8",
    "10.7.0.0/24",
    "192.168.0.0/16",
    "8.8.8.8",
    "8.0.0.0/7",
)
NETWORKS6 = ("2001:db8::/32", "2001:db8:9::9", "fe80::/10", "2001:db8:1::/48")
ADDRESSES = ("203.0.113.5", "203.0.113.77", "8.8.8.8", "10.7.0.2", "192.168.9.9", "10.8.0.2")
MANY = 80
"""Rules for one source each, which are more than a chain has that is asked rule by rule."""
RANGES = ("10.7.0.1-10.7.0.9", "8.8.8.0-8.8.9.9", "203.0.113.70-203.0.113.80")
TARGETS = ("198.51.100.1", "10.7.0.1", "10.8.0.1", "198.51.100.0/24", "10.0.0.0/8")


@dataclass
class Ruleset:
    """What to load: a text for nft, and texts for the restore programs."""

    nft: str = ""
    restored: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return "\n".join([self.nft, *(f"== {name}\n{text}" for name, text in self.restored.items())])


def ruleset(seed: int) -> Ruleset:
    """The firewall of this number: always the same."""
    random = Random(seed)
    made = Ruleset()
    kind = seed % 5
    if kind in (0, 1, 2):
        made.nft = _nft(random)
    if kind in (2, 3):
        made.restored["iptables-nft-restore"] = _iptables(random)
    if kind == 4 or random.random() < 0.2:
        made.restored["iptables-legacy-restore"] = _iptables(random)
    if kind == 4 and random.random() < 0.5:
        made.restored["ip6tables-legacy-restore"] = _iptables(random, six=True)
    return made


def _some(random: Random, values: tuple[str, ...] | tuple[int, ...], most: int = 3) -> list[str]:
    return [str(one) for one in random.sample(values, random.randint(1, most))]


def _nft(random: Random) -> str:
    nets, ports = _some(random, NETWORKS[:6], 2), _some(random, PORTS)
    if "203.0.113.0/24" in nets and "203.0.113.5" in nets:
        nets.remove("203.0.113.5")
    if "10.0.0.0/8" in nets and "10.7.0.0/24" in nets:
        nets.remove("10.7.0.0/24")
    lines = [
        "table inet t {",
        f" set ports {{ type inet_service; flags interval; elements = {{ {', '.join(ports)}, 9000-9100 }} }}",
        f" set nets {{ type ipv4_addr; flags interval; elements = {{ {', '.join(nets)} }} }}",
        " set empty { type ipv4_addr; }",
        " set both { type ipv4_addr . inet_service; flags interval;",
        f"  elements = {{ {random.choice(NETWORKS)} . {random.choice(PORTS)}, 10.8.0.0/24 . 1-65535 }} }}",
    ]
    lines += [" chain deep {", *(f"  {_rule(random, ())}" for _ in range(random.randint(0, 3))), " }"]
    lines += [
        f" map fates {{ type inet_service : verdict; elements = {{ {random.choice(PORTS)} : "
        f"{random.choice(('accept', 'drop', 'jump deep', 'goto deep'))}, 9000 : drop }} }}"
    ]
    for name in ("one", "two"):
        lines += [
            f" chain {name} {{",
            *(f"  {_rule(random, ('deep',))}" for _ in range(random.randint(1, 4))),
            " }",
        ]
    hooks = [("input", random.choice((0, 0, -10)))]
    hooks += [("prerouting", random.choice((-300, -150)))] if random.random() < 0.4 else []
    hooks += [("input", 10)] if random.random() < 0.3 else []
    for hook, priority in hooks:
        policy = random.choice(("accept", "drop")) if hook == "input" else "accept"
        lines += [f" chain at_{hook}_{priority + 300} {{"]
        lines += [f"  type filter hook {hook} priority {priority}; policy {policy};"]
        lines += ["  ct state established,related accept"] if random.random() < 0.7 else []
        # neighbours must be found before anything connects
        lines += ["  meta l4proto ipv6-icmp accept"]
        rules = [_rule(random, ("one", "two", "deep")) for _ in range(random.randint(1, 7))]
        lines += [f"  {rule}" for rule in _among(random, rules, "ip saddr {} {}", NFT_FATES)]
        lines += [" }"]
    if random.random() < 0.2:
        lines += [
            " chain moved {",
            "  type nat hook prerouting priority dstnat; policy accept;",
            f"  tcp dport {random.choice((81, *PORTS))} redirect to :{random.choice(PORTS)}",
            " }",
        ]
    return "\n".join([*lines, "}"])


NFT_FATES = ("accept", "drop", "reject", "return", "jump deep", "goto one", "tcp dport 443 drop")
IPTABLES_FATES = ("-j ACCEPT", "-j DROP", "-j REJECT", "-j RETURN", "-j two", "-g one")


def _among(random: Random, rules: list[str], text: str, fates: tuple[str, ...]) -> list[str]:
    """These rules, sometimes with many among them that each are for one source."""
    if random.random() < 0.5:
        return rules
    sources = [f"198.18.{number}.1" for number in range(MANY)]
    # an address that is met again is decided by the first rule
    sources[:: MANY // 10] = random.choices(ADDRESSES, k=10)
    random.shuffle(sources)
    at = random.randint(0, len(rules))
    many = [text.format(source, random.choice(fates)) for source in sources]
    return [*rules[:at], *many, *rules[at:]]


def _rule(random: Random, chains: tuple[str, ...]) -> str:
    words: list[str] = []
    for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3))):
        word = _nft_condition(random)
        # nft refuses a rule that is about two protocols
        words += [] if any(_about(word) & _about(other) for other in words) else [word]
    if random.random() < 0.2:
        words.append(
            random.choice(("counter", 'log prefix "x "', "meta mark set 0x5", "limit rate 9/hour log"))
        )
    fates = ["accept", "drop", "accept", "drop", "reject", "return"]
    fates += [f"{way} {chain}" for chain in chains for way in ("jump", "goto")]
    fate = random.choice(fates)
    if random.random() < 0.1 and chains and not any("transport" in _about(word) for word in words):
        return " ".join([*words, "tcp dport vmap @fates"])
    if random.random() < 0.1 and chains:
        fate = "drop" if fate == "reject" else fate
        return " ".join([*words, f"iifname vmap {{ eth0 : {fate}, eth1 : accept }}"])
    return " ".join([*words, fate])


def _about(word: str) -> set[str]:
    """What a condition is about: a rule has one of each kind."""
    if word.startswith(("ip protocol", "ip saddr . ")):
        return {"transport", "network"}
    if word.startswith(("tcp", "udp", "th", "meta l4proto")):
        return {"transport"}
    return {"network"} if word.startswith(("ip ", "ip6 ", "meta nfproto")) else {word.partition(" ")[0]}


def _nft_condition(random: Random) -> str:
    bang = random.choice(("", "", "!= "))
    return random.choice(
        (
            f"tcp dport {bang}{random.choice(PORTS)}",
            f"tcp dport {bang}{{ {', '.join(_some(random, PORTS))} }}",
            f"udp dport {bang}{random.choice(PORTS)}",
            f"th dport {bang}1-1023",
            f"tcp dport {bang}@ports",
            "tcp dport < 1024",
            "tcp dport >= 443",
            f"ip saddr {bang}{random.choice(NETWORKS)}",
            f"ip saddr {bang}{random.choice(RANGES)}",
            f"ip saddr {bang}{{ {', '.join(_some(random, NETWORKS[1:4], 3))} }}",
            f"ip saddr {bang}@nets",
            f"ip saddr {bang}@empty",
            f"ip6 saddr {bang}{random.choice(NETWORKS6)}",
            f"ip daddr {bang}{random.choice(TARGETS)}",
            f"ip saddr . tcp dport {bang}@both",
            f'iifname {bang}"{random.choice(("eth0", "eth1", "lo", "eth*", "wlan*"))}"',
            f"iif {bang}{random.choice(('eth0', 'eth1', 'lo'))}",
            f"ct state {bang}new",
            f"ct state {random.choice(('invalid', 'established,related', 'new,untracked'))}",
            f"meta l4proto {bang}{random.choice(('tcp', 'udp', '{ tcp, udp }'))}",
            f"meta nfproto {random.choice(('ipv4', 'ipv6'))}",
            f"ip protocol {random.choice(('tcp', 'udp', 'icmp'))}",
            f"fib daddr type {bang}local",
            f"meta mark {bang}0x5",
            f"meta mark and 0x4 {random.choice(('==', '!='))} 0x4",
            "tcp flags & (fin|syn|rst|ack) == syn",
            f"meta pkttype {bang}host",
            "fib saddr . iif oif missing",
            f"tcp sport {bang}1024-65535",
        )
    )


def _iptables(random: Random, *, six: bool = False) -> str:
    lines = ["*filter", f":INPUT {random.choice(('ACCEPT', 'DROP'))} [0:0]", ":FORWARD ACCEPT [0:0]"]
    lines += [":OUTPUT ACCEPT [0:0]", ":one - [0:0]", ":two - [0:0]"]
    lines += ["-A INPUT -p ipv6-icmp -j ACCEPT"] if six else []
    lines += [f"-A two {_line(random, (), six)}" for _ in range(random.randint(0, 3))]
    lines += [f"-A one {_line(random, ('two',), six)}" for _ in range(random.randint(0, 4))]
    rules = [_line(random, ("one", "two"), six) for _ in range(random.randint(1, 7))]
    rules = rules if six else _among(random, rules, "-s {} {}", IPTABLES_FATES)
    lines += [f"-A INPUT {rule}" for rule in rules]
    lines += ["COMMIT"]
    if random.random() < 0.3:
        lines += ["*mangle", ":PREROUTING ACCEPT [0:0]"]
        which = random.choice((_plain(random, six), "-m rpfilter", "-m rpfilter --invert"))
        lines += [f"-A PREROUTING {which} -j MARK --set-xmark 0x5/0xffffffff", "COMMIT"]
    if random.random() < 0.2 and not six:
        lines += ["*nat", ":PREROUTING ACCEPT [0:0]"]
        port = random.choice((81, *PORTS))
        lines += [f"-A PREROUTING -p tcp -m tcp --dport {port} -j REDIRECT --to-ports {random.choice(PORTS)}"]
        lines += ["COMMIT"]
    return "\n".join(lines) + "\n"


def _line(random: Random, chains: tuple[str, ...], six: bool) -> str:
    fate = random.choice(("-j ACCEPT", "-j DROP", "-j ACCEPT", "-j DROP", "-j REJECT", "-j RETURN", "-j LOG"))
    if chains and random.random() < 0.35:
        fate = f"{random.choice(('-j', '-g'))} {random.choice(chains)}"
    return f"{_plain(random, six)} {fate}"


def _plain(random: Random, six: bool) -> str:
    bang = random.choice(("", "", "! "))
    networks = NETWORKS6 if six else NETWORKS
    word = random.choice(
        (
            "",
            f"{bang}-s {random.choice(networks)}",
            f"{bang}-i {random.choice(('eth0', 'eth1', 'lo', 'eth+'))}",
            *(() if six else (f"-m iprange {bang}--src-range {random.choice(RANGES)}",)),
            *(() if six else (f"{bang}-d {random.choice(TARGETS)}",)),
            f"-m mark {bang}--mark 0x4/0x4",
            f"-m addrtype {bang}--dst-type LOCAL",
            f"-m pkttype {bang}--pkt-type unicast",
            '-m comment --comment "a \\"quoted\\" word"',
        )
    )
    transport = random.choice(
        (
            "",
            f"-p tcp -m tcp {bang}--dport {random.choice(PORTS)}",
            "-p tcp -m tcp --dport 1:1023",
            f"-p tcp -m multiport {bang}--dports {','.join(_some(random, PORTS))},9000:9100",
            f"-p udp -m udp --dport {random.choice(PORTS)}",
            "-p udp",
            "! -p tcp",
            "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN",
        )
    )
    state = random.choice(
        ("", "", "-m conntrack --ctstate NEW", "-m conntrack --ctstate RELATED,ESTABLISHED")
    )
    return " ".join(part for part in (word, transport, state) if part)
