"""Who hears of what: sessions of both eras, several at once, some of which stopped reading."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.server.subscriptions import PromptsListChanged, ResourcesListChanged, ToolsListChanged
from mcp.types import ResourceUpdatedNotification, ToolListChangedNotification

from tests.story import serving
from tests.wire import connected, until
from watchman_mcp.notifications import MAX_SUBSCRIPTIONS
from watchman_mcp.server import Server
from watchman_mcp.store.sqlite import Store

pytestmark = [
    pytest.mark.anyio,
    # the handshake era's way to subscribe is gone from 2026-07-28, and its clients are with us still
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]


@pytest.fixture
async def server(store: Store, tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(store, tmp_path) as one:
        yield one


class Heard:
    """What one client of the handshake era was told."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def __call__(self, message: Any) -> None:
        self.messages.append(message)

    @property
    def uris(self) -> list[str]:
        return [str(m.params.uri) for m in self.messages if isinstance(m, ResourceUpdatedNotification)]


async def test_a_client_that_shook_hands_hears_of_what_it_subscribed_to_until_it_ends_that(
    server: Server,
) -> None:
    heard = Heard()
    async with Client(server.mcp, mode="legacy", cache=None, message_handler=heard) as client:
        await client.subscribe_resource("watchman://packages")
        await server.changed(frozenset({"Software"}))
        await until(lambda: heard.uris)
        await client.unsubscribe_resource("watchman://packages")
        await server.changed(frozenset({"Software"}))
        await client.subscribe_resource("watchman://overview")
        await server.changed(frozenset({"Software"}))
        await until(lambda: len(heard.uris) > 1)

    assert heard.uris == ["watchman://packages", "watchman://overview"]


async def test_a_client_of_2026_hears_of_what_it_listens_to(server: Server) -> None:
    async with (
        Client(server.mcp, mode="auto", cache=None) as client,
        client.listen(resource_subscriptions=["watchman://packages"]) as events,
    ):
        await server.changed(frozenset({"Software"}))
        with anyio.fail_after(5):
            event = await anext(events)

    assert event.uri == "watchman://packages"
    await until(lambda: not server.notifications.uris)


async def test_an_address_of_a_form_is_heard_of_like_a_plain_one(server: Server) -> None:
    heard = Heard()
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(
            Client(server.mcp, mode="legacy", cache=None, message_handler=heard)
        )
        new = await stack.enter_async_context(Client(server.mcp, mode="auto", cache=None))
        await old.subscribe_resource("watchman://packages/nginx")
        events = await stack.enter_async_context(
            new.listen(resource_subscriptions=["watchman://metrics/cpu"])
        )
        await server.changed(frozenset({"Software"}))
        await server.changed(frozenset({"SystemMetrics"}))
        with anyio.fail_after(5):
            assert (await anext(events)).uri == "watchman://metrics/cpu"
        await until(lambda: heard.uris)

    assert heard.uris == ["watchman://packages/nginx"]


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("Software", {"overview", "packages", "packages/history", "changes"}),
        ("Event", {"changes"}),
        ("SystemMetrics", {"overview", "metrics"}),
        ("DiskMetrics", {"overview", "metrics"}),
        ("Host", {"overview"}),
        ("CollectorRun", {"doctor"}),
        ("InterfaceMetrics", set()),
    ],
)
async def test_a_change_is_told_to_those_whose_resources_rest_on_it(
    server: Server, label: str, told: set[str]
) -> None:
    heard = Heard()
    addresses = ["overview", "packages", "packages/history", "metrics", "changes", "graph/schema", "doctor"]
    async with Client(server.mcp, mode="legacy", cache=None, message_handler=heard) as client:
        for address in addresses:
            await client.subscribe_resource(f"watchman://{address}")
        await server.changed(frozenset({label}))
        await server.notifications.publish(ToolsListChanged())
        await until(lambda: any(isinstance(m, ToolListChangedNotification) for m in heard.messages))

    assert {uri.removeprefix("watchman://") for uri in heard.uris} == told


async def test_changed_lists_are_told_to_every_session_without_asking_for_it(server: Server) -> None:
    heard = Heard()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(Client(server.mcp, mode="legacy", cache=None, message_handler=heard))
        new = await stack.enter_async_context(Client(server.mcp, mode="auto", cache=None))
        events = await stack.enter_async_context(new.listen(tools_list_changed=True))
        for event in (ToolsListChanged(), ResourcesListChanged(), PromptsListChanged()):
            await server.notifications.publish(event)
        await until(lambda: len(heard.messages) == 3)
        with anyio.fail_after(5):
            assert isinstance(await anext(events), ToolsListChanged)


async def test_several_sessions_hear_each_of_their_own(server: Server) -> None:
    heard = [Heard() for _ in range(5)]
    addresses = ["overview", "packages", "metrics", "changes", "packages/vim"]
    async with AsyncExitStack() as stack:
        for one, address in zip(heard, addresses, strict=True):
            client = Client(server.mcp, mode="legacy", cache=None, message_handler=one)
            await (await stack.enter_async_context(client)).subscribe_resource(f"watchman://{address}")
        await server.changed(frozenset({"Software", "SystemMetrics"}))
        await until(lambda: all(one.uris for one in heard))

    assert [one.uris for one in heard] == [[f"watchman://{address}"] for address in addresses]


async def test_unread_changes_of_one_address_become_one_cue(server: Server) -> None:
    async with anyio.create_task_group() as tasks, connected(server, tasks, modern=False) as client:
        await client.ask("resources/subscribe", uri="watchman://packages")
        for _ in range(10_000):
            await server.changed(frozenset({"Software"}))
        await client.ask("resources/unsubscribe", uri="watchman://packages")
        number = await client.request("ping")
        cues = 0
        while (await client.read()).get("id") != number:
            cues += 1

    assert cues < 5_000


async def test_a_session_that_stopped_reading_delays_nobody(server: Server) -> None:
    addresses = [f"watchman://packages/p{n}" for n in range(150)]
    heard = Heard()
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(anyio.create_task_group())
        for modern in (True, False) * 3:
            stalled = await stack.enter_async_context(connected(server, tasks, modern=modern))
            if modern:
                listen = {"resourceSubscriptions": addresses, "toolsListChanged": True}
                await stalled.request("subscriptions/listen", notifications=listen)
            else:
                for address in addresses:
                    await stalled.ask("resources/subscribe", uri=address)
        await until(lambda: len(server.notifications.uris) == 150)
        live = await stack.enter_async_context(
            Client(server.mcp, mode="legacy", cache=None, message_handler=heard)
        )
        new = await stack.enter_async_context(Client(server.mcp, mode="auto", cache=None))
        events = await stack.enter_async_context(new.listen(resource_subscriptions=["watchman://metrics"]))
        await live.subscribe_resource("watchman://metrics")

        with anyio.fail_after(30):
            for _ in range(40):
                await server.changed(frozenset({"Software"}))
        with anyio.fail_after(5):
            await server.changed(frozenset({"SystemMetrics"}))
            assert (await anext(events)).uri == "watchman://metrics"
        await until(lambda: heard.uris == ["watchman://metrics"], 5)
        with anyio.fail_after(5):
            assert (await live.call_tool("query_graph", {})).structured_content["found"] == "yes"


async def test_a_session_that_left_leaves_nothing_behind(server: Server) -> None:
    async with anyio.create_task_group() as tasks:
        before = len(anyio.get_running_tasks())
        for modern in (True, False) * 10:
            async with connected(server, tasks, modern=modern) as client:
                if modern:
                    listen = {"resourceSubscriptions": ["watchman://packages"]}
                    await client.request("subscriptions/listen", notifications=listen)
                    assert "method" in await client.read()
                else:
                    await client.ask("resources/subscribe", uri="watchman://packages")
                assert server.notifications.uris == {"watchman://packages"}
            await until(lambda: not server.notifications.uris)
        await until(lambda: len(anyio.get_running_tasks()) <= before)
        await server.changed(frozenset({"Software"}))


async def test_a_session_holds_so_many_subscriptions_and_is_told_when_that_is_all(server: Server) -> None:
    async with Client(server.mcp, mode="legacy", cache=None) as client:
        for n in range(MAX_SUBSCRIPTIONS):
            await client.subscribe_resource(f"watchman://packages/p{n}")
        await client.subscribe_resource("watchman://packages/p0")
        with pytest.raises(MCPError, match="200 subscriptions; end one of them first"):
            await client.subscribe_resource("watchman://packages")
        await client.unsubscribe_resource("watchman://packages/p0")
        await client.subscribe_resource("watchman://packages")


async def test_an_address_that_names_nothing_cannot_be_subscribed_to(server: Server) -> None:
    async with Client(server.mcp, mode="legacy", cache=None) as client:
        with pytest.raises(MCPError, match="there is no resource 'watchman://nothing'; addresses: "):
            await client.subscribe_resource("watchman://nothing")
