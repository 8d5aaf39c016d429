"""The project as a user gets it: a wheel of this checkout, installed inside the machine without a network."""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.rigs import cache
from tests.rigs.machine import Machine

CHECKOUT = Path(__file__).resolve().parents[2]
HOME = "/opt/watchman"
WHEELS = "/opt/wheels"
PROGRAM = f"{HOME}/bin/watchman-mcp"
PYTHON_INSIDE = "3.11"


def install_watchman(machine: Machine) -> str:
    """Install the checkout into /opt/watchman of the machine; the path of its program there."""
    machine.copy_in(dependency_wheels(), WHEELS)
    with tempfile.TemporaryDirectory() as scratch:
        _uv("build", "--wheel", "--quiet", "--out-dir", scratch)
        [wheel] = Path(scratch).glob("*.whl")
        machine.copy_in(wheel, f"{WHEELS}/{wheel.name}")
    machine.run(["python3", "-m", "venv", HOME])
    pip = [f"{HOME}/bin/pip", "install", "--quiet", "--disable-pip-version-check"]
    machine.run([*pip, "--no-index", f"--find-links={WHEELS}", f"{WHEELS}/{wheel.name}"], timeout=180)
    return PROGRAM


def dependency_wheels() -> Path:
    """The locked dependencies as wheels for the machine's Python, fetched when the lock file changes."""
    return cache.once("wheels", f"{PYTHON_INSIDE} {(CHECKOUT / 'uv.lock').read_text()}", _fetch_wheels)


def _fetch_wheels(into: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        locked, pinned = Path(scratch, "locked.txt"), Path(scratch, "pinned.txt")
        _uv("export", "--locked", "--no-dev", "--no-emit-project", "--quiet", "--output-file", str(locked))
        # pip reads markers as the Python it runs on, which may be newer than the one inside: uv settles them
        _uv(
            *("pip", "compile", "--quiet", "--generate-hashes", "--python-version", PYTHON_INSIDE),
            *("--output-file", str(pinned), str(locked)),
        )
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        target = ["--no-deps", "--only-binary=:all:", "--python-version", PYTHON_INSIDE]
        subprocess.run(
            [*download, *target, "--dest", into, "--requirement", pinned],
            cwd=CHECKOUT, check=True, timeout=300,
        )  # fmt: skip


def _uv(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "uv", *words], cwd=CHECKOUT, check=True, timeout=300)
