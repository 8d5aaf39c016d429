"""No input is too odd for a reader: it tells, counts or refuses, soon and in few words."""

import inspect
import os
import re
import signal
from collections.abc import Callable, Iterator
from importlib import import_module
from pkgutil import walk_packages
from types import FrameType
from typing import Any

import pytest

from tests.fuzz import brought, firewall, kept, network, others, system, trees
from tests.fuzz.conftest import GIVEN
from tests.fuzz.found import FOUND
from tests.fuzz.mutation import Mutator, grown
from tests.fuzz.reading import Reader
from watchman_mcp import machine
from watchman_mcp.errors import WatchmanError

pytestmark = pytest.mark.soak

FULL = os.environ.get("WATCHMAN_TEST_SOAK") == "full"
READERS = (
    *system.READERS,
    *others.READERS,
    *brought.READERS,
    *kept.READERS,
    *trees.READERS,
    *firewall.READERS,
    *network.READERS,
)
INPUTS = 1_000_000 if FULL else 6_000
"""So many inputs, or a few more, are given to all readers together."""
SHAPES = 25 if FULL else 2
"""So many large inputs, each of one piece again and again, are given to each reader."""
LARGE = 100_000
SECONDS = 2.0
"""CPU time that one input may take; a small one takes a ten-thousandth of it."""
ECHO, GROUND = 60, 20_000
"""The size of what comes out, in relation to the input and at least."""
PATHS = frozenset({"Directory", "Files", "Path", "PurePath", "Search", "Commands", "Machine"})
"""What names a file beside a path: such a function opens files and hands their text to a reader."""
TOLD = {
    "apt_history.Transactions.purges",
    "commands.Commands.run",
    "containers.Containers.name",
    "dns_servers.asking.checked",
    "dns_servers.asking.key_of",
    "dns_servers.dnsmasq.at_work",
    "dns_servers.dnsmasq.counts",
    "docker.is_id",
    "docker.short",
    "dpkg.Clock.moment",
    "dpkg_files.read_state",
    "entries.described",
    "files.Directory.directory",
    "files.Directory.read",
    "files.Directory.stream",
    "files.Directory.text",
    "firewall.exposure.version_of",
    "firewall.index.rules_for",
    "firewall.order.orders_of",
    "firewall.reading.read_firewall",
    "flatpak.shown",
    "identity.derived",
    "interfaces.speed",
    "lookup.ask_dns",
    "netlink.number_of",
    "network_namespaces.find",
    "pip_pages.Pages.page",
    "places.Search.entries",
    "places.Search.find",
    "places.Search.holds",
    "places.Search.text",
    "policy_rules.read_rule",
    "python_origins.Origins.manager",
    "rpm.full_version",
    "rpm.without_modules",
    "rpm_changes.kind_of",
    "rpm_database.read_database",
    "running.running",
    "signals.signals",
    "snap.shown",
    "sockets.holders.find",
    "sockets.tables.read",
    "system_bus.object_path",
    "tunnels.strongswan.ask_strongswan",
    "tunnels.vici.ask",
    "unit_files.bare",
    "unit_files.is_alias",
    "unit_files.service_of",
    "unit_files.wanted",
    "versions.rpm.compare_part",
    "versions.rpm.split",
    "versions.semver.key_of",
    "ways.ways",
    "zypp_history.unpacked",
}
"""What parses nothing: it takes a path, a word that was found or a text of our own, finds files or asks."""

each_reader = pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)


class Hangs(BaseException):
    """An input took too long; no reader may catch this."""


@pytest.fixture(autouse=True)
def bell() -> Iterator[None]:
    """Rings for an input that takes too long."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise Hangs

    before = signal.signal(signal.SIGVTALRM, ring)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)


def give(reader: Reader, content: bytes) -> None:
    """One input, and what must be true of what comes of it."""
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        found = reader.read(content)
        assert len(repr(found)) <= ECHO * len(content) + GROUND, "far more comes out than went in"
    except (WatchmanError, *reader.refuses):
        pass
    except BaseException as error:
        error.add_note(f"{reader.name} was given {len(content)} bytes: {content[:3_000]!r}")
        raise


def share(reader: Reader) -> int:
    """How many of all inputs are this reader's."""
    return -int(-INPUTS * reader.share // sum(one.share for one in READERS))


@each_reader
def test_no_input_is_too_odd(reader: Reader, record_property: Callable[[str, object], None]) -> None:
    mutator = Mutator(reader.name, reader.samples, reader.kind)
    for sample in reader.samples:
        give(reader, sample)
    for _ in range(share(reader)):
        give(reader, mutator.next())

    record_property(GIVEN, (reader.name, share(reader)))


@each_reader
def test_a_reader_takes_a_sample(reader: Reader) -> None:
    refused = []
    for sample in reader.samples:
        try:
            reader.read(sample)
        except (WatchmanError, *reader.refuses) as error:
            refused.append(error)

    assert len(refused) < len(reader.samples), f"only damage is damaged further: {refused}"


@each_reader
def test_a_large_input_takes_no_longer_than_its_size(reader: Reader) -> None:
    for number in range(SHAPES):
        give(reader, grown(reader.name, reader.samples, number, LARGE))


@pytest.mark.parametrize("name", FOUND)
def test_an_input_that_was_too_much_once_is_none_any_more(name: str) -> None:
    wanted, content = FOUND[name]
    (reader,) = (reader for reader in READERS if reader.name == wanted)

    give(reader, content)


def test_all_readers_together_get_enough() -> None:
    assert sum(map(share, READERS)) >= INPUTS
    assert len({reader.name for reader in READERS}) == len(READERS)


def takes_text(function: Callable[..., Any]) -> bool:
    """Whether it is given text, lines or a stream, and nothing that opens a file."""
    kinds = [str(one.annotation).strip("'") for one in inspect.signature(function).parameters.values()]
    words = {word for kind in kinds for word in re.findall(r"\w+", kind)}
    alone = {kind.removeprefix("<class '").removesuffix("'>").rpartition(".")[2] for kind in kinds}
    lines = any("Iterable" in kind and re.search(r"\b(Line|str)\b", kind) for kind in kinds)
    return not words & PATHS and (lines or not alone.isdisjoint({"str", "bytes", "FileIO"}))


def functions_of(module: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public functions that a module makes, and those of its public classes."""
    name = module.__name__.removeprefix(f"{machine.__name__}.")
    for word, thing in vars(module).items():
        if word.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(thing):
            for method, function in vars(thing).items():
                function = getattr(function, "__func__", function)
                if not method.startswith("_") and inspect.isfunction(function):
                    yield f"{name}.{word}.{method}", function
        elif callable(thing):
            yield f"{name}.{word}", thing


def test_every_reader_of_the_machine_is_given_odd_inputs() -> None:
    given = {name for reader in READERS for name in (reader.name, *reader.with_)} | TOLD
    found = {
        name
        for module in walk_packages(machine.__path__, f"{machine.__name__}.")
        for name, function in functions_of(import_module(module.name))
        if takes_text(function) or function.__name__.startswith("read_")
    }

    assert found - given == set(), "a reader of text that nobody gives odd inputs: add it to tests/fuzz"
    assert TOLD - found == set(), "no such function takes a text any more"
