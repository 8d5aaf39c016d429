import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_PREAMBLE = """
import os, sys
from pathlib import Path
from watchman_mcp.errors import Absent, Broken, Denied
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.logs import read_log
os.chdir(sys.argv[1])
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
def attempt(action):
    try:
        return action()
    except (Absent, Broken, Denied) as error:
        return f"{type(error).__name__}: {error}"
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def as_nobody() -> Callable[[Path, str], str]:
    """Runs statements as nobody, with the given directory as the current one; returns what they print."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")

    def run(root: Path, statements: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", _PREAMBLE + statements, str(root)],
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
