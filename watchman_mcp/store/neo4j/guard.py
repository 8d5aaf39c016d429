"""Strangers' Cypher: one question that reads, which cannot write, call out, last or answer without end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from anyio import from_thread

from watchman_mcp.errors import InvalidRequest

from .connection import Database
from .cypher import foreign, screen
from .values import Converter

if TYPE_CHECKING:
    from neo4j import AsyncDriver, AsyncResult, AsyncSession, AsyncTransaction, Record, ResultSummary

ROWS = 1_000
ANSWER_BYTES = 64_000
RECEIVED_BYTES = 512 * 1024
"""What is read from the server for one question: its plan and its rows."""
SERVER_SECONDS = 2.0
"""Neo4j looks every two seconds for transactions that are over this."""
SECONDS = 4.0
FETCH = 50
NOTES = 2
NAME = 200
_SIDES = "Directed Undirected PartitionedDirected PartitionedUndirected"
_RELATIONSHIPS = """
AllRelationshipsScan RelationshipByIdSeek RelationshipByElementIdSeek RelationshipIndexSeek
RelationshipIndexSeekByRange RelationshipUniqueIndexSeek RelationshipUniqueIndexSeekByRange
RelationshipIndexScan RelationshipIndexContainsScan RelationshipIndexEndsWithScan RelationshipTypeScan
UnionRelationshipTypesScan"""
_NAMES = """
ProduceResults EmptyResult Argument EmptyRow AllNodesScan NodeByLabelScan UnionNodeByLabelsScan
IntersectionNodeByLabelsScan SubtractionNodeByLabelsScan NodeByIdSeek NodeByElementIdSeek NodeIndexSeek
NodeIndexSeekByRange NodeUniqueIndexSeek NodeUniqueIndexSeekByRange MultiNodeIndexSeek NodeIndexScan
NodeIndexContainsScan NodeIndexEndsWithScan NodeCountFromCountStore RelationshipCountFromCountStore
PartitionedAllNodesScan PartitionedNodeByLabelScan PartitionedUnionNodeByLabelsScan
PartitionedIntersectionNodeByLabelsScan PartitionedSubtractionNodeByLabelsScan PartitionedNodeIndexSeek
PartitionedNodeIndexSeekByRange PartitionedNodeIndexScan PartitionedUnwind Expand OptionalExpand
VarLengthExpand ProjectEndpoints ShortestPath StatefulShortestPath Repeat BidirectionalRepeat
PathPropagatingBFS Filter Projection CacheProperties RemoteBatchProperties RemoteBatchPropertiesWithFilter
Unwind Union OrderedUnion Limit ExhaustiveLimit Skip Sort PartialSort Top PartialTop Top1WithTies Distinct
OrderedDistinct EagerAggregation OrderedAggregation Eager Apply SemiApply AntiSemiApply LetSemiApply
LetAntiSemiApply SelectOrSemiApply SelectOrAntiSemiApply LetSelectOrSemiApply LetSelectOrAntiSemiApply
ConditionalApply AntiConditionalApply RollUpApply Optional Anti CartesianProduct NodeHashJoin ValueHashJoin
NodeLeftOuterHashJoin NodeRightOuterHashJoin TriadicSelection TriadicBuild TriadicFilter ArgumentTracker
PreserveOrder NullifyMetadata NonFuseable NonPipelined NonPipelinedStreaming"""
OPERATORS = frozenset(_NAMES.split()) | {
    side + name for side in _SIDES.split() for name in _RELATIONSHIPS.split()
}
"""The operators of Neo4j's plans that read the graph or compute, without what stands in brackets."""
_TOLD: dict[str, Any] = {
    "notifications_min_severity": "WARNING",
    "notifications_disabled_classifications": (
        ["HINT", "UNSUPPORTED", "PERFORMANCE", "DEPRECATION", "GENERIC", "SECURITY", "TOPOLOGY", "SCHEMA"]
    ),
}
"""What is left are the notifications of names that the database does not know."""
_SAID = {
    "LoadCSV": "read files or addresses with LOAD CSV",
    "ProcedureCall": "call a procedure",
    "TransactionApply": "use CALL ... IN TRANSACTIONS",
    "TransactionForeach": "use CALL ... IN TRANSACTIONS",
}


@dataclass
class Rows:
    """What a query gave; `cut` says that there was more, or that a value was shortened.

    `notes` says which labels, types or properties of the query the database does not know.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    cut: bool
    notes: tuple[str, ...] = ()


class _Received:
    """How much one question has been sent; `over` says that its connection was broken off for that."""

    def __init__(self) -> None:
        self.left, self.over = RECEIVED_BYTES, False

    @contextmanager
    def counted(self, session: AsyncSession) -> Iterator[None]:
        """Break the session's connection off when more bytes come than an answer may have.

        The driver gathers a whole value before it gives it away, and no setting bounds one, so the bytes are
        counted where it reads them.
        """
        sock: Any = session._connection.socket  # type: ignore[union-attr] # private: no setting bounds a value
        receive = sock.recv_into

        async def receive_counted(buffer: memoryview, size: int) -> int:
            got: int = await receive(buffer, size)
            self.left -= got
            if self.left < 0:
                self.over = True
                raise OSError("more bytes than an answer may have")
            return got

        sock.recv_into = receive_counted
        try:
            yield
        finally:
            del sock.recv_into


class Cypher:
    """Strangers' questions to one database, as a user of their own; for worker threads."""

    def __init__(self, database: Database, clean: Callable[[str], str] = str) -> None:
        """`clean` makes a text of the graph safe to show."""
        self.database, self._clean = database, clean

    def ask(self, query: str, limit: int) -> Rows:
        """Run one question and give at most `limit` rows.

        Raises: InvalidRequest (the query), FleetError (the server).
        """
        found = from_thread.run(self._ask, query, limit)
        found.rows = [tuple(self._cleaned(value) for value in row) for row in found.rows]
        return found

    def _cleaned(self, value: Any) -> Any:
        """A value with clean texts: whoever has the password of the server may have written any."""
        if isinstance(value, str):
            return self._clean(value)
        if isinstance(value, list):
            return [self._cleaned(one) for one in value]
        if isinstance(value, dict):
            return {self._clean(name): self._cleaned(one) for name, one in value.items()}
        return value

    async def _ask(self, query: str, limit: int) -> Rows:
        driver = await self.database.driver()
        try:
            return await ask(driver, self.database.settings.database, query, limit)
        except InvalidRequest:
            raise
        except Exception as error:  # a driver's and a server's own become words
            raise await self.database.failed(error) from error


async def ask(driver: AsyncDriver, database: str, query: str, limit: int) -> Rows:
    """Run one stranger's question and give at most `limit` rows and 64 KB.

    When this is cancelled or takes too long, its connection is closed, and Neo4j ends the query.

    Raises:
        InvalidRequest: the query is wrong, forbidden or too much; the message tells what would do.
        TimeoutError: the server did not answer in time.
        neo4j.exceptions.DriverError: the server cannot be reached.
        neo4j.exceptions.Neo4jError: the server refuses the user or the database.
    """
    from neo4j.exceptions import DriverError, Neo4jError

    text = screen(query)
    received, started = _Received(), False
    session = driver.session(database=database, default_access_mode="READ", fetch_size=FETCH, **_TOLD)
    try:
        with anyio.fail_after(SECONDS):
            async with session:
                transaction = await session.begin_transaction(timeout=SERVER_SECONDS)
                started = True
                with received.counted(session):
                    async with transaction:
                        return await _answer(transaction, text, max(1, min(limit, ROWS)), received)
    except TimeoutError as error:
        if started:
            raise InvalidRequest(f"the query ran longer than {SECONDS:g} s; narrow it") from error
        raise
    except (DriverError, Neo4jError, OSError) as error:
        if explained := _explained(error, received):
            raise explained from error
        raise
    finally:
        # Closing waits for the server. Where that was cut short, the connection goes now.
        session.cancel()
        await session.close()


async def _answer(transaction: AsyncTransaction, text: str, limit: int, received: _Received) -> Rows:
    planned = await (await transaction.run("EXPLAIN " + text)).consume()
    _refuse_plan(planned)
    result = await transaction.run(text)
    rows, cut = await _fetch(result, limit, received)
    if cut:
        # What is left of the answer is neither wanted nor read.
        transaction.cancel()
    columns = tuple(name[:NAME] for name in result.keys())  # noqa: SIM118 - a result is no dict
    return Rows(columns, rows, cut, () if rows else _notes(planned))


def _refuse_plan(planned: ResultSummary) -> None:
    """Refuse a plan that does more than read; READ mode alone lets LOAD CSV and procedures pass."""
    waiting = [planned.plan] if planned.plan else []
    while waiting:
        step = waiting.pop()
        waiting.extend(step.get("children", ()))
        name, _, database = step["operatorType"].partition("@")
        kind = name.split("(")[0]
        if kind not in OPERATORS or database == "system":
            said = _SAID.get(kind.split(" ")[-1]) or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).lower()
            raise InvalidRequest(
                f"only queries that read the graph are run, and this one would {said}; use MATCH ... RETURN"
            )
        if found := foreign(str(step.get("args", {}).get("Details", ""))):
            raise InvalidRequest(f"only functions of Neo4j itself may be called, not {found[:60]}")
    if planned.plan is None or planned.query_type != "r":
        raise InvalidRequest("only queries that read the graph are run; use MATCH ... RETURN")


async def _fetch(result: AsyncResult, limit: int, received: _Received) -> tuple[list[tuple[Any, ...]], bool]:
    from neo4j.exceptions import DriverError

    rows: list[tuple[Any, ...]] = []
    converter = Converter(ANSWER_BYTES)
    try:
        async for record in result:
            if len(rows) == limit:
                return rows, True
            row = _row(record, converter)
            if converter.cut and rows:
                return rows, True
            rows.append(row)
            if converter.cut:  # a first row is shortened rather than withheld
                return rows, True
    except DriverError:
        if received.over and rows:
            return rows, True
        raise
    return rows, converter.cut


def _row(record: Record, converter: Converter) -> tuple[Any, ...]:
    from neo4j.exceptions import BrokenRecordError

    try:
        return tuple(converter.value(value) for value in record.values())
    except BrokenRecordError as error:
        raise InvalidRequest("a value cannot be shown, such as a year after 9999; use toString()") from error


def _notes(planned: ResultSummary) -> tuple[str, ...]:
    """What the database does not know of the query's names: a model invents some."""
    found = (
        status.status_description.partition(": ")[2].split(". Verify")[0][:200]
        for status in planned.gql_status_objects
        if str(status.raw_classification) == "UNRECOGNIZED"
    )
    return tuple(dict.fromkeys(found))[:NOTES]


_REPLIES = (
    ("TransactionTimedOut", f"the query ran longer than {SERVER_SECONDS:g} s; narrow it"),
    ("Transaction.Terminated", "the query was ended on the server; narrow it"),
    ("OutOfMemory", "the query needs too much memory; sort, group or collect fewer rows"),
    ("StackOverflow", "the query is nested too deeply; split it with WITH"),
    ("ParameterMissing", "a query has no parameters; write the values into it"),
)


def _explained(error: Exception, received: _Received) -> InvalidRequest | None:
    """What the writer of the query can act on; None where it is a trouble of the server."""
    if received.over:
        return InvalidRequest("an answer is too large; return fewer or shorter values, or use LIMIT")
    code = str(getattr(error, "code", None) or "")
    for part, reply in _REPLIES:
        if part in code:
            return InvalidRequest(reply)
    if ".Statement." not in code:
        return None
    said = str(getattr(error, "message", "") or "").split("\n")[0]
    said = " ".join(re.sub(r" \(line \d.*", "", said).split())[:300]  # the place counts EXPLAIN in
    return InvalidRequest(f"the Cypher is wrong: {said}; an empty query shows labels and properties")
