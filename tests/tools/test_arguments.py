"""Arguments as models write them, in the words of the tools."""

from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from watchman_mcp.errors import InvalidRequest
from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools import load
from watchman_mcp.tools.arguments import parameters, understand


def ask(
    store: Store,
    name: Annotated[str, Field()] = "",
    view: Literal["auto", "installed", "history"] = "auto",
    kind: Literal["any", "package", "host"] = "any",
    manager: str = "",
    since: str = "",
    net: bool = False,
    limit: int = 50,
) -> None:
    """A tool with an argument of every kind."""


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ({}, {}),
        ({"name": "nginx"}, {"name": "nginx"}),
        ({"name": "  "}, {}),
        ({"name": " nginx "}, {"name": "nginx"}),
        ({"Name": "nginx"}, {"name": "nginx"}),
        ({"package": "nginx"}, {"name": "nginx"}),
        ({"package-name": "nginx"}, {"name": "nginx"}),
        ({"Manager": "PIP"}, {"manager": "PIP"}),
        ({"manager": "null"}, {}),
        ({"manager": None}, {}),
        ({"manager": "None"}, {}),
        ({"manager": ["pip"]}, {"manager": "pip"}),
        ({"manager": '["pip"]'}, {"manager": "pip"}),
        ({"manager": '"pip"'}, {"manager": "pip"}),
        ({"name": "[a-c]*"}, {"name": "[a-c]*"}),
        ({"name": 7}, {"name": "7"}),
        ({"view": "History"}, {"view": "history"}),
        ({"view": ["history"]}, {"view": "history"}),
        ({"view": '["history"]'}, {"view": "history"}),
        ({"view": ""}, {}),
        ({"kind": "packages"}, {"kind": "package"}),
        ({"kind": "all"}, {}),
        ({"type": "HOST"}, {"kind": "host"}),
        ({"hours": 24}, {"since": "86400s"}),
        ({"hours": "24"}, {"since": "86400s"}),
        ({"hours": 1.5}, {"since": "5400s"}),
        ({"days": 7.0}, {"since": "604800s"}),
        ({"hours": None}, {}),
        ({"start_time": "yesterday 18:00"}, {"since": "yesterday 18:00"}),
        ({"limit": "20"}, {"limit": 20}),
        ({"limit": 20.0}, {"limit": 20}),
        ({"max_results": 5}, {"limit": 5}),
        ({"limit": "null"}, {}),
        ({"limit": ""}, {}),
        ({"limit": 10**400}, None),
        ({"net": "true"}, {"net": True}),
        ({"net": "No"}, {}),
        ({"net": 1}, {"net": True}),
    ],
)
def test_what_models_write_is_understood(given: dict[str, Any], understood: dict[str, Any] | None) -> None:
    if understood is None:
        with pytest.raises(InvalidRequest, match="whole number"):
            understand(ask, given)
    else:
        assert understand(ask, given) == understood


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"colour": "red"},
            "unknown argument 'colour'; ask takes: name, view, kind, manager, since, net, limit",
        ),
        ({"store": "x"}, "unknown argument 'store'; ask takes: name, view, kind, manager, since, net, limit"),
        ({"view": "hstory"}, "'view' cannot be 'hstory'; use one of: auto, installed, history"),
        ({"net": "maybe"}, "'net' is true or false, not 'maybe'"),
        ({"limit": "many"}, "'limit' is a whole number, not 'many'"),
        ({"limit": float("nan")}, "'limit' is a whole number, not 'nan'"),
        ({"limit": float("inf")}, "'limit' is a whole number, not 'inf'"),
        ({"limit": "[" * 5000}, f"'limit' is a whole number, not '{'[' * 40}'"),
        ({"kind": "a\nb"}, "'kind' cannot be 'a?b'; use one of: any, package, host"),
        ({"manager": ["apt", "pip"]}, "'manager' takes one value, not 2; call once for each"),
        ({"manager": []}, "'manager' takes one value, not 0; call once for each"),
        ({"manager": {"is": "apt"}}, "'manager' takes a plain value, not an object"),
        ({"since": "1d", "hours": 24}, "'since' is given twice, once as 'hours'"),
        ({"name": "x" * 1001}, "'name' is 1001 characters long; 1000 are the most"),
        ({"name": "\ud800"}, "'name' holds half a character (a lone surrogate); send whole ones"),
    ],
)
def test_what_cannot_be_understood_is_refused_in_one_line_that_says_what_can(
    given: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        understand(ask, given)

    assert str(refused.value) == says
    assert "\n" not in says


def test_what_the_server_gives_is_no_argument() -> None:
    assert list(parameters(ask)) == ["name", "view", "kind", "manager", "since", "net", "limit"]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.sampled_from(["null", "[1]", '["x"]', '"', "*", "24h"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = sorted(
    {name for tool in load() for name in parameters(tool.function)}
    | {"hours", "package", "start", "count", "type", "x"}
)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4))
def test_whatever_is_given_is_understood_or_refused_in_one_line(given: dict[str, Any]) -> None:
    for tool in load():
        try:
            understood = understand(tool.function, given)
        except InvalidRequest as refused:
            assert str(refused).isprintable()
            assert len(str(refused)) < 600
            continue
        for name, value in understood.items():
            kind = parameters(tool.function)[name][0]
            assert value in getattr(kind, "__args__", (value,))
            assert kind not in (str, int, bool) or type(value) is kind
