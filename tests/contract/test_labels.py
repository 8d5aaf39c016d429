"""A walk over every label and relationship of the graph."""

import inspect
import typing
from datetime import UTC, datetime
from typing import Any

import pytest

from watchman_mcp.schema import EDGE_TYPES, LABELS, Label, path_of
from watchman_mcp.schema.base import RESERVED, scalar
from watchman_mcp.store.tables import table
from watchman_mcp.tools.changes import what_changed
from watchman_mcp.tools.changes.source import KINDS

WITHOUT_EVENTS = {"Event", "CollectorRun"}
"""What happens to these is no event: they tell of others."""
labels = pytest.mark.parametrize("label", LABELS.values(), ids=list(LABELS))


def sample(label: type[Label]) -> dict[str, Any]:
    """Properties of a node, one value of the right type for each."""
    now = datetime(2026, 3, 1, tzinfo=UTC)
    values: dict[type, Any] = {str: "a b/c%", int: 7, float: 7.5, bool: True, datetime: now}
    kinds = {name: scalar(field.annotation) for name, field in label.model_fields.items()}
    return {name: [values[kind[0]]] if kind[1] else values[kind[0]] for name, kind in kinds.items() if kind}


@labels
def test_a_label_says_what_it_is_in_a_sentence(label: type[Label]) -> None:
    first = (inspect.getdoc(label) or "").splitlines()[0]

    assert first.endswith(".")
    assert first[0].isupper()
    assert label.__name__[0].isupper()
    assert label.__name__.isalpha()


@labels
def test_every_property_says_what_it_is_in_sentences(label: type[Label]) -> None:
    for name, field in label.model_fields.items():
        assert field.description
        assert field.description.endswith("."), name
        assert name == name.lower()
        assert name not in RESERVED


@labels
def test_a_label_keeps_every_property_it_declares(label: type[Label]) -> None:
    values = sample(label)
    kept = table(label.__name__)

    assert {column.name for column in kept.columns} == label.model_fields.keys()
    node = label(**values)
    encoded = dict(zip((column.name for column in kept.columns), kept.encode(node.__dict__), strict=True))
    assert kept.decode(encoded) == node.__dict__


@labels
def test_an_id_begins_with_the_label_and_holds_no_space(label: type[Label]) -> None:
    values = sample(label)
    path = label(**values).node_id

    assert path == path_of(label, *[values[name] for name in label.identity])
    assert path.startswith(f"{label.__name__}/")
    assert " " not in path
    assert path.count("/") == len(label.identity)


@labels
def test_the_word_of_a_label_s_events_is_a_kind_that_can_be_asked_for(label: type[Label]) -> None:
    if label.series is not None or label.__name__ in WITHOUT_EVENTS:
        assert label.word == ""
        return
    values = sample(label)

    told = {label.event_type(*sides) for sides in ((None, values), (values, None), (values, values))}

    (kind,) = [kind for kind, words in KINDS.items() if f"{label.word}_" in words]
    assert kind in typing.get_args(typing.get_type_hints(what_changed)["kind"])
    assert {kind.partition("_")[0] for kind in told} == {label.word}


@labels
def test_an_event_of_a_label_names_its_subject_with_properties_that_events_have(label: type[Label]) -> None:
    values = sample(label)

    event = label.event_values(None, values)

    assert event["subject"]
    assert event.keys() <= LABELS["Event"].model_fields.keys()


@pytest.mark.parametrize("edge", EDGE_TYPES.values(), ids=list(EDGE_TYPES))
def test_a_relationship_has_declared_ends_and_a_sentence(edge: Any) -> None:
    assert edge.name == edge.name.upper()
    assert edge.says.endswith(".")
    for end in (*edge.start, *edge.end):
        assert end is Label or LABELS[end.__name__] is end
