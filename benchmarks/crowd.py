"""Many clients that all ask at once, beside as many plain servers that have nothing to look up."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from benchmarks._homes import Client, home, opened, plain_server, settle
from benchmarks.rows import Row, percentile

ASKED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("overview", {}),
    ("query_packages", {"since": "7d"}),
    ("query_packages", {"name": "python"}),
    ("what_changed", {}),
    ("system_metrics", {}),
)


def run(quick: bool) -> list[Row]:
    """The time until all have their answers, and how long single answers took."""
    count, questions = (8, 10) if quick else (20, 50)
    with home() as ours, ExitStack() as clients:
        settle(ours.serve())
        own = _ask([clients.enter_context(ours.client()) for _ in range(count)], _question, questions)
    with plain_server() as (argv, env), ExitStack() as clients:
        peers = [clients.enter_context(opened(argv, env)) for _ in range(count)]
        others = _ask(peers, lambda client, _: client.call("greet"), questions)
    title, beside = f"{count} clients, {questions} questions each", f"{count} plain SDK servers"
    return [
        Row(f"{title}, all", own[0], "s", others[0], beside),
        Row(f"{title}, one answer, p95", own[1], "ms", others[1], beside),
    ]


def _question(client: Client, number: int) -> object:
    tool, arguments = ASKED[number % len(ASKED)]
    return client.call(tool, **arguments)


def _ask(clients: list[Client], ask: Callable[[Client, int], object], count: int) -> tuple[float, float]:
    """Seconds for all, and the 95th percentile of single answers in milliseconds."""

    def one(client: Client) -> list[float]:
        took = []
        for number in range(count):
            begun = time.perf_counter()
            ask(client, number)
            took.append((time.perf_counter() - begun) * 1000)
        return took

    begun = time.perf_counter()
    with ThreadPoolExecutor(len(clients)) as threads:
        took = [each for many in threads.map(one, clients) for each in many]
    return time.perf_counter() - begun, percentile(took, 95)
