"""What the firewall is said to let through, beside connections that are really tried."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.rigs.firewall import ADDRESSES, SOURCES, Pair, Try, packet, pair
from tests.rigs.rulesets import PORTS, Ruleset, ruleset
from watchman_mcp.collectors import Look
from watchman_mcp.collectors.firewall import collect
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import SEARCH_PATH, Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.firewall.evaluate import Answer, decide
from watchman_mcp.machine.firewall.exposure import Endpoint, Interface, exposure
from watchman_mcp.machine.firewall.model import Firewall
from watchman_mcp.machine.firewall.reading import read_firewall
from watchman_mcp.schema import Label
from watchman_mcp.schema.firewall import FirewallChain, FirewallRule
from watchman_mcp.settings import Settings

pytestmark = pytest.mark.real

FULL = os.environ.get("WATCHMAN_TEST_SOAK") == "full"
INTERFACES = [
    Interface("lo", ("127.0.0.1/8", "::1/128"), "loopback"),
    Interface("eth0", ADDRESSES["eth0"], "veth", ("default", "default6")),
    Interface("eth1", ADDRESSES["eth1"], "veth"),
]
PUBLIC = {"203.0.113.5", "203.0.113.77", "8.8.8.8", "2001:db8:9::9"}
EMPTY = "*filter\n:INPUT ACCEPT\nCOMMIT\n*mangle\nCOMMIT\n*nat\nCOMMIT\n"


@pytest.fixture(scope="module")
def cabled() -> Iterator[Pair]:
    with pair() as both:
        both.listen(PORTS)
        yield both


def load(both: Pair, made: Ruleset) -> None:
    """Put this firewall in the place of the one before."""
    both.here.run("nft", "-f", "-", input=f"flush ruleset\n{made.nft}\n")
    for program in ("iptables-nft-restore", "iptables-legacy-restore", "ip6tables-legacy-restore"):
        if program in made.restored:
            both.here.run(program, input=made.restored[program])
        elif "legacy" in program:
            both.here.run(program, input=EMPTY)


def read(both: Pair) -> Firewall:
    root = Path("/")
    return both.here.call(lambda: read_firewall(Machine(Files(root), Commands(), root)))


def tries(ports: tuple[int, ...] = (*PORTS, 81)) -> list[Try]:
    found = []
    for interface, sources in SOURCES.items():
        for source in sources:
            version = ip_address(source).version
            for text in ADDRESSES[interface]:
                target = text.partition("/")[0]
                if ip_address(target).version == version:
                    found += [Try("tcp", interface, source, target, port) for port in ports]
                    found += [Try("udp", interface, source, target, port) for port in ports[:2]]
    return found


def agrees(answer: Answer, reached: bool) -> bool | None:
    """Whether what was said is what happened; None where nothing was said."""
    if answer.verdict == "unknown":
        return None
    listened = any(flow.dport in PORTS for flow in answer.arrived)
    return (answer.verdict == "accept" and listened) == reached


@dataclass
class Tally:
    tried: int = 0
    unknown: int = 0
    reached: int = 0


def compare(both: Pair, seeds: range) -> Tally:
    tally = Tally()
    for seed in seeds:
        made = ruleset(seed)
        load(both, made)
        firewall = read(both)
        assert firewall.unseen == {}
        happened = both.attempt(tries())
        for one, reached in happened.items():
            answer = decide(firewall, packet(one), one.source)
            fits = agrees(answer, reached)
            tally.tried += 1
            tally.reached += reached
            tally.unknown += fits is None
            assert fits is not False, f"{seed}: {one} reached: {reached}, said: {answer.verdict}\n{made}"
        exposures(firewall, happened, f"{seed}: {made}")
    return tally


def exposures(firewall: Firewall, happened: dict[Try, bool], about: str) -> None:
    """The verdict of each port is no narrower than what happened; redirected ports are others' business."""
    if "redirect" in about.lower():
        return
    came: dict[tuple[str, int, int], list[str]] = {}
    for one, reached in happened.items():
        if one.port in PORTS:
            sources = came.setdefault((one.protocol, one.port, ip_address(one.source).version), [])
            sources += [one.source] if reached else []
    for (protocol, port, version), sources in came.items():
        everywhere = "0.0.0.0" if version == 4 else "::"
        verdict = exposure(firewall, INTERFACES, Endpoint(protocol, everywhere, port, None, True))
        wanted = {"internet", "unknown"} if PUBLIC & {*sources} else {"internet", "lan", "unknown"}
        told = f"{protocol} {port} IPv{version} from {sources}, said {verdict.exposure}: {verdict.reasons}"
        assert not sources or verdict.exposure in wanted, f"{told}\n{about}"


def test_what_a_firewall_is_said_to_do_is_what_it_does_to_connections(cabled: Pair) -> None:
    tally = compare(cabled, range(25))

    assert tally.tried > 1_000
    assert 0.1 < tally.reached / tally.tried < 0.9
    assert tally.unknown / tally.tried < 0.05


@pytest.mark.soak
@pytest.mark.skipif(not FULL, reason="25 of these run in the test above")
def test_what_two_hundred_firewalls_are_said_to_do_is_what_they_do(cabled: Pair) -> None:
    tally = compare(cabled, range(25, 250))

    assert tally.unknown / tally.tried < 0.05


RULES = """table inet shown {
 set nets { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 1.2.3.4 } }
 chain web { }
 chain in {
  type filter hook input priority 0; policy accept;
  iifname { "eth0", "wlan*" } accept
  ct state established,related accept
  ct state vmap { established : accept, invalid : drop }
  ct state new limit rate over 10/minute burst 9 packets drop
  limit rate 10 mbytes/second accept
  tcp dport { 22, 80-90 } accept
  tcp dport != 1-100 accept
  tcp dport < 1024 accept
  tcp dport vmap { 22 : goto web, 1-10 : continue }
  meta l4proto { tcp, udp } th dport 53 accept
  ip saddr . tcp dport { 10.0.0.0/8 . 80-90 } accept
  ip saddr & 0.0.0.255 == 0.0.0.5 accept
  ip saddr @nets ip daddr != 1.2.3.4 jump web
  tcp flags syn / fin,syn,rst,ack accept
  fib saddr . iif oif missing drop
  fib daddr type { local, broadcast } accept
  meta mark set meta mark & 0xffffff01 | 0x00000001
  meta mark & 0x000000ff == 0x00000001 accept
  meta skuid 1000 accept
  log prefix "x y" group 3 snaplen 10
  reject with icmpx admin-prohibited
  meta l4proto tcp reject with tcp reset
  ct count over 10 drop
  numgen random mod 2 vmap { 0 : accept, 1 : drop }
  accept comment "multi  word"
 }
}
"""


def test_rules_of_nftables_are_written_as_nft_writes_them(cabled: Pair) -> None:
    cabled.here.run("nft", "-f", "-", input="flush ruleset\n" + RULES)
    listed = cabled.here.run("nft", "-s", "list", "chain", "inet", "shown", "in").stdout.split("\n")
    wanted = [line.strip() for line in listed if line.startswith("\t\t")][1:]
    (chain,) = (chain for chain in read(cabled).chains.values() if chain.id.name == "in")

    assert [rule.text for rule in chain.rules] == wanted
    assert len(wanted) == 25


MARKS = """table inet first {
 chain i {
  type filter hook input priority 0
  meta mark set 1
 }
}
table inet second {
 chain i {
  type filter hook input priority 0
  meta mark 1 accept
  tcp dport 22 drop
 }
}
"""


@pytest.mark.parametrize(("later", "verdict"), [(0, "unknown"), (1, "accept")])
def test_of_chains_of_one_priority_nobody_knows_which_is_asked_first(
    cabled: Pair, later: int, verdict: str
) -> None:
    text = MARKS.replace("priority 0\n  meta mark 1", f"priority {later}\n  meta mark 1")
    load(cabled, Ruleset(text, {}))
    one = Try("tcp", "eth0", "203.0.113.5", "198.51.100.1", 22)

    answer = decide(read(cabled), packet(one), one.source)

    assert answer.verdict == verdict
    assert cabled.attempt([one]) == {one: verdict == "accept"}  # the second one is asked first


@pytest.mark.parametrize("devices", ['device "eth0"', "devices = { eth1, eth0 }", "device eth1"])
def test_a_chain_at_the_ingress_of_devices_is_for_what_comes_by_them(cabled: Pair, devices: str) -> None:
    chain = f"type filter hook ingress {devices} priority 0"
    load(cabled, Ruleset(f"table netdev t {{\n chain c {{\n  {chain}\n  tcp dport 22 drop\n }}\n}}\n", {}))
    tries = [Try("tcp", "eth0", "203.0.113.5", "198.51.100.1", port) for port in (22, 80)]
    firewall = read(cabled)

    said = [decide(firewall, packet(one), one.source).verdict == "accept" for one in tries]

    assert said == [cabled.attempt(tries)[one] for one in tries] == ["eth0" not in devices, True]
    endpoint = Endpoint("tcp", "198.51.100.1", 22)
    assert (exposure(firewall, INTERFACES[:2], endpoint).exposure == "internet") == ("eth0" not in devices)


ODD = (
    "-p tcp -m multiport --ports 22,80 -j DROP",
    "-m addrtype --src-type LOCAL -j DROP",
    "-f -j DROP",
    "-p tcp -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
    "-p tcp -m conntrack --ctorigdst 198.51.100.1 --ctorigdstport 81 -j DROP",
    "-m conntrack --ctorigsrc 8.0.0.0/8 -j DROP",
    "-p tcp -s 0.0.0.5/0.0.0.255 -m tcp --dport 443 -j DROP",
)


def test_what_rare_matches_of_iptables_are_said_to_do_is_what_they_do(cabled: Pair) -> None:
    unknown = 0
    for rule in ODD:
        load(cabled, Ruleset("", {}))
        cabled.here.run("iptables-legacy", "-A", "INPUT", *rule.split())
        sent = ("-p", "tcp", "--dport", "81", "-j", "REDIRECT", "--to-ports", "22")
        cabled.here.run("iptables-legacy", "-t", "nat", "-A", "PREROUTING", *sent)
        firewall = read(cabled)
        for one, reached in cabled.attempt(tries()).items():
            fits = agrees(decide(firewall, packet(one), one.source), reached)
            assert fits is not False, f"{rule}: {one} reached: {reached}"
            unknown += fits is None
    cabled.here.run("iptables-legacy-restore", input=EMPTY)
    # of a mask that is no network alone
    assert unknown < len(tries())


MIXED = """table ip filter {
 chain INPUT {
  tcp dport { 80, 443 } counter accept
  ip saddr 8.8.8.1-8.8.8.9 counter accept
  tcp dport 81 counter accept
  counter drop
 }
}
"""
OF_IPTABLES = (
    "-s 10.0.0.0/8 ! -i eth1 -p tcp -m tcp --dport 22 -j ACCEPT",
    "-f -j DROP",
    "-p tcp -m multiport --dports 5432 -j ACCEPT",
    "-p udp -m udp --sport 1024:65535 -m limit --limit 3/min -j LOG",
)


def test_of_a_table_of_iptables_that_nft_added_to_each_rule_is_told_by_who_knows_it(cabled: Pair) -> None:
    load(cabled, Ruleset("", {}))
    for rule in OF_IPTABLES:
        cabled.here.run("iptables-nft", "-A", "INPUT", *rule.split())
    # iptables-save says of the first of these that it accepts all of TCP
    cabled.here.run("nft", "-f", "-", input=MIXED)
    firewall = read(cabled)
    told = [rule.text for chain in firewall.chains.values() for rule in chain.rules]
    happened = cabled.attempt(tries())
    cabled.here.run("nft", "flush", "ruleset")

    added = ["tcp dport { 80, 443 } accept", "ip saddr 8.8.8.1-8.8.8.9 accept"]
    assert told == [*(f"-A INPUT {rule}" for rule in OF_IPTABLES), *added, told[-2], told[-1]]
    for one, reached in happened.items():
        assert agrees(decide(firewall, packet(one), one.source), reached), one


SETS = """create near hash:net family inet
add near 10.7.0.0/16
add near 198.51.100.0/24
create doors hash:net,port family inet
add doors 10.7.0.0/16,tcp:22
add doors 8.0.0.0/8,udp:5432
create away list:set
add away near
create far hash:net family inet6
add far 2001:db8:9::/48
"""
NAMING = {
    "near": "-m set --match-set near src -j DROP",
    "all but near": "-m set ! --match-set near src -j DROP",
    "doors": "-m set --match-set doors src,dst -j DROP",
    "away": "-m set --match-set away src -j DROP",
}


@pytest.mark.parametrize("program", ["iptables-legacy", "iptables-nft"])
def test_rules_that_name_sets_are_followed_into_them(cabled: Pair, program: str) -> None:
    cabled.here.run("ipset", "restore", "-exist", input=SETS)
    unknown = []
    for about, rule in NAMING.items():
        load(cabled, Ruleset("", {}))
        cabled.here.run(program, "-A", "INPUT", *rule.split())
        if about == "near":
            # not what IPv6 looks for its neighbours with
            far = ("-p", "tcp", *rule.replace("near", "far").split())
            cabled.here.run(program.replace("ip", "ip6", 1), "-A", "INPUT", *far)
        firewall = read(cabled)
        assert firewall.unseen == {}
        for one, reached in cabled.attempt(tries()).items():
            fits = agrees(decide(firewall, packet(one), one.source), reached)
            assert fits is not False, f"{about}: {one} reached: {reached}"
            unknown += [one] if fits is None else []
    assert unknown == []
    for name in ("iptables", "ip6tables"):
        cabled.here.run(f"{name}-legacy-restore", input=EMPTY)
    cabled.here.run("nft", "flush", "ruleset")


def nft_rules(both: Pair, count: int) -> None:
    rules = (f"add rule inet t in ip saddr 1.2.{n >> 8}.{n & 255} counter drop\n" for n in range(count))
    script = "flush ruleset\nadd table inet t\nadd chain inet t in\n" + "".join(rules)
    both.here.run("nft", "-f", "-", input=script)


def restored(both: Pair, program: str, beginning: str, count: int) -> None:
    rules = (f"-A INPUT -s {beginning}{n >> 8:x}{n & 255:02x} -j DROP\n" for n in range(count))
    if ":" not in beginning:
        rules = (f"-A INPUT -s {beginning}{n >> 8}.{n & 255} -j DROP\n" for n in range(count))
    text = "*filter\n:INPUT ACCEPT [0:0]\n" + "".join(rules) + "COMMIT\n"
    both.here.run("nft", "flush", "ruleset")
    both.here.run(f"{program}-restore", input=text)


@pytest.mark.parametrize("kind", ["nft", "iptables-legacy", "ip6tables-legacy", "ip6tables-nft"])
@pytest.mark.parametrize(
    "count",
    [500, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.skipif(not FULL, reason="long")])],
)
def test_a_rule_put_on_top_of_many_is_one_rule_and_its_chain(cabled: Pair, kind: str, count: int) -> None:
    if kind == "nft":
        nft_rules(cabled, count)
    else:
        restored(cabled, kind, "2001:db8::" if kind.startswith("ip6") else "1.2.", count)
    insert = ["nft", "insert rule inet t in tcp dport 22 accept"]
    where = ("-I", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT")

    before = rows(cabled, "t" if kind == "nft" else "filter")
    cabled.here.run(*(insert if kind == "nft" else (kind, *where)))
    after = rows(cabled, "t" if kind == "nft" else "filter")
    for program in ("iptables-legacy-restore", "ip6tables-legacy-restore"):
        cabled.here.run(program, input=EMPTY)

    volatile = FirewallRule.volatile
    steady = [
        {key: row.model_dump(exclude=volatile) for key, row in side.items()} for side in (before, after)
    ]
    changed = {key for key in after if steady[0].get(key) != steady[1][key]}
    assert sorted(key.partition("/")[0] for key in changed) == ["FirewallChain", "FirewallRule"]
    assert before.keys() < after.keys()
    assert sum(key.startswith("FirewallRule/") for key in before) == count


def test_no_rules_and_no_program_and_no_right_are_three_answers(cabled: Pair, tmp_path: Path) -> None:
    cabled.here.run("nft", "flush", "ruleset")
    for program in ("iptables-legacy-restore", "ip6tables-legacy-restore"):
        cabled.here.run(program, input=EMPTY)
    assert rows(cabled) == {}

    without = tmp_path / "bin"
    without.mkdir()
    cabled.here.run("nft", "add table inet t")
    blind = cabled.here.call(
        lambda: read_firewall(Machine(Files(Path("/")), Commands(str(without)), Path("/")))
    )
    assert blind.unseen["nftables"].startswith("the program nft is not installed, so 1 tables")

    argv = [sys.executable, "-c", UNPRIVILEGED]
    said = cabled.here.run("setpriv", "--reuid=65534", "--clear-groups", *argv).stdout
    assert said.startswith("nftables: the rules of nftables may not be read by this user (nft: ")


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A directory that any user may look into; those of pytest are its user's own."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.mark.parametrize(
    "script",
    [
        # nft 0.9.3 does not say that it may not see the rules
        'echo \'{"nftables": [{"metainfo": {"version": "0.9.3"}}]}\'',
        "echo 'Error: JSON support not compiled-in' >&2; exit 1",
    ],
)
def test_an_nft_that_tells_of_no_rules_is_not_believed_by_a_user_who_may_not_see_them(
    cabled: Pair, everybodys: Path, script: str
) -> None:
    (everybodys / "nft").write_text(f"#!/bin/sh\n{script}\n")
    (everybodys / "nft").chmod(0o755)
    cabled.here.run("nft", "flush ruleset")
    commands, root = Commands(f"{everybodys}:{SEARCH_PATH}"), Path("/")
    look = UNPRIVILEGED.replace("Commands()", f"Commands({commands.path!r})")

    def of_root() -> dict[str, str]:
        return cabled.here.call(lambda: read_firewall(Machine(Files(root), commands, root))).unseen

    unprivileged = cabled.here.run("setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c", look)
    assert "nftables: the tables of nftables may not be read by this user" in unprivileged.stdout
    assert of_root() == {}
    cabled.here.run("nft", "add table inet t")
    assert ("so 1 tables" in of_root().get("nftables", "")) == ("exit 1" in script)


OLD = """#!/bin/sh
[ "$*" = -c ] || echo "iptables-save: unrecognized option '$*'" >&2
exec {program} -c
"""


def test_an_iptables_save_that_knows_no_version_is_asked_all_the_same(cabled: Pair, tmp_path: Path) -> None:
    load(cabled, Ruleset("", {}))
    noted = ("-m", "comment", "--comment", "not nf_tables", "-j", "DROP")
    cabled.here.run("iptables-legacy", "-A", "INPUT", *noted)
    (tmp_path / "iptables-save").write_text(OLD.format(program=shutil.which("iptables-legacy-save")))
    (tmp_path / "iptables").write_text("#!/bin/sh\necho 'iptables v1.4.21'\n")
    for program in tmp_path.iterdir():
        program.chmod(0o755)
    for name in ("nft", "ip6tables", "ip6tables-save", "ip6tables-legacy-save"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    root = Path("/")

    firewall = cabled.here.call(lambda: read_firewall(Machine(Files(root), Commands(str(tmp_path)), root)))
    cabled.here.run("iptables-legacy-restore", input=EMPTY)

    told = [rule.comment for chain in firewall.chains.values() for rule in chain.rules]
    assert (told, firewall.unseen) == (["not nf_tables"], {})


NO_NETLINK = """
import ctypes, platform, struct
number = {"x86_64": 41, "aarch64": 198}[platform.machine()]
# of a seccomp filter: socket(AF_NETLINK) is refused as systemd's RestrictAddressFamilies refuses it
code = [(0x20, 0, 0, 0), (0x15, 0, 3, number), (0x20, 0, 0, 16), (0x15, 0, 1, 16)]
code += [(0x06, 0, 0, 0x00050000 | 97), (0x06, 0, 0, 0x7FFF0000)]
rules = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(rules)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program) == 0
"""


def test_where_the_kernel_may_not_be_asked_no_firewall_is_not_the_answer(
    cabled: Pair, tmp_path: Path
) -> None:
    (tmp_path / "nft").write_text('#!/bin/sh\necho \'{"nftables": [{"metainfo": {}}]}\'\n')
    (tmp_path / "nft").chmod(0o755)
    look = UNPRIVILEGED.replace("Commands()", f"Commands('{tmp_path}:{SEARCH_PATH}')")

    said = cabled.here.run(sys.executable, "-c", NO_NETLINK + look).stdout

    assert said.startswith("nftables: the kernel cannot be asked for the tables of nftables")


UNPRIVILEGED = """
from pathlib import Path
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.firewall.reading import read_firewall
for what, why in read_firewall(Machine(Files(Path("/")), Commands(), Path("/"))).unseen.items():
    print(f"{what}: {why}")
"""


def rows(both: Pair, table: str = "t") -> dict[str, Label]:
    """The rows of the namespace itself that the collector brings, by their paths."""
    root = Path("/")
    look = Look(Machine(Files(root), Commands(), root), Settings(), "firewall")
    seen = both.here.call(lambda: list(collect(look)))
    assert look.unobserved == []
    return {
        row.node_id: row
        for row in seen
        if isinstance(row, FirewallChain | FirewallRule) and row.table == table and row.namespace is None
    }
