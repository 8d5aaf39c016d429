"""What a module may weigh: its length, what its import does, and the pages made from it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "watchman_mcp"
MODULE, FUNCTION = 300, 50
LONGER: dict[str, int] = {}
"""Modules that are longer than they should be, and their length: no number may grow, and no line be added."""
LIGHT = ("asyncio", "anyio", "mcp", "pydantic", "psutil", "rich", "watchfiles")
"""What a client's process must not load: it is started for each client and lives as long."""

modules = pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)


@modules
def test_a_module_is_no_longer_than_a_reader_s_patience(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())

    assert lines <= LONGER.get(str(path.relative_to(PACKAGE)), MODULE)


def test_a_module_that_became_short_enough_is_not_excused_any_more() -> None:
    lines = {name: len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) for name in LONGER}

    assert {name: count for name, count in lines.items() if count <= MODULE} == {}


@modules
def test_a_function_is_no_longer_than_a_screen(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]

    long = {f.name: count for f in functions if (count := (f.end_lineno or 0) - f.lineno + 1) > FUNCTION}

    assert long == {}


def python(code: str, home: Path) -> str:
    """What a fresh interpreter prints when it runs this; it writes nothing else."""
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=home, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_importing_any_module_changes_nothing(tmp_path: Path) -> None:
    printed = python(
        "import logging, os, pkgutil, signal, sys, threading, importlib\n"
        "import anyio, mcp.server, pydantic, psutil, rich, watchfiles\n"
        "def state():\n"
        "    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]\n"
        "    umask = os.umask(0o22)\n"
        "    os.umask(umask)\n"
        "    return (dict(os.environ), os.getcwd(), umask, handlers, list(logging.root.handlers),\n"
        "            threading.active_count(), sorted(os.listdir('/proc/self/fd')), sys.excepthook)\n"
        "before = state()\n"
        "import watchman_mcp\n"
        "found = [m.name for m in pkgutil.walk_packages(watchman_mcp.__path__, 'watchman_mcp.')]\n"
        "for name in found:\n"
        "    importlib.import_module(name)\n"
        "after = state()\n"
        "assert before == after, [pair for pair in zip(before, after) if pair[0] != pair[1]]\n"
        "print(len(found))\n",
        tmp_path,
    )

    assert int(printed) > 40
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["cli", "commands", "bridge"])
def test_what_a_client_launches_loads_little(module: str, tmp_path: Path) -> None:
    printed = python(
        f"import sys, watchman_mcp.{module}\nprint(*sorted(m for m in {LIGHT!r} if m in sys.modules))",
        tmp_path,
    )

    assert printed.split() == []


def test_the_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.reference", "--check"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=PACKAGE.parent,
    )

    assert (done.returncode, done.stderr) == (0, "")
