"""A walk over every resource and prompt."""

import inspect
import re

import pytest

from watchman_mcp.resources import SCHEME, TABLE, Resource, find, prompts
from watchman_mcp.tools import load
from watchman_mcp.tools.arguments import parameters, understand

TOOLS = {tool.name: tool for tool in load()}
each = pytest.mark.parametrize("resource", TABLE, ids=[resource.address for resource in TABLE])


def test_addresses_differ() -> None:
    assert len({resource.address for resource in TABLE}) == len(TABLE)
    assert len({resource.title for resource in TABLE}) == len(TABLE)


@each
def test_a_resource_says_what_it_is(resource: Resource) -> None:
    assert resource.address.startswith(SCHEME)
    assert resource.title[0].isupper()
    assert resource.says.endswith(".")


@each
def test_a_resource_is_a_tool_s_answer_to_arguments_that_the_tool_takes(resource: Resource) -> None:
    tool = TOOLS[resource.tool]
    known = parameters(tool.function)

    assert tool.grade == "observe"
    assert understand(tool.function, resource.arguments) == resource.arguments
    assert not resource.variable or known[resource.variable][0] is not bool
    assert resource.variable not in resource.arguments


@each
def test_an_address_is_found_by_itself(resource: Resource) -> None:
    found = find(resource.address.replace("{" + resource.variable + "}", "a%20thing"))

    assert found is not None
    assert found[0] is resource
    assert found[1] == resource.arguments | ({resource.variable: "a thing"} if resource.variable else {})


@pytest.mark.parametrize(
    "address", ["", "watchman:/", "watchman://", "watchman://packages/", "watchman://packages/a/b"]
)
def test_what_is_no_address_is_not_found(address: str) -> None:
    assert find(address) is None


@pytest.mark.parametrize("prompt", prompts.ALL, ids=[prompt.__name__ for prompt in prompts.ALL])
def test_a_prompt_names_tools_and_arguments_that_are_there(prompt: object) -> None:
    assert callable(prompt)
    text = prompt(*["vim" for _ in inspect.signature(prompt).parameters])

    assert (inspect.getdoc(prompt) or "").endswith(".")
    called = re.findall(r"(?:Call|then|and) ([a-z_]+)(?: with ((?:\w+=\w+(?: and )?)+))?", text)
    tools = [(name, given) for name, given in called if name in TOOLS]
    assert tools
    for name, given in tools:
        for argument in re.findall(r"(\w+)=", given):
            assert argument in parameters(TOOLS[name].function)
    for word in re.findall(r"\b[a-z]+_[a-z_]+\b", text):
        assert word in TOOLS, word
