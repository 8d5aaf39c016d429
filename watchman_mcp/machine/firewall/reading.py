"""Reads the firewall of the running machine: nftables, and the iptables of the legacy kind beside it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from errno import EINVAL, EPERM, EPROTONOSUPPORT
from threading import get_native_id

from watchman_mcp.errors import Absent, Broken, Denied, WatchmanError
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Output
from watchman_mcp.machine.firewall import nft
from watchman_mcp.machine.firewall.ipset import IpSets, read_sets
from watchman_mcp.machine.firewall.iptables import read_save
from watchman_mcp.machine.firewall.model import IP6TABLES, IPTABLES, NFTABLES, Chain, ChainId, Firewall
from watchman_mcp.machine.firewall.nft_devices import read_devices

OUTPUT_CAP = 512 << 20
SECONDS = 60.0
_LEGACY = (
    (IPTABLES, "ip", "iptables", "ip_tables_names"),
    (IP6TABLES, "ip6", "ip6tables", "ip6_tables_names"),
)
_NAMES = {"ip": "iptables", "ip6": "ip6tables"}


def read_firewall(machine: Machine, namespace: str | None = None) -> Firewall:
    """All chains and rules of the network namespace of this thread; `unseen` names what could not be read.

    `namespace` is what it is called, where it is not the process's own.

    Raises: Absent on a machine that is not the running one.
    """
    if not machine.live:
        raise Absent("a firewall is in the kernel; only that of the running machine can be read")
    firewall = Firewall(namespace=namespace)
    there = _nftables(machine, firewall)
    for backend, family, program, names in _LEGACY:
        there = _legacy(machine, firewall, backend, family, program, names) or there
    firewall.absent = not there
    return firewall


def _nftables(machine: Machine, firewall: Firewall) -> bool:
    """Read what nftables has; whether there is anything, or a program that could put it there."""
    try:
        chains, unread = nft.read_ruleset(_output(machine, NFTABLES, ["nft", "-j", "list", "ruleset"]))
        if not chains:
            # nft 0.9.3 tells users who may not see the rules that there are none
            kernel_tables()
    except Absent:
        return _without_nft(firewall, "the program nft is not installed")
    except Denied as error:
        firewall.unseen[NFTABLES] = str(error)
        return True
    except WatchmanError as error:
        # such as of an nft that cannot write JSON; where the kernel has no table nothing is lost by it
        _without_nft(firewall, str(error))
        return True
    if unread:
        firewall.unseen[NFTABLES] = f"{unread} parts of nft's answer cannot be read and were left out"
    for family, tables in nft.of_iptables(chains).items():
        told = _told(machine, family)
        nft.told_by_iptables(chains, told, family, tables)
    _name_devices(machine, chains.values())
    firewall.add(chains)
    return True


def _name_devices(machine: Machine, chains: Iterable[Chain]) -> None:
    """Say of chains at an ingress which devices they are at; of one that stays without it is not known."""
    nameless = [chain for chain in chains if chain.hook == "ingress" and not chain.devices]
    if nameless:
        with suppress(WatchmanError):
            devices = read_devices(_output(machine, NFTABLES, ["nft", "list", "chains"]))
            for chain in nameless:
                chain.devices = devices.get(chain.id, ())


def _told(machine: Machine, family: str) -> dict[ChainId, Chain]:
    """What iptables says of the tables that it made in nftables; nothing where it cannot be asked.

    nft does not tell all conditions of such rules; without this answer these stay unknown.
    """
    for program in (f"{_NAMES[family]}-nft-save", f"{_NAMES[family]}-save"):
        try:
            if program.endswith("-nft-save") or "nf_tables" in _version(machine, program):
                text = _output(machine, NFTABLES, [program, "-c"])
                return read_save(text, NFTABLES, family, _sets(machine, text))[0]
        except WatchmanError:
            continue
    return {}


def _sets(machine: Machine, text: str) -> IpSets | None:
    """The sets that these rules name; nothing where one may be told wrong: the rules stay unknown then."""
    if "-set " not in text:
        return None
    try:
        sets, unread = read_sets(_output(machine, "ipset", ["ipset", "save"]))
    except WatchmanError:
        return None
    return None if unread else sets


def _version(machine: Machine, program: str) -> str:
    # before 1.8 iptables-save itself does not know the question and saves instead
    return machine.commands.run([program.removesuffix("-save"), "--version"]).stdout


def _without_nft(firewall: Firewall, why: str) -> bool:
    """Whether the kernel has a table of nftables, or may have one; says why that cannot be read then."""
    try:
        tables = kernel_tables()
    except WatchmanError as error:
        firewall.unseen[NFTABLES] = str(error)
        return True
    if tables:
        firewall.unseen[NFTABLES] = f"{why}, so {tables} tables of the kernel cannot be read"
    return bool(tables)


def kernel_tables() -> int:
    """How many tables of nftables the kernel has.

    Raises: Denied, Broken.
    """
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.nftables.main import NFTables

    try:
        with NFTables(nfgen_family=0) as kernel:
            return len(list(kernel.get_tables()))
    except NetlinkError as error:
        if error.code == EPERM:
            raise Denied("the tables of nftables may not be read by this user") from error
        if error.code == EINVAL:
            # a kernel with netfilter's sockets and without nftables
            return 0
        raise Broken(f"the kernel does not tell the tables of nftables: {error}") from error
    except OSError as error:
        if isinstance(error, PermissionError):
            raise Denied("the tables of nftables may not be read by this user") from error
        if error.errno == EPROTONOSUPPORT:
            # a kernel without nftables has no such socket, so no tables
            return 0
        # such as of a service that may not have sockets of this family; nft tells of no rules then
        raise Broken(f"the kernel cannot be asked for the tables of nftables: {error}") from error


def _legacy(
    machine: Machine, firewall: Firewall, backend: str, family: str, program: str, names: str
) -> bool:
    """Read the rules of a legacy iptables, where the kernel has any table of it."""
    try:
        # that of this thread; /proc/thread-self is not in kernels before 3.17, such as that of CentOS 7
        tables = machine.files.text(f"/proc/self/task/{get_native_id()}/net/{names}").split()
        if not tables:
            return False
        text = _legacy_save(machine, backend, program)
        chains, unread = read_save(text, backend, family, _sets(machine, text))
    except Absent:
        return False
    except WatchmanError as error:
        firewall.unseen[backend] = str(error)
        return True
    if unread:
        firewall.unseen[backend] = f"{unread} lines of {program}-save cannot be read"
    missing = set(tables) - {chain.table for chain in chains}
    if missing:
        firewall.unseen[backend] = f"{program}-save does not tell of the tables {', '.join(sorted(missing))}"
    firewall.add(chains)
    return True


def _legacy_save(machine: Machine, backend: str, program: str) -> str:
    for name in (f"{program}-legacy-save", f"{program}-save"):
        try:
            if name.endswith("-legacy-save") or "nf_tables" not in _version(machine, name):
                return _output(machine, backend, [name, "-c"])
        except Absent:
            continue
    raise Broken(f"the kernel has rules of the legacy {program}; {program}-legacy-save is not installed")


def _output(machine: Machine, what: str, argv: list[str]) -> str:
    """What a command prints.

    Raises: Absent, Denied, Broken.
    """
    done: Output = machine.commands.run(argv, timeout=SECONDS, output_cap=OUTPUT_CAP)
    if done.code == 0:
        return done.stdout
    said = done.stderr.strip().split("\n")[-1][:200]
    if "not permitted" in done.stderr or "ermission denied" in done.stderr or "must be root" in done.stderr:
        raise Denied(f"the rules of {what} may not be read by this user ({argv[0]}: {said})")
    raise Broken(f"{argv[0]} ended with {done.code}: {said}; run it by hand to see why")
