"""A walk over every collector."""

import inspect
from collections import Counter
from pathlib import Path

import pytest

from watchman_mcp import collectors
from watchman_mcp.collectors import Collector, load
from watchman_mcp.schema import EDGE_TYPES, LABELS, EdgeType
from watchman_mcp.settings import Settings

WRITTEN_BY_THE_RUNNER = {"Alert", "Event", "CollectorRun"}
SHARED = {"Software", "DEPENDS_ON", "PROVIDES", "OWNS", "PackageIndex"}
"""Owned scope by scope: a scope belongs to the collector that it is named after."""
each = pytest.mark.parametrize("collector", load(), ids=[collector.name for collector in load()])


def names(collector: Collector) -> list[str]:
    return [e.name if isinstance(e, EdgeType) else e.__name__ for e in collector.emits]


def test_every_file_is_a_collector_of_its_name() -> None:
    folder = Path(collectors.__file__).parent

    folders = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert {c.name for c in load()} == ({path.stem for path in folder.glob("*.py")} - {"__init__"}) | folders


@each
def test_a_collector_says_what_it_sees(collector: Collector) -> None:
    module = inspect.getmodule(collector.collect)
    first = (inspect.getdoc(module) or "").splitlines()[0]

    assert first.endswith(".")
    assert collector.collect.__name__ == "collect"


@each
def test_a_collector_emits_what_the_graph_declares(collector: Collector) -> None:
    emitted = names(collector)

    assert emitted
    assert len(set(emitted)) == len(emitted)
    assert set(emitted) <= LABELS.keys() | EDGE_TYPES.keys()
    assert not set(emitted) & WRITTEN_BY_THE_RUNNER


def test_every_label_has_an_owner_and_no_two_share_one_that_is_not_owned_by_scope() -> None:
    owners = Counter(name for collector in load() for name in names(collector))

    assert LABELS.keys() - WRITTEN_BY_THE_RUNNER <= owners.keys()
    assert {name for name, count in owners.items() if count > 1} <= SHARED


@each
def test_a_collector_looks_at_an_interval_and_watches_whole_paths(collector: Collector) -> None:
    assert 1 <= collector.every(Settings()) <= 86_400
    assert all(path.startswith(("/", "netlink:")) for path in collector.watch)
    assert collector.version >= 1


@each
def test_a_feature_that_turns_a_collector_off_is_a_setting(collector: Collector) -> None:
    assert not collector.feature or isinstance(getattr(Settings().features, collector.feature), bool)
