"""What a daemon costs while nobody asks: processor time and memory at an interval of 60 seconds."""

import time

from benchmarks._homes import cpu_seconds, home, memory, opened, plain_server, settle
from benchmarks.rows import Budget, Row


def run(quick: bool) -> list[Row]:
    """On this machine as it is, after the first looks."""
    seconds = 30 if quick else 120
    with home() as ours, plain_server() as (argv, env), opened(argv, env) as peer:
        ours.configure("[monitoring]\nmetrics_interval = 60\n")
        pid = ours.serve()
        peer.ask("tools/list")
        settle(pid)
        before, begun = cpu_seconds(pid), time.monotonic()
        time.sleep(seconds)
        share = 100 * (cpu_seconds(pid) - before) / (time.monotonic() - begun)
        rss, pss = memory(pid)
        peer_rss, peer_pss = memory(peer.pid)
    return [
        Row(f"daemon at rest, {seconds} s, CPU", share, "% of a core", budget=Budget(0.5)),
        Row("daemon at rest, RSS", rss, "MiB", peer_rss, "plain SDK server", Budget(150)),
        Row("daemon at rest, PSS", pss, "MiB", peer_pss, "plain SDK server"),
    ]
