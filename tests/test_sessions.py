"""Sessions on a socket: whatever a client writes gets a clear answer, and harms neither it nor others."""

import json
import os
import random
import socket
import string
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import UNIXSocketStream

from tests.story import LOOKS_FOR, busy_week, nothing_there, serving
from tests.wire import HELLO, META, Line, connected, until
from watchman_mcp import sessions
from watchman_mcp.server import Server
from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools import load
from watchman_mcp.tools.arguments import parameters

pytestmark = pytest.mark.anyio
ERAS = pytest.mark.parametrize("modern", [True, False], ids=["2026", "handshake"])
SEED = int(os.environ.get("WATCHMAN_TEST_SEED", "20"))
ENDED = (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError)
PARSE_ERROR, INVALID_REQUEST, NO_METHOD, INVALID_PARAMS = -32700, -32600, -32601, -32602


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("busy")


@pytest.fixture(scope="module")
def store(directory: Path) -> Iterator[Store]:
    opened = Store(directory)
    busy_week(opened)
    yield opened
    opened.close()


@pytest.fixture
async def server(store: Store, directory: Path) -> AsyncIterator[Server]:
    async with serving(store, directory, *map(nothing_there, LOOKS_FOR)) as one:
        yield one


async def works(line: Line) -> None:
    """The session answers a question."""
    answer = await line.ask("tools/call", name="query_packages", arguments={"name": "package-001"})
    assert answer["result"]["structuredContent"]["found"] == "yes"


MALFORMED = [
    (b"hello", PARSE_ERROR, None),
    (b"{", PARSE_ERROR, None),
    (b"\xff\xfe\x00", PARSE_ERROR, None),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\xff"}}', PARSE_ERROR, None),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping"', PARSE_ERROR, None),
    (b"[" * 100_000, PARSE_ERROR, None),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b'{"a":' * 50_000, PARSE_ERROR, None),
    (b'{"jsonrpc":"2.0","id":' + b"9" * 5000 + b',"method":"ping"}', PARSE_ERROR, None),
    (b"null", INVALID_REQUEST, None),
    (b"7", INVALID_REQUEST, None),
    (b'"ping"', INVALID_REQUEST, None),
    (b"[]", INVALID_REQUEST, None),
    (
        b'[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"ping"}]',
        INVALID_REQUEST,
        None,
    ),
    (b"{}", INVALID_REQUEST, None),
    (b'{"jsonrpc":"1.0","id":"a","method":"ping"}', INVALID_REQUEST, "a"),
    (b'{"jsonrpc":2.0,"id":"b","method":"ping"}', INVALID_REQUEST, "b"),
    (b'{"id":"c","method":"ping"}', INVALID_REQUEST, "c"),
    (b'{"jsonrpc":"2.0","id":"d"}', INVALID_REQUEST, "d"),
    (b'{"jsonrpc":"2.0","id":"e","method":7}', INVALID_REQUEST, "e"),
    (b'{"jsonrpc":"2.0","id":"f","method":null}', INVALID_REQUEST, "f"),
    (b'{"jsonrpc":"2.0","id":"g","method":"ping","params":[1]}', INVALID_REQUEST, "g"),
    (b'{"jsonrpc":"2.0","id":"h","method":"ping","params":"x"}', INVALID_REQUEST, "h"),
    (b'{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}', INVALID_REQUEST, "\ud800"),
    (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', INVALID_REQUEST, None),
    (b'{"jsonrpc":"2.0","id":[1],"method":"ping"}', INVALID_REQUEST, None),
    (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', INVALID_REQUEST, None),
    (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', INVALID_REQUEST, None),
    (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', INVALID_REQUEST, None),
]


@ERAS
@pytest.mark.parametrize(
    ("written", "code", "number"), MALFORMED, ids=[str(n) for n in range(len(MALFORMED))]
)
async def test_a_line_that_is_no_message_gets_one_error_and_the_session_lives_on(
    server: Server, modern: bool, written: bytes, code: int, number: str | None
) -> None:
    async with anyio.create_task_group() as tasks, connected(server, tasks, modern=modern) as line:
        await line.write(written + b"\n")

        error = await line.read()
        assert (error["error"]["code"], error["id"]) == (code, number)
        assert 0 < len(error["error"]["message"]) < 300
        await works(line)


async def test_garbage_before_the_first_request_decides_nothing(server: Server) -> None:
    async with anyio.create_task_group() as tasks, connected(server, tasks, modern=True) as line:
        for _ in range(20):
            await line.write(b"garbage\n\n  \n")
            assert (await line.read())["error"]["code"] == PARSE_ERROR
        line.modern = False
        assert (await line.ask("initialize", **HELLO))["result"]["serverInfo"]["name"] == "watchman"
        await line.send(method="notifications/initialized")
        await works(line)


@pytest.mark.parametrize(
    "message",
    [
        {"method": "notifications/no/such"},
        {"method": "notifications/cancelled", "params": {"requestId": 999}},
        {"method": "notifications/cancelled", "params": {"requestId": {"a": 1}}},
        {"method": "notifications/cancelled"},
        {"method": "notifications/progress", "params": {"progressToken": "x", "progress": "y"}},
        {"method": "tools/call", "params": {"name": "scan"}},
        {"id": 99, "result": {}},
        {"id": "nobody", "error": {"code": -1, "message": "x"}},
    ],
)
@ERAS
async def test_what_wants_no_answer_gets_none(server: Server, modern: bool, message: dict[str, Any]) -> None:
    async with anyio.create_task_group() as tasks, connected(server, tasks, modern=modern) as line:
        await line.send(**message)
        number = await line.request("tools/list")

        assert (await line.read())["id"] == number


def odd_value(chance: random.Random, depth: int = 0) -> Any:
    """A value of any type, half of them hostile to whoever expects another."""
    plain: list[Any] = [
        None,
        True,
        False,
        0,
        -1,
        2**63,
        -(10**30),
        1.5,
        float("nan"),
        float("inf"),
        -float("inf"),
        1e308,
        "",
        " ",
        "null",
        "undefined",
        "\x00",
        "\n",
        "'; DROP TABLE Event; --",
        "%s%n{0}",
        "../../etc/passwd",
        "24h",
        "\u202e",
        "🐧" * 50,
        "x" * chance.randint(100, 5000),
        "*" * 900,
        "[" * 400,
        "2026-02-30",
        "99999999d",
        "".join(chance.choice(string.printable) for _ in range(30)),
    ]
    if depth < 3 and chance.random() < 0.25:
        return [odd_value(chance, depth + 1) for _ in range(chance.randint(0, 3))]
    if depth < 3 and chance.random() < 0.1:
        return {str(odd_value(chance, 3))[:20]: odd_value(chance, depth + 1)}
    return chance.choice(plain)


def odd_calls(chance: random.Random, count: int) -> Iterator[tuple[str, Any]]:
    """Calls of every tool with arguments of wrong types and names."""
    for number in range(count):
        tool = load()[number % len(load())]
        names = [*parameters(tool.function), "hours", "x", "Limit", "ctx", "store", "__class__", ""]
        given: Any = {chance.choice(names): odd_value(chance) for _ in range(chance.randint(0, 4))}
        if chance.random() < 0.1:
            given = odd_value(chance)
        yield tool.name if chance.random() > 0.05 else str(odd_value(chance))[:60], given


@ERAS
async def test_arguments_of_any_kind_are_answered_and_every_session_lives_on(
    server: Server, modern: bool
) -> None:
    chance = random.Random(SEED)
    seen = {"answers": 0, "refusals": 0, "errors": 0}
    async with (
        anyio.create_task_group() as tasks,
        connected(server, tasks, modern=modern) as line,
        connected(server, tasks) as other,
    ):
        for tool, given in odd_calls(chance, 300):
            answer = await line.ask("tools/call", name=tool, arguments=given)
            if error := answer.get("error"):
                assert error["code"] in (INVALID_PARAMS, INVALID_REQUEST), (tool, given, error)
                seen["errors"] += 1
            elif answer["result"].get("isError"):
                [block] = answer["result"]["content"]
                assert not block["text"].startswith("Error executing tool " + tool + "\n"), (tool, given)
                assert block["text"] != f"Error executing tool {tool}", (tool, given)
                assert "\n" not in block["text"], (tool, given, block["text"])
                assert len(block["text"]) < 1_000
                seen["refusals"] += 1
            else:
                assert answer["result"]["structuredContent"]["found"]
                seen["answers"] += 1
        await works(line)
        await works(other)
    print(f"\n{seen}")
    assert min(seen["answers"], seen["refusals"]) > 20


@ERAS
async def test_a_long_text_is_refused_or_answered_and_not_in_a_long_time(
    server: Server, modern: bool
) -> None:
    megabyte = "x" * 2**20
    async with anyio.create_task_group() as tasks, connected(server, tasks, modern=modern) as line:
        with anyio.fail_after(20):
            for arguments in ({"name": megabyte}, {megabyte: 1}, {"limit": megabyte}, {"view": megabyte}):
                answer = await line.ask("tools/call", name="query_packages", arguments=arguments)
                assert answer["result"]["isError"]
                assert len(answer["result"]["content"][0]["text"]) < 300
            answer = await line.ask("tools/call", name=megabyte, arguments={})
            assert len(answer["result"]["content"][0]["text"]) < 300
            assert (await line.ask("resources/read", uri=f"watchman://{megabyte}"))["error"]
            assert (await line.ask(megabyte))["error"]["code"] == NO_METHOD
        await works(line)


async def test_a_line_without_an_end_ends_its_session_and_no_other(server: Server) -> None:
    async with (
        anyio.create_task_group() as tasks,
        connected(server, tasks) as other,
        connected(server, tasks) as line,
    ):
        for _ in range(sessions.LINE_LIMIT // 60_000 + 1):
            await line.write(b"x" * 60_000)
        assert (await line.read())["error"]["code"] == INVALID_REQUEST
        with pytest.raises(ENDED), anyio.fail_after(10):
            await line.lines.receive_until(b"\n", 1 << 20)
        await works(other)


@ERAS
@pytest.mark.parametrize("method", ["no/such", "", "tools", "resources/unlist", "__init__"])
async def test_a_method_that_is_none_is_told_apart(server: Server, modern: bool, method: str) -> None:
    async with anyio.create_task_group() as tasks, connected(server, tasks, modern=modern) as line:
        assert (await line.ask(method))["error"]["code"] == NO_METHOD
        await works(line)


@ERAS
@pytest.mark.parametrize("token", [{}, [], {"a": [1]}, 1.5, True, None])
async def test_a_token_of_a_wrong_type_is_refused_or_passed_over(
    server: Server, modern: bool, token: Any
) -> None:
    async with anyio.create_task_group() as tasks, connected(server, tasks, modern=modern) as line:
        meta = {**(META if modern else {}), "progressToken": token}
        await line.send(id="t", method="tools/list", params={"_meta": meta})

        answer = await line.read()
        assert answer["id"] == "t"
        assert "result" in answer or answer["error"]["code"] == INVALID_PARAMS
        await works(line)


@ERAS
async def test_half_lines_and_many_lines_at_once_are_read_as_lines(server: Server, modern: bool) -> None:
    async with anyio.create_task_group() as tasks, connected(server, tasks, modern=modern) as line:
        params = {"_meta": META} if modern else {}
        data = b"".join(
            json.dumps({"jsonrpc": "2.0", "id": f"n{n}", "method": "tools/list", "params": params}).encode()
            + b"\r\n"
            for n in range(20)
        )
        for start in range(0, len(data), 97):
            await line.write(data[start : start + 97])
        numbers = {(await line.read())["id"] for _ in range(20)}

        assert numbers == {f"n{n}" for n in range(20)}


async def test_a_refusal_to_a_client_that_stopped_reading_waits_its_turn(server: Server) -> None:
    async with anyio.create_task_group() as tasks, connected(server, tasks) as line:
        asked = []
        with anyio.move_on_after(2):
            for _ in range(400):  # far more answers than a socket holds unread
                asked.append(await line.request("tools/list"))
                await line.write(b"garbage\n")
        assert len(asked) > 20

        answers, refusals = set(), 0
        while len(answers) < len(asked) - 1 or refusals < len(asked) - 1:
            message = await line.read()
            refusals += message["id"] is None
            answers |= {message["id"]} - {None}
        assert answers <= set(asked)


async def test_an_answer_being_made_when_the_client_stops_writing_is_no_half_line(server: Server) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sessions.serve, server, await UNIXSocketStream.from_socket(theirs))
        async with await UNIXSocketStream.from_socket(ours) as stream:
            line = Line(stream, True)
            await line.ask("tools/list")
            await line.request("tools/list")
            await stream.send_eof()
            rest = b""
            with anyio.fail_after(10):
                async for chunk in stream:
                    rest += chunk

    assert rest == b"" or rest.endswith(b"\n")


async def test_a_last_line_without_an_end_is_read_too(server: Server) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sessions.serve, server, await UNIXSocketStream.from_socket(theirs))
        async with await UNIXSocketStream.from_socket(ours) as stream:
            await stream.send(b"garbage")
            await stream.send_eof()
            assert (await Line(stream, True).read())["error"]["code"] == PARSE_ERROR


async def test_clients_that_leave_at_any_moment_leave_a_server_that_works(server: Server) -> None:
    chance = random.Random(SEED)
    async with anyio.create_task_group() as tasks, connected(server, tasks) as other:
        for _ in range(40):
            async with connected(server, tasks, modern=chance.random() < 0.5) as line:
                for _ in range(chance.randint(0, 3)):
                    await line.request("tools/call", name="query_packages", arguments={"since": "7d"})
                if chance.random() < 0.5:
                    await line.write(b'{"jsonrpc":"2.0","id":')
        await works(other)
        await until(lambda: server.in_flight == 0)


async def test_two_descriptors_are_one_stream_that_ends_with_its_client() -> None:
    (theirs, from_them), (to_them, ours) = os.pipe(), os.pipe()
    stream = sessions.Stdio((theirs, ours))

    os.write(from_them, b"hello\n")
    assert await stream.receive() == b"hello\n"
    await stream.send(b"heard\n")
    assert os.read(to_them, 100) == b"heard\n"
    os.close(from_them)
    with pytest.raises(anyio.EndOfStream):
        await stream.receive()
    os.close(to_them)
    with pytest.raises(anyio.BrokenResourceError):
        await stream.send(b"is anybody there?\n")
    os.close(theirs)
    os.close(ours)
