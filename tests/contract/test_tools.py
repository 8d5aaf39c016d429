"""A walk over every tool."""

import inspect
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchman_mcp.schema import LABELS
from watchman_mcp.tools import INJECTED, ORDER, Tool, load
from watchman_mcp.tools.answers import MAX_BYTES, Answer, Tail, Unseen, compact, fit, size
from watchman_mcp.tools.arguments import SYNONYMS, parameters
from watchman_mcp.tools.packages.answer import Package, PackagesAnswer

each = pytest.mark.parametrize("tool", load(), ids=[tool.name for tool in load()])


def test_the_order_of_tools_names_tools_that_are_there() -> None:
    assert [tool.name for tool in load()][: len(ORDER)] == list(ORDER)
    assert len(load()) <= 22


@each
def test_a_tool_says_what_is_asked_for_and_has_a_title(tool: Tool) -> None:
    text = inspect.getdoc(tool.function) or ""

    assert text.split("\n")[0].endswith((".", "?", ";")) or "\n" in text
    assert text.endswith(".")
    assert tool.title
    assert tool.name == tool.name.lower()
    assert tool.grade in ("observe", "operate")


@each
def test_a_tool_needs_labels_of_the_graph(tool: Tool) -> None:
    assert all(LABELS[label.__name__] is label for label in tool.needs)


@each
def test_a_tool_takes_plain_arguments_with_a_default_that_is_no_null(tool: Tool) -> None:
    for name, (kind, default) in parameters(tool.function).items():
        words = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
        assert kind in (str, int, bool) or words, name
        assert default is not inspect.Parameter.empty
        assert default in words if words else isinstance(default, kind)
        assert all(word == word.lower() for word in words)


@each
def test_an_argument_whose_name_is_not_enough_is_described_in_a_clause(tool: Tool) -> None:
    hints = typing.get_type_hints(tool.function, include_extras=True)
    for name, (kind, _) in parameters(tool.function).items():
        described = [
            extra.description for extra in getattr(hints[name], "__metadata__", ()) if extra.description
        ]
        assert described or typing.get_origin(kind) is typing.Literal, name
        assert all(len(text) <= 120 and not text.endswith(".") for text in described)


@each
def test_an_answer_begins_and_ends_like_every_other(tool: Tool) -> None:
    answer = typing.get_type_hints(tool.function)["return"]

    assert issubclass(answer, Answer)
    assert issubclass(answer, Tail)
    assert (inspect.getdoc(answer) or "").endswith(".")


def test_a_synonym_leads_to_an_argument_and_hides_none() -> None:
    known = {name for tool in load() for name in parameters(tool.function)}

    assert set(SYNONYMS.values()) <= known
    assert not set(INJECTED) & (known | SYNONYMS.keys())


TEXTS = st.builds(
    lambda letter, n: letter * n, st.sampled_from("aé🐧"), st.integers(0, 4_000) | st.integers(0, 60)
)
LISTS = st.none() | st.lists(TEXTS, max_size=31)
PACKAGES = st.builds(
    Package,
    name=TEXTS,
    version=TEXTS,
    manager=TEXTS,
    location=TEXTS,
    summary=TEXTS,
    depends_on=LISTS,
    history=LISTS,
)
UNSEEN = st.builds(Unseen, what=TEXTS, why=TEXTS, fix=TEXTS)


@settings(max_examples=60)
@given(st.lists(PACKAGES, max_size=60), st.lists(UNSEEN, max_size=3), TEXTS)
def test_no_answer_is_longer_than_its_bound_whatever_strangers_wrote(
    packages: list[Package], unseen: list[Unseen], text: str
) -> None:
    page = packages[: fit(packages)]

    answer = compact(
        PackagesAnswer(found="yes", host=text, note=text, items=page, unobserved=unseen, next_cursor="WzFd")
    )

    assert size(answer) <= MAX_BYTES
    assert len(answer["items"]) == len(page)
    assert answer["next_cursor"] == "WzFd"
