"""The server as clients of both eras of the protocol meet it, in memory."""

import inspect
import json
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import jsonschema
import pytest
from anyio import to_thread
from mcp import Client, MCPError
from mcp.types import PromptReference, ResourceTemplateReference

from tests.story import Story, about, busy_week, package, serving
from watchman_mcp import resources
from watchman_mcp.collectors import Collector, Look, minutes
from watchman_mcp.schema.packages import Software
from watchman_mcp.server import Server
from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools import load
from watchman_mcp.tools.answers import MAX_BYTES, size

pytestmark = pytest.mark.anyio
ERAS = ("auto", "legacy")
HOSTILE = "è\u202e<b>'; DROP TABLE Software; --${HOME} %s {0}"
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("overview", {}),
    ("query_packages", {}),
    ("query_packages", {"name": "package-003"}),
    ("query_packages", {"name": "pakage-003"}),
    ("query_packages", {"since": "7d", "until": "2030-01-01"}),
    ("query_packages", {"manager": "python", "limit": 1}),
    ("what_changed", {"since": "7d"}),
    ("what_changed", {"subject": "package-003", "at": "1h"}),
    ("what_changed", {"since": "2d", "net": True}),
    ("what_changed", {"before": "1h", "subject": "package-003"}),
    ("system_metrics", {}),
    ("system_metrics", {"view": "disks"}),
    ("system_metrics", {"view": "cpu", "since": "2d"}),
    ("system_metrics", {"view": "disks", "chart": True}),
    ("query_graph", {}),
    ("query_graph", {"query": "SELECT key, held, size_bytes FROM Software LIMIT 3"}),
    ("doctor", {}),
    ("doctor", {"area": "python"}),
]


@pytest.fixture(scope="module")
def told_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a busy machine."""
    directory = tmp_path_factory.mktemp("busy")
    store = Store(directory)
    busy_week(store)
    store.close()
    return directory / "watchman.db"


@pytest.fixture
async def server(told_once: Path, tmp_path: Path) -> AsyncIterator[Server]:
    """The server of a busy machine, whose store is the test's own."""
    shutil.copy(told_once, tmp_path)
    store = Store(tmp_path)
    async with serving(store, tmp_path) as one:
        yield one
    store.close()


@pytest.fixture(params=ERAS)
async def client(request: pytest.FixtureRequest, server: Server) -> AsyncIterator[Client]:
    async with Client(server.mcp, mode=request.param, cache=None) as one:
        yield one


async def told(client: Client) -> dict[str, dict[str, Any]]:
    """The list of tools as JSON, by name."""
    tools = (await client.list_tools()).tools
    return {tool.name: tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools}


def walk(node: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value of a JSON document, however deep."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, value
            yield from walk(value)
    elif isinstance(node, list):
        for part in node:
            yield from walk(part)


# The list of tools


async def test_every_tool_has_a_title_all_four_hints_and_its_docstring(client: Client) -> None:
    tools = await told(client)

    assert list(tools) == [tool.name for tool in load()]
    for tool in load():
        shown = tools[tool.name]
        assert shown["title"] == tool.title
        assert shown["description"] == " ".join((inspect.getdoc(tool.function) or "").split())
        assert shown["annotations"] == {
            "readOnlyHint": tool.grade == "observe",
            "destructiveHint": False,
            "idempotentHint": True,
            "openWorldHint": False,
        }


async def test_the_everyday_tools_ask_to_stay_loaded(client: Client) -> None:
    always = {name for name, tool in (await told(client)).items() if "_meta" in tool}

    assert always == {"overview", "query_packages", "network_status", "what_changed"}
    assert (await told(client))["overview"]["_meta"] == {"anthropic/alwaysLoad": True}


async def test_schemas_hold_nothing_that_costs_and_tells_nothing(client: Client) -> None:
    for name, tool in (await told(client)).items():
        schema = tool["inputSchema"]
        keys = {key for key, _ in walk(schema)}
        assert not keys & {"$ref", "$defs", "title", "examples", "anyOf", "oneOf", "allOf"}, name
        assert {"type": "null"} not in [value for _, value in walk(schema)]
        assert "" not in [value for key, value in walk(schema) if key == "default"]
        assert {part["type"] for part in schema["properties"].values()} <= {"string", "integer", "boolean"}
        assert not {key for key, _ in walk(tool["outputSchema"])} & {"$ref", "$defs", "description"}
        assert "required" not in schema


async def test_schemas_are_valid_themselves(client: Client) -> None:
    for tool in (await told(client)).values():
        jsonschema.Draft202012Validator.check_schema(tool["inputSchema"])
        jsonschema.Draft202012Validator.check_schema(tool["outputSchema"])


async def test_the_list_of_tools_stays_within_its_budget(client: Client) -> None:
    tools = await told(client)
    read = {
        name: size({k: t[k] for k in ("name", "description", "inputSchema")}) for name, t in tools.items()
    }
    written = {name: size(tool["outputSchema"]) for name, tool in tools.items()}

    print(f"\nread by a model: {read}, {sum(read.values())} in all; output schemas: {sum(written.values())}")
    assert sum(list(read.values())[:7]) <= 4_500
    assert max(read.values()) <= 1_200
    assert sum(written.values()) <= 40_000


async def test_the_instructions_name_the_machine_and_stay_short(client: Client) -> None:
    text = client.instructions or ""

    print(f"\ninstructions: {len(text.encode())} bytes")
    assert text.startswith("Watchman knows the machine box (Debian GNU/Linux 12 (bookworm))")
    assert "Start with overview" in text
    assert "does not install packages" in text
    assert len(text.encode()) < 2_000


async def test_the_server_tells_its_name_and_version(client: Client) -> None:
    assert (client.server_info.name, client.server_info.version) == ("watchman", "0.1.0")


# Calls


@pytest.mark.parametrize(("tool", "arguments"), CALLS)
async def test_an_answer_is_the_same_in_text_and_structure_as_advertised_and_without_nulls(
    client: Client, tool: str, arguments: dict[str, Any]
) -> None:
    result = await client.call_tool(tool, arguments)

    assert not result.is_error
    [block] = result.content
    assert json.loads(block.text) == result.structured_content
    assert list(result.structured_content)[0] == "found"
    assert len(block.text.encode()) <= MAX_BYTES
    assert [key for key, value in walk(result.structured_content) if value is None] == []
    jsonschema.validate(result.structured_content, (await told(client))[tool]["outputSchema"])


async def test_both_eras_get_the_same_answer(server: Server) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(server.mcp, mode=era, cache=None)) for era in ERAS]
        for tool, arguments in (("overview", {}), ("query_packages", {"name": "package-001"})):
            modern, legacy = [(await one.call_tool(tool, arguments)).structured_content for one in clients]
            assert modern == legacy
        assert await told(clients[0]) == await told(clients[1])


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"Manager": "PIP", "hours": 24}, "none"),
        ({"manager": "null", "package": "package-003"}, "yes"),
        ({"view": "Installed", "limit": "2"}, "yes"),
        ({"view": ["history"], "days": 7}, "yes"),
        ({"package_name": ["requests"]}, "yes"),
    ],
)
async def test_arguments_are_taken_as_models_write_them(
    client: Client, arguments: dict[str, Any], found: str
) -> None:
    result = await client.call_tool("query_packages", arguments)

    assert not result.is_error
    assert result.structured_content["found"] == found


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        (
            "query_packages",
            {"colour": "red"},
            "unknown argument 'colour'; query_packages takes: name, view, manager",
        ),
        ("query_packages", {"view": "x"}, "'view' cannot be 'x'; use one of: auto, installed, history"),
        ("query_packages", {"since": "lately"}, "'lately' is not a time; accepted: "),
        ("query_packages", {"since": "1h", "until": "2h"}, "is after until"),
        ("query_packages", {"cursor": "x"}, "cursor is not one of mine"),
        ("overview", {"view": "x"}, "unknown argument 'view'; overview takes: none"),
        ("query_graph", {"query": "SELECT nme FROM Software"}, "Software has seq, id, key, name"),
        ("doctor", {"area": "moon"}, "area 'moon' is not known; areas: apt"),
        ("scan", {"area": "moon"}, "area 'moon' is not known; areas: apt"),
        ("list_packages", {}, "there is no tool 'list_packages'; the tools are: overview, query_packages"),
        ("what_changed", {"store": "x"}, "unknown argument 'store'"),
    ],
)
async def test_what_cannot_be_answered_is_refused_in_one_line_that_says_what_can(
    client: Client, tool: str, arguments: dict[str, Any], says: str
) -> None:
    result = await client.call_tool(tool, arguments)

    assert result.is_error
    [block] = result.content
    assert says in block.text
    assert "\n" not in block.text
    assert result.structured_content is None


async def test_a_store_that_cannot_be_read_is_told_in_one_line(client: Client, server: Server) -> None:
    server.store.change(lambda db: db.execute("DROP TABLE Software"))

    result = await client.call_tool("query_packages", {})

    assert result.is_error
    assert result.content[0].text.endswith(
        "the store cannot be read: no such table: Software; `doctor` names its file"
    )


async def test_a_fault_of_our_own_reveals_nothing(store: Store, tmp_path: Path, caplog: Any) -> None:
    def clients() -> int:
        raise OSError("/etc/secret: permission denied")

    async with serving(store, tmp_path) as server:
        server.about = about(clients=clients)
        for era in ERAS:
            async with Client(server.mcp, mode=era, cache=None) as client:
                result = await client.call_tool("doctor", {})
                assert (result.is_error, result.content[0].text) == (True, "Error executing tool doctor")
                assert not (await client.call_tool("query_graph", {})).is_error


async def test_names_from_strangers_come_back_as_data(store: Store, tmp_path: Path) -> None:
    story = Story(store)
    story.look(60, [package("odd", HOSTILE, summary=HOSTILE, location=HOSTILE)])

    async with serving(store, tmp_path) as server, Client(server.mcp, cache=None) as client:
        result = await client.call_tool("query_packages", {"name": "odd"})
        assert result.structured_content["items"][0]["summary"] == HOSTILE
        assert (await client.call_tool("query_packages", {"name": HOSTILE})).structured_content["found"]
        assert (await client.call_tool("query_packages", {"name": "odd"})).structured_content[
            "found"
        ] == "yes"


async def test_calls_run_side_by_side_and_none_is_left_in_flight(client: Client, server: Server) -> None:
    answers: list[Any] = []

    async def ask(tool: str, arguments: dict[str, Any]) -> None:
        answers.append(await client.call_tool(tool, arguments))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for tool, arguments in CALLS * 3:
                tasks.start_soon(ask, tool, arguments)

    assert len(answers) == 3 * len(CALLS)
    assert not any(answer.is_error for answer in answers)
    assert server.in_flight == 0


async def test_the_first_question_waits_for_the_first_look_of_what_it_needs(
    store: Store, tmp_path: Path
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    def collect(_look: Look) -> Iterator[Software]:
        begun.set()
        assert go_on.wait(10)
        yield package("vim")

    slow = Collector(collect, (Software,), minutes(60), name="apt")
    async with serving(store, tmp_path, slow) as server, Client(server.mcp, cache=None) as client:

        async def ask() -> None:
            result = await client.call_tool("query_packages", {"name": "vim"})
            order.append(f"answered {result.structured_content['found']}")

        with anyio.fail_after(20):
            async with anyio.create_task_group() as asking:
                asking.start_soon(ask)
                await to_thread.run_sync(begun.wait, 10)
                assert (await client.call_tool("query_graph", {})).structured_content["found"] == "yes"
                order.append("looked")
                go_on.set()

    assert order == ["looked", "answered yes"]


async def test_a_scan_looks_again_and_tells_what_came_of_it(store: Store, tmp_path: Path) -> None:
    names = ["vim"]
    apt = Collector(lambda _look: map(package, names), (Software,), minutes(60), name="apt")

    async with serving(store, tmp_path, apt) as server, Client(server.mcp, cache=None) as client:
        assert (await client.call_tool("query_packages", {"name": "nano"})).structured_content[
            "found"
        ] == "not_installed"
        names.append("nano")
        looked = (await client.call_tool("scan", {"area": "apt"})).structured_content["looked"]
        assert looked["apt"].startswith("ok, 2 rows in ")
        assert (await client.call_tool("query_packages", {"name": "nano"})).structured_content[
            "found"
        ] == "yes"


# Resources


async def test_every_address_is_listed_with_a_title_and_what_it_says(client: Client) -> None:
    plain = {str(one.uri): one for one in (await client.list_resources()).resources}
    forms = {one.uri_template: one for one in (await client.list_resource_templates()).resource_templates}

    assert [*plain] == [one.address for one in resources.TABLE if not one.variable]
    assert [*forms] == [one.address for one in resources.TABLE if one.variable]
    for one in resources.TABLE:
        shown = (plain | forms)[one.address]
        assert (shown.title, shown.description, shown.mime_type) == (one.title, one.says, "application/json")


@pytest.mark.parametrize(
    ("address", "tool", "arguments"),
    [
        ("watchman://overview", "overview", {}),
        ("watchman://packages", "query_packages", {}),
        ("watchman://packages/history", "query_packages", {"view": "history"}),
        ("watchman://packages/package-003", "query_packages", {"name": "package-003"}),
        ("watchman://packages/package%2D003", "query_packages", {"name": "package-003"}),
        ("watchman://packages/package-00%3F", "query_packages", {"name": "package-00?"}),
        ("watchman://packages/a%2F..%2Fb", "query_packages", {"name": "a/../b"}),
        ("watchman://metrics", "system_metrics", {}),
        ("watchman://metrics/CPU", "system_metrics", {"view": "cpu"}),
        ("watchman://changes", "what_changed", {}),
        ("watchman://changes/package-003", "what_changed", {"subject": "package-003", "since": "365d"}),
        ("watchman://graph/schema", "query_graph", {}),
        ("watchman://doctor", "doctor", {}),
    ],
)
async def test_an_address_reads_as_the_tool_s_answer(
    client: Client, address: str, tool: str, arguments: dict[str, Any]
) -> None:
    [content] = (await client.read_resource(address)).contents
    answer = (await client.call_tool(tool, arguments)).structured_content

    assert content.mime_type == "application/json"
    read = json.loads(content.text)
    for window in (read.get("window"), answer.get("window")):
        if window:  # the two were asked one moment after the other
            window.clear()
    assert read == answer


@pytest.mark.parametrize("name", ["null", "none", "undefined", "%22", "*", "%F0%9F%90%A7", "%ff", "%5B"])
async def test_an_address_names_one_thing_whatever_it_is_called(client: Client, name: str) -> None:
    [content] = (await client.read_resource(f"watchman://packages/{name}")).contents

    assert json.loads(content.text)["found"] == ("yes" if name == "*" else "not_installed")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("watchman://nothing", "there is no resource 'watchman://nothing'; addresses: watchman://overview, "),
        ("watchman://packages/", "addresses: watchman://overview, watchman://packages, "),
        ("watchman://packages/a/b", "addresses: "),
        ("file:///etc/passwd", "addresses: "),
        ("watchman://metrics/fire", "'view' cannot be 'fire'; use one of: summary, cpu, memory, disks"),
        ("watchman://metrics/null", "'view' cannot be 'null'; use one of: summary, cpu"),
        ("watchman://packages/..", "Unknown resource"),
        ("watchman://packages/%00", "Unknown resource"),
        (f"watchman://packages/{'x' * 5000}", "'name' is 5000 characters long; 1000 are the most"),
    ],
)
async def test_an_address_that_names_nothing_is_an_error_of_the_protocol_that_says_what_does(
    client: Client, address: str, says: str
) -> None:
    with pytest.raises(MCPError) as refused:
        await client.read_resource(address)

    assert refused.value.error.code == -32602
    assert says in refused.value.error.message
    assert len(refused.value.error.message) < 600


async def test_a_store_that_cannot_be_read_is_an_error_of_the_resource(
    client: Client, server: Server
) -> None:
    server.store.change(lambda db: db.execute("DROP TABLE Software"))

    with pytest.raises(MCPError) as refused:
        await client.read_resource("watchman://packages/vim")

    assert refused.value.error.code == -32603
    assert "the store cannot be read" in refused.value.error.message


# Prompts and completions


async def test_prompts_say_which_tools_to_call(client: Client) -> None:
    prompts = {one.name: one for one in (await client.list_prompts()).prompts}

    assert prompts.keys() == {"morning_report", "explain_change"}
    assert all(one.description for one in prompts.values())
    text = (await client.get_prompt("explain_change", {"subject": "nginx"})).messages[0].content.text
    assert "what_changed with subject=nginx" in text
    text = (await client.get_prompt("morning_report")).messages[0].content.text
    assert "Call overview" in text


@pytest.mark.parametrize(
    ("address", "argument", "value", "found"),
    [
        ("watchman://packages/{name}", "name", "package-01", [f"package-01{n}" for n in range(10)]),
        ("watchman://packages/{name}", "name", "REQ", ["requests"]),
        ("watchman://packages/{name}", "name", "%", []),
        ("watchman://changes/{subject}", "subject", "py", ["pyyaml"]),
        (
            "watchman://metrics/{view}",
            "view",
            "",
            ["summary", "cpu", "memory", "disks", "io", "network", "processes"],
        ),
        ("watchman://metrics/{view}", "view", "M", ["memory"]),
        ("watchman://nothing/{x}", "x", "", []),
    ],
)
async def test_values_in_addresses_are_completed(
    client: Client, address: str, argument: str, value: str, found: list[str]
) -> None:
    reference = ResourceTemplateReference(type="ref/resource", uri=address)

    result = await client.complete(reference, {"name": argument, "value": value})

    assert result.completion.values == found


async def test_a_prompt_s_subject_is_completed_and_a_long_list_says_that_it_goes_on(client: Client) -> None:
    reference = PromptReference(type="ref/prompt", name="explain_change")

    result = await client.complete(reference, {"name": "subject", "value": "package"})

    assert len(result.completion.values) == 100
    assert result.completion.has_more
