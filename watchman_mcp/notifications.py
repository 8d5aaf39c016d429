"""One publish() that reaches every session of both protocol eras.

Sessions of 2026-07-28 listen on a stream of their own, which the SDK serves. Sessions that shook hands
subscribe by resource and hear of changed lists without asking; the SDK does not serve those, so this module
keeps one queue for each, in which equal notifications are one: a client that stopped reading delays nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup
from mcp import MCPError
from mcp.server import MCPServer, NotificationOptions
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)
from mcp.types import INVALID_PARAMS, EmptyResult, SubscribeRequestParams, UnsubscribeRequestParams

SEND = {
    ToolsListChanged: "send_tool_list_changed",
    PromptsListChanged: "send_prompt_list_changed",
    ResourcesListChanged: "send_resource_list_changed",
}
MAX_SUBSCRIPTIONS = 200
"""Addresses one session may subscribe to."""


class _Session:
    """One session that shook hands: what it asked for and what it is owed."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.uris: set[str] = set()
        self.owed: dict[str, ServerEvent] = {}
        self.ready = anyio.Event()
        self.life = anyio.CancelScope()

    def owe(self, event: ServerEvent) -> None:
        if isinstance(event, ResourceUpdated) and event.uri not in self.uris:
            return
        self.owed[repr(event)] = event
        self.ready.set()

    async def deliver(self) -> None:
        while True:
            await self.ready.wait()
            self.ready, due, self.owed = anyio.Event(), list(self.owed.values()), {}
            for event in due:
                if isinstance(event, ResourceUpdated):
                    await self.session.send_resource_updated(event.uri)
                else:
                    await getattr(self.session, SEND[type(event)])()


class Notifications(InMemorySubscriptionBus):
    """The bus of one server; `tasks` is the task group that delivers."""

    def __init__(self, tasks: TaskGroup) -> None:
        super().__init__()
        self._tasks = tasks
        self._sessions: dict[int, _Session] = {}
        self._listened: Counter[str] = Counter()

    @property
    def uris(self) -> set[str]:
        """Every resource address that some session wants to hear about."""
        return set(self._listened).union(*(s.uris for s in self._sessions.values()))

    async def publish(self, event: ServerEvent) -> None:
        """Tell every session that asked for it; waits for none of them."""
        await super().publish(event)
        for session in self._sessions.values():
            session.owe(event)

    async def updated(self, uris: Iterable[str]) -> None:
        """Tell that resources changed."""
        for uri in uris:
            await self.publish(ResourceUpdated(uri=uri))

    def install(self, server: MCPServer) -> None:
        """Give a server what the SDK lacks for sessions that shook hands.

        `_lowlevel_server` and `_connection` are private names of the SDK, whose version is pinned for them.
        """
        low = server._lowlevel_server
        low.add_request_handler("resources/subscribe", SubscribeRequestParams, self._subscribe)
        low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, self._unsubscribe)
        low.create_initialization_options = partial(  # type: ignore[method-assign] # the SDK has no other place
            low.create_initialization_options, NotificationOptions(True, True, True)
        )
        server.middleware.append(self._remember)

    def _of(self, ctx: ServerRequestContext[Any, Any]) -> _Session | None:
        return self._sessions.get(id(ctx.session._connection))

    async def _subscribe(
        self, ctx: ServerRequestContext[Any, Any], params: SubscribeRequestParams
    ) -> EmptyResult:
        session = self._of(ctx)
        if session is not None:
            if len(session.uris | {str(params.uri)}) > MAX_SUBSCRIPTIONS:
                raise MCPError(
                    INVALID_PARAMS,
                    f"a session holds {MAX_SUBSCRIPTIONS} subscriptions; end one of them first",
                )
            session.uris.add(str(params.uri))
        return EmptyResult()

    async def _unsubscribe(
        self, ctx: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams
    ) -> EmptyResult:
        if (session := self._of(ctx)) is not None:
            session.uris.discard(str(params.uri))
        return EmptyResult()

    async def _remember(self, ctx: ServerRequestContext[Any, Any], call_next: Any) -> Any:
        """Know the sessions that shook hands, and the addresses that the others listen to."""
        if ctx.method == "notifications/initialized" and self._of(ctx) is None:
            connection, session = ctx.session._connection, _Session(ctx.session)
            self._sessions[id(connection)] = session
            connection.exit_stack.callback(self._forget, id(connection))
            self._tasks.start_soon(self._serve, session)
        if ctx.method != "subscriptions/listen":
            return await call_next(ctx)
        wanted = ((ctx.params or {}).get("notifications") or {}).get("resourceSubscriptions") or []
        uris = [str(uri) for uri in wanted][:MAX_SUBSCRIPTIONS]
        self._listened.update(uris)
        try:
            return await call_next(ctx)
        finally:
            self._listened -= Counter(uris)

    def _forget(self, connection: int) -> None:
        """The client left: its queue ends with it."""
        if session := self._sessions.pop(connection, None):
            session.life.cancel()

    async def _serve(self, session: _Session) -> None:
        with session.life, suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            await session.deliver()
