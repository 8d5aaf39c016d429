"""One Neo4j server: its driver, opened when it is needed, and its troubles in words."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from anyio import to_thread

from watchman_mcp.errors import FleetError
from watchman_mcp.settings import Neo4j

if TYPE_CHECKING:
    from neo4j import AsyncDriver, AsyncManagedTransaction, Record

T = TypeVar("T")
FLOOR = (5, 26)
"""The oldest version of Neo4j that is tested."""
ANSWER = 60.0
"""Seconds that a transaction may take; a server that hangs is given up then."""
ASKED = 10.0
"""Seconds that a question of a person may take."""
SECRET_BYTES = 4096
SAID = 300
"""Characters of what a server says of its trouble."""


class Database:
    """The database of the fleet, for one of its users.

    Every method raises FleetError, whose message says what is wrong and what a person can do.
    """

    def __init__(self, settings: Neo4j, user: str = "") -> None:
        self.settings, self.user = settings, user or settings.user
        self._for_questions = bool(user)
        self._driver: AsyncDriver | None = None
        self._opening = anyio.Lock()

    async def driver(self) -> AsyncDriver:
        """The open driver, of a server that answers and is of a version that is known to work."""
        async with self._opening:
            if self._driver is None:
                self._driver = await self._open()
            return self._driver

    async def _open(self) -> AsyncDriver:
        neo4j = await to_thread.run_sync(_imported)
        try:
            driver: AsyncDriver = neo4j.AsyncGraphDatabase.driver(
                self.settings.uri,
                auth=(self.user, self._password()),
                connection_timeout=ASKED,
                connection_acquisition_timeout=ASKED,
                max_connection_pool_size=10,
                max_transaction_retry_time=ASKED,
                notifications_min_severity="OFF",
                user_agent="watchman-mcp",
            )
        except (neo4j.exceptions.ConfigurationError, ValueError) as error:
            raise FleetError(f"[neo4j] cannot be used: {_said(error)}") from error
        try:
            with anyio.fail_after(ASKED):
                agent = str((await driver.get_server_info()).agent)
            if (version := version_of(agent)) < FLOOR:
                floor = ".".join(map(str, FLOOR))
                shown = ".".join(map(str, version)) or agent[:60]
                raise FleetError(f"the server is of version {shown}; Neo4j {floor} or newer is needed")
        except BaseException as error:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await driver.close()
            raise self.error(error) from error
        return driver

    def _password(self) -> str:
        """The password as it is now, so that a changed one needs no restart."""
        kept = self.settings
        secret = kept.query_password if self._for_questions else kept.password
        path = kept.query_password_file if self._for_questions else kept.password_file
        if not path:
            return secret.get_secret_value()
        try:
            with open(os.open(os.path.expanduser(path), os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                return file.read(SECRET_BYTES).decode().strip("\r\n")
        except (OSError, ValueError) as error:
            key = "query_password_file" if self._for_questions else "password_file"
            reason = getattr(error, "strerror", None) or str(error)
            raise FleetError(f"[neo4j] {key} {path} cannot be read: {reason}") from error

    async def write(self, work: Callable[[AsyncManagedTransaction], Awaitable[T]]) -> T:
        """Do some work in one transaction, again where the server says that another try may do."""
        driver = await self.driver()
        try:
            with anyio.fail_after(ANSWER):
                async with driver.session(database=self.settings.database) as session:
                    return await session.execute_write(work)
        except BaseException as error:
            raise await self.failed(error) from error

    async def read(self, query: str, **parameters: Any) -> list[Record]:
        """All rows of a query of our own."""
        driver = await self.driver()

        async def ask(transaction: AsyncManagedTransaction) -> list[Record]:
            result = await transaction.run(query, parameters)
            return [record async for record in result]

        try:
            with anyio.fail_after(ASKED):
                async with driver.session(
                    database=self.settings.database, default_access_mode="READ"
                ) as session:
                    return await session.execute_read(ask)
        except BaseException as error:
            raise await self.failed(error) from error

    async def define(self, statements: Iterable[str]) -> None:
        """Run statements that make constraints and indexes, each of which is a transaction of its own."""
        driver = await self.driver()
        try:
            with anyio.fail_after(ANSWER):
                async with driver.session(database=self.settings.database) as session:
                    for statement in statements:
                        await (await session.run(statement)).consume()
        except BaseException as error:
            raise await self.failed(error) from error

    async def failed(self, error: BaseException) -> BaseException:
        """The error in words. After a refused password the next try reads the password again."""
        from neo4j.exceptions import AuthError

        if isinstance(error, AuthError):
            await self.close()
        return self.error(error)

    def error(self, error: BaseException) -> BaseException:
        """A driver's or server's error as FleetError; anything else as it is."""
        from neo4j.exceptions import DriverError, Neo4jError

        if isinstance(error, TimeoutError):
            return FleetError("the server did not answer in time")
        if isinstance(error, DriverError | Neo4jError | OSError):
            return FleetError(words(error, self.settings, self.user))
        return error

    async def close(self) -> None:
        """Close the driver; the next use opens another."""
        if self._driver is not None:
            driver, self._driver = self._driver, None
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await driver.close()


def _imported() -> Any:
    import neo4j
    import neo4j.exceptions

    # It would write into our log what a stranger's query named in vain.
    logging.getLogger("neo4j.notifications").setLevel(logging.ERROR)
    return neo4j


def version_of(agent: str) -> tuple[int, ...]:
    """The version in what a server calls itself, such as Neo4j/5.26.30; empty where there is none."""
    found = re.search(r"/v?(\d+)\.(\d+)", agent)
    return (int(found[1]), int(found[2])) if found else ()


def words(error: Exception, settings: Neo4j, user: str) -> str:
    """What is wrong with the server and what a person can do about it."""
    from neo4j import exceptions

    code = str(getattr(error, "code", None) or "")
    if isinstance(error, exceptions.AuthError):
        return f"the server refuses user {user}: correct the user or the password of [neo4j]"
    if code.endswith(("DatabaseNotFound", "IllegalDatabaseName")):
        return f"there is no database {settings.database}: correct [neo4j] database, or make it"
    read_only = exceptions.ForbiddenOnReadOnlyDatabase, exceptions.NotALeader
    if isinstance(error, read_only) or "read-only" in str(error).lower() or "ReadOnly" in code:
        return "the database is read-only: let it be written, or name the server that writes in [neo4j] uri"
    if isinstance(error, exceptions.ConstraintError) or ".Schema." in code:
        return (
            f"the database holds what is not Watchman's: {_said(error)}. Remove that, or name a database of "
            "its own in [neo4j] database"
        )
    if isinstance(error, exceptions.Forbidden):
        return f"user {user} may not do this: {_said(error)}"
    if isinstance(error, exceptions.UnsupportedServerProduct):
        return "the server is no Neo4j, or of a version that the driver does not know"
    if isinstance(error, exceptions.DriverError | OSError):
        return f"the server cannot be reached at {settings.uri}: {_said(error)}"
    return f"the server says: {_said(error)}"


def _said(error: Exception) -> str:
    """A server's own words on one line, without the code."""
    text = str(getattr(error, "message", None) or error).split("\n")[0]
    return " ".join(text.split())[:SAID]
