"""Makes docs/reference/ from the code: `python -m tests.reference`, or with --check says what is stale."""

import inspect
import sys
import typing
from pathlib import Path

from watchman_mcp import resources
from watchman_mcp.collectors import load as load_collectors
from watchman_mcp.resources import prompts
from watchman_mcp.schema import EDGE_TYPES, LABELS, EdgeType
from watchman_mcp.schema.base import scalar
from watchman_mcp.settings import Settings, schema_rows
from watchman_mcp.tools import load as load_tools
from watchman_mcp.tools.arguments import parameters

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
HEAD = "<!-- Made by `make docs`; edit the code instead. -->\n"


def graph() -> str:
    """Labels, properties and relationships."""
    lines = [
        "# The graph",
        "",
        "Every node has an `id` that begins with its label; every thing belongs to its host.",
        "",
    ]
    for name, label in LABELS.items():
        kind = (
            f"Samples of {', '.join(label.series) or 'the host'}."
            if label.series is not None
            else f"Identity: {', '.join(label.identity)}."
        )
        lines += [
            f"## {name}",
            "",
            f"{inspect.getdoc(label)} {kind}",
            "",
            "| Property | Type | Meaning |",
            "| --- | --- | --- |",
        ]
        for field_name, field in label.model_fields.items():
            found = scalar(field.annotation)
            assert found is not None
            kind = f"list of {found[0].__name__}" if found[1] else found[0].__name__
            notes = " Its change is no event." if field_name in label.volatile else ""
            lines.append(f"| `{field_name}` | {kind} | {field.description}{notes} |")
        lines.append("")
    lines += ["## Relationships", "", "| Name | From | To | Meaning |", "| --- | --- | --- | --- |"]
    for edge in EDGE_TYPES.values():
        ends = [
            ", ".join("any" if label.__name__ == "Label" else label.__name__ for label in side)
            for side in (edge.start, edge.end)
        ]
        lines.append(f"| `{edge.name}` | {ends[0]} | {ends[1]} | {edge.says} |")
    return "\n".join(lines)


def tools() -> str:
    """Tools with their arguments."""
    lines = ["# Tools", ""]
    for tool in load_tools():
        lines += [
            f"## {tool.name}",
            "",
            " ".join((inspect.getdoc(tool.function) or "").split()),
            "",
            f"Grade: {tool.grade}.",
            "",
        ]
        hints = typing.get_type_hints(tool.function, include_extras=True)
        rows = []
        for name, (kind, default) in parameters(tool.function).items():
            words = (
                ", ".join(typing.get_args(kind))
                if typing.get_origin(kind) is typing.Literal
                else kind.__name__
            )
            info = next(
                (
                    extra.description
                    for extra in getattr(hints[name], "__metadata__", ())
                    if getattr(extra, "description", None)
                ),
                "",
            )
            rows.append(f"| `{name}` | {words} | {default if default != '' else ''} | {info} |")
        lines += (
            ["| Argument | Values | Default | Meaning |", "| --- | --- | --- | --- |", *rows, ""]
            if rows
            else []
        )
    return "\n".join(lines)


def addresses() -> str:
    """Resources and prompts."""
    lines = ["# Resources and prompts", "", "| Address | Answers | Tool |", "| --- | --- | --- |"]
    lines += [f"| `{r.address}` | {r.says} | `{r.tool}` |" for r in resources.TABLE]
    lines += ["", "| Prompt | Arguments | What for |", "| --- | --- | --- |"]
    for prompt in prompts.ALL:
        arguments = ", ".join(f"`{name}`" for name in inspect.signature(prompt).parameters)
        lines.append(f"| `{prompt.__name__}` | {arguments} | {inspect.getdoc(prompt)} |")
    return "\n".join(lines)


def collectors() -> str:
    """Collectors: what they see, bring and watch."""
    lines = ["# Collectors", ""]
    for collector in load_collectors():
        module = inspect.getmodule(collector.collect)
        brings = ", ".join(f"`{e.name if isinstance(e, EdgeType) else e.__name__}`" for e in collector.emits)
        lines += [
            f"## {collector.name}",
            "",
            inspect.getdoc(module) or "",
            "",
            f"Brings {brings}; looks every {collector.every(Settings()):.0f} s by default.",
        ]
        if collector.watch:
            lines += [
                "",
                f"Looks at once when these change: {', '.join(f'`{path}`' for path in collector.watch)}.",
            ]
        lines.append("")
    return "\n".join(lines)


def settings() -> str:
    """Settings of config.toml."""
    lines = [
        "# Settings",
        "",
        "In `$WATCHMAN_CONFIG`, else `~/.config/watchman/config.toml`, else `/etc/watchman/config.toml`.",
        "",
    ]
    lines += ["| Key | Type | Default | Meaning |", "| --- | --- | --- | --- |"]
    lines += [f"| `{key}` | {kind} | `{default}` | {says} |" for key, kind, default, says in schema_rows()]
    return "\n".join(lines)


PAGES = {
    "graph": graph,
    "tools": tools,
    "resources": addresses,
    "collectors": collectors,
    "settings": settings,
}


def main() -> int:
    """Write the pages, or compare them."""
    stale = []
    for name, make in PAGES.items():
        path, text = FOLDER / f"{name}.md", HEAD + "\n" + make().rstrip() + "\n"
        if "--check" not in sys.argv:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(name)
    if stale:
        sys.stderr.write(f"docs/reference: {', '.join(stale)} out of date; run `make docs`\n")
    return len(stale) and 1


if __name__ == "__main__":
    sys.exit(main())
