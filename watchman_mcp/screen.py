"""Answers on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

FRAME = (
    "found",
    "cut",
    "host",
    "observed_at",
    "source",
    "window",
    "matched",
    "totals",
    "note",
    "next_cursor",
    "unobserved",
    "unobserved_more",
    "items",
)


def answer(tool: str, content: dict[str, Any], console: Console | None = None) -> None:
    """Any tool's answer: what it found, its lists as tables, and what could not be seen."""
    console = console or Console()
    head = f"{tool}: {content['found'].replace('_', ' ')}"
    if content.get("observed_at"):
        head += f", as of {content['observed_at']}"
    console.print(Text(head, style="bold"))
    for word in ("matched", "note", "cut"):
        if content.get(word):
            console.print(Text(f"{word}: {content[word]}", style="yellow" if word == "cut" else "dim"))
    if content.get("totals"):
        console.print(Text(", ".join(f"{n} {word}" for word, n in content["totals"].items()), style="cyan"))
    for name, value in content.items():
        if name not in FRAME:
            _value(console, name, value)
    _items(console, content)
    for unseen in content.get("unobserved") or []:
        console.print(Text(f"cannot see {unseen['what']}: {unseen['why']}", style="yellow"))
        if unseen.get("fix"):
            console.print(Text(f"  {unseen['fix']}", style="green"))


def _items(console: Console, content: dict[str, Any]) -> None:
    for item in _transactions(content):
        console.print(item)
    if rows := [row for row in content.get("items") or [] if "changes" not in row]:
        _table(console, rows, content.get("columns"))


def _transactions(content: dict[str, Any]) -> Iterable[Text]:
    for item in content.get("items") or []:
        if isinstance(item, dict) and "changes" in item:
            line = Text(item["ts"], style="cyan")
            line.append(
                f"  {item.get('command') or item.get('manager') or item.get('source') or ''}", style="bold"
            )
            line.append(f"  {item['by']}" if item.get("by") else "", style="dim")
            for change in item["changes"][:40]:
                versions = " -> ".join(v for v in (change.get("previous"), change.get("version")) if v)
                line.append(f"\n    {change['action']:<10}", style=_colour(change["action"]))
                line.append(f"{change['name']} {versions}")
            if len(item["changes"]) > 40:
                line.append(f"\n    and {len(item['changes']) - 40} more", style="dim")
            yield line


def _colour(action: str) -> str:
    return {
        "install": "green",
        "update": "blue",
        "remove": "red",
        "purge": "red",
        "downgrade": "magenta",
    }.get(action, "default")


def _value(console: Console, name: str, value: Any) -> None:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        console.print(Text(name, style="bold"))
        _table(console, value)
    elif isinstance(value, dict):
        grid = Table.grid(padding=(0, 2))
        for key, part in value.items():
            grid.add_row(Text(str(key), style="dim"), Text(_text(part)))
        console.print(Text(name, style="bold"), grid)
    else:
        console.print(Text(f"{name}: {_text(value)}"))


def hosts(rows: list[dict[str, Any]], console: Console | None = None) -> None:
    """The machines of the fleet."""
    console = console or Console()
    if rows:
        _table(console, rows)
    else:
        console.print(Text("No machine has been heard yet.", style="dim"))


def _table(console: Console, rows: list[Any], columns: list[str] | None = None) -> None:
    if isinstance(rows[0], dict):
        columns = list(dict.fromkeys(key for row in rows for key in row))
        rows = [[row.get(column) for column in columns] for row in rows]
    table = Table(
        *[escape(column) for column in columns or []], box=None, header_style="bold dim", pad_edge=False
    )
    for row in rows:
        table.add_row(*[Text(_text(cell), overflow="fold") for cell in row])
    console.print(table)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items())
    return ", ".join(_text(v) for v in value) if isinstance(value, list) else str(value)


def _bar(percent: float | None, width: int = 24) -> Text:
    """A bar, green while there is room."""
    if percent is None:
        return Text("?", style="dim")
    full = round(max(0.0, min(percent, 100.0)) / 100 * width)
    colour = "green" if percent < 75 else "yellow" if percent < 90 else "red"
    return Text.assemble(("█" * full, colour), ("░" * (width - full), "dim"), f" {percent:.0f} %")


def status(
    overview: dict[str, Any], changes: dict[str, Any], metrics: dict[str, Any], console: Console | None = None
) -> None:
    """The machine on one screen."""
    console = console or Console()
    load = overview.get("load") or {}
    memory = 100 * load["memory_used_gb"] / load["memory_total_gb"] if load.get("memory_total_gb") else None
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        Text("CPU", style="bold"),
        _bar(load.get("cpu_percent")),
        Text(f"load {load.get('load_average_1m', '?')}"),
    )
    grid.add_row(
        Text("Memory", style="bold"),
        _bar(memory),
        Text(f"{load.get('memory_used_gb', '?')} of {load.get('memory_total_gb', '?')} GiB"),
    )
    for disk in overview.get("disks") or []:
        left = f"{disk.get('available_gb')} GiB left"
        left += f", full in {disk['full_in']}" if disk.get("full_in") else ""
        grid.add_row(Text(disk["mount_point"], style="bold"), _bar(disk.get("use_percent")), Text(left))
    for series in (metrics.get("series") or [])[:1]:
        if series.get("chart"):
            grid.add_row(
                Text("24 h", style="bold"),
                Text(series["chart"], style="blue"),
                Text(f"mean {series['mean']} %, max {series['max']} %"),
            )
    parts: list[Any] = [grid]
    parts += [Text(f"! {problem}", style="red") for problem in overview.get("problems") or []]
    title = f"{escape(overview.get('host') or 'this machine')}  {escape(overview.get('os') or '')}"
    _panel(console, Group(*parts), f"{title}  up {overview.get('uptime', '?')}")
    _panel(console, _recent(overview, changes), "Changes, last 24 hours")
    for unseen in (overview.get("unobserved") or [])[:1]:
        more = overview.get("unobserved_more") or "see: watchman-mcp doctor"
        console.print(Text(f"{unseen['what']}: {unseen['why']}  ({more})", style="yellow"))


def _panel(console: Console, content: Any, title: str) -> None:
    console.print(Panel(content, title=title, title_align="left", border_style="blue"))


def _recent(overview: dict[str, Any], changes: dict[str, Any]) -> Any:
    packages = (
        ", ".join(f"{n} {manager}" for manager, n in (overview.get("packages") or {}).items()) or "none known"
    )
    rows: list[Any] = [Text(f"packages: {packages}", style="dim")]
    for item in changes.get("items") or []:
        line = Text(f"{item['ts'][5:16].replace('T', ' ')}  ", style="cyan")
        line.append(f"{item['type']:<18}", style="bold")
        line.append(f"{item.get('subject') or ''} {item.get('what') or ''}")
        rows.append(line)
    if len(rows) == 1:
        rows.append(Text("nothing changed", style="dim"))
    return Group(*rows)


def progress(areas: list[str], look: Callable[[str], str]) -> None:
    """Look at one area after the other behind a bar."""
    columns = (
        TextColumn("{task.description:12}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("looking", total=len(areas))
        for area in areas:
            bar.update(task, description=area)
            found = look(area)
            bar.console.print(Text(f"{area}: {found}"))
            bar.advance(task)
