"""Every collector on the machines that the case files describe: texts in, graph out."""

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from watchman_mcp.collectors import Look, load
from watchman_mcp.errors import WatchmanError
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.schema import Edge, Label
from watchman_mcp.schema.core import Record
from watchman_mcp.settings import Settings

CASES = sorted(Path(__file__).parent.glob("*/*.json"))
MTIME = 1_767_225_600
"""All that a case lays out is of the beginning of 2026."""


def plant(root: Path, files: Mapping[str, str | None], links: Mapping[str, str] | None = None) -> None:
    """Write a machine's files: a lone surrogate is a byte that is not text, None a FIFO."""
    for path, text in files.items():
        place = root / path.lstrip("/")
        (place if path.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
        if text is None:
            os.mkfifo(place)
        elif not path.endswith("/"):
            place.write_bytes(text.encode("utf-8", "surrogateescape"))
    for path, target in (links or {}).items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
    for folder, _, names in os.walk(root, topdown=False):
        for name in [*names, "."]:
            os.utime(Path(folder, name), (MTIME, MTIME), follow_symlinks=False)


def look_at(
    root: Path, name: str, settings: Settings | None = None, marks: dict[str, object] | None = None
) -> Look:
    machine = Machine(Files(root), Commands(), root)
    return Look(machine, settings or Settings(), name, {} if marks is None else marks)


def plain(label: Label) -> dict[str, Any]:
    """What a node says, without what it does not."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in label.__dict__.items()
        if value is not None
    }


def graph(name: str, look: Look) -> dict[str, Any]:
    """What a collector brings, as the case files write it."""
    found: dict[str, list[Any]] = {"nodes": [], "edges": [], "records": []}
    (collector,) = (one for one in load() if one.name == name)
    try:
        for seen in collector.collect(look):
            if isinstance(seen, Record):
                assert seen.subject is not None
                event = plain(seen.event)
                assert event.pop("key").startswith("evt_")
                found["records"].append({**event, "acted_on": seen.subject.node_id})
            elif isinstance(seen, Edge):
                found["edges"].append(f"{seen.start} {seen.type.name} {seen.end}")
            else:
                found["nodes"].append({"label": type(seen).__name__, "scope": look.scope, **plain(seen)})
    except WatchmanError as error:
        return {"raises": type(error).__name__}
    unobserved = [one.what for one in look.unobserved]
    return {kind: rows for kind, rows in {**found, "unobserved": unobserved}.items() if rows}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.stem}")
def test_a_collector_reads_the_machine_of_its_case(case: Path, tmp_path: Path) -> None:
    told = json.loads(case.read_text())
    plant(tmp_path, told["files"], told.get("links"))
    settings = Settings.model_validate(told.get("settings", {}))

    found = graph(case.parent.name, look_at(tmp_path, case.parent.name, settings))

    assert found == told["graph"]
