"""Network namespaces of a test's own, wired as it likes; the host's network is never touched."""

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest


class Namespace:
    """One network namespace with a name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def words(self, *argv: str) -> list[str]:
        """The command line that runs argv inside."""
        return ["ip", "netns", "exec", self.name, *argv]

    def run(self, *argv: str, check: bool = True, input: str = "") -> subprocess.CompletedProcess[str]:
        """Run argv inside to its end."""
        done = subprocess.run(
            self.words(*argv), input=input, capture_output=True, text=True, timeout=60, check=False
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{argv} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done

    def ip(self, *lines: str) -> None:
        """Run lines of `ip`, one after the other."""
        self.run("ip", "-batch", "-", input="\n".join(lines) + "\n")

    def told(self, *words: str) -> Any:
        """What `ip -j` says inside."""
        return json.loads(self.run("ip", "-j", *words).stdout or "[]")


@contextmanager
def namespaces(count: int) -> Iterator[Sequence[Namespace]]:
    """So many new namespaces, each with its loopback up; they end with the context.

    Skips the test where this user may not make any.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        message = "needs root and iproute2, for network namespaces"
        if os.environ.get("WATCHMAN_TEST_RIGS") == "all":
            pytest.fail(message)
        pytest.skip(message)
    made = [Namespace(f"rig-{uuid.uuid4().hex[:8]}") for _ in range(count)]
    try:
        for one in made:
            subprocess.run(["ip", "netns", "add", one.name], check=True, timeout=30)
            one.ip("link set lo up")
        yield made
    finally:
        for one in made:
            subprocess.run(["ip", "netns", "delete", one.name], check=False, capture_output=True, timeout=30)
