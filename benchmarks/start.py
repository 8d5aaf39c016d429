"""What a client waits for, and what it costs: spawn to the list of tools, the very first start, memory."""

import time
from statistics import median

from benchmarks._homes import BRIDGE, Home, home, memory, opened, plain_server
from benchmarks.rows import Budget, Row

PLAIN = "plain SDK server"


def run(quick: bool) -> list[Row]:
    """Spawns beside a running daemon, first starts in a new home, and memory; each beside the peer."""
    with plain_server() as (plain, plain_env), home() as ours:
        ours.serve()
        spawn: tuple[list[float], list[float]] = ([], [])
        for _ in range(5 if quick else 11):
            spawn[0].append(_listed(BRIDGE, ours.env))
            spawn[1].append(_listed(plain, plain_env))
        first: tuple[list[float], list[float]] = ([], [])
        for _ in range(2 if quick else 4):
            first[0].append(_first_answer())
            first[1].append(_greeted(plain, plain_env))
        with ours.client() as client, opened(plain, plain_env) as peer:
            client.ask("tools/list")
            peer.ask("tools/list")
            (rss, pss), (peer_rss, peer_pss) = memory(client.pid), memory(peer.pid)
    own, others = median(spawn[0]), median(spawn[1])
    return [
        Row("client spawn to tools/list, daemon running", own, "ms", others, PLAIN, Budget(150)),
        Row(
            "first ever start to first answer with data",
            median(first[0]),
            "ms",
            median(first[1]),
            PLAIN,
            Budget(2, of_ratio=True),
        ),
        Row("memory per client, RSS", rss, "MiB", peer_rss, PLAIN, Budget(15)),
        Row("memory per client, PSS", pss, "MiB", peer_pss, PLAIN),
    ]


def _listed(argv: list[str], env: dict[str, str]) -> float:
    begun = time.perf_counter()
    with opened(argv, env) as client:
        client.ask("tools/list")
        return (time.perf_counter() - begun) * 1000


def _first_answer() -> float:
    """Milliseconds from a launch where no daemon ever ran to real packages."""
    one = Home()
    try:
        begun = time.perf_counter()
        with one.client() as client:
            answer = client.call("query_packages", since="7d")
            took = (time.perf_counter() - begun) * 1000
        if "observed_at" not in answer:
            raise RuntimeError(f"the first answer rests on no look: {str(answer)[:300]}")
        return took
    finally:
        one.close()


def _greeted(argv: list[str], env: dict[str, str]) -> float:
    begun = time.perf_counter()
    with opened(argv, env) as client:
        client.call("greet")
        return (time.perf_counter() - begun) * 1000
