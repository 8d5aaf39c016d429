"""From when on collectors look, and when in between they did not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from watchman_mcp.store.tables import from_text

GAP = timedelta(minutes=30)
"""Looks further apart than this leave a time in which nothing was watched."""


def coverage(
    stretches: Iterable[Any], since: datetime | None, show: Callable[[datetime], str | None]
) -> str | None:
    """From when on collectors looked, and when later they did not, by their stretches in order of time."""
    by_collector: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
    for row in stretches:
        by_collector[row["collector"]].append((from_text(row["started_at"]), from_text(row["last_at"])))
    if not by_collector:
        return None
    begun = min(times[0][0] for times in by_collector.values())
    gaps = {
        (end, start)
        for times in by_collector.values()
        for (_, end), (start, _) in pairwise(times)
        if start - end > GAP
    }
    shown = sorted((gap for gap in gaps if since is None or gap[1] > since), reverse=True)
    text = f"watching since {show(begun)}"
    if shown:
        text += f"; not watched: {', '.join(f'{show(a)} to {show(b)}' for a, b in shown[:2])}"
    return text + (f" and {len(shown) - 2} times more" if len(shown) > 2 else "")
