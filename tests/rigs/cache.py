"""What takes long to fetch is fetched once and survives between runs; a part that cannot be had says so."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest


def missing(part: str, how: str) -> NoReturn:
    """Skip the test that needs this part, or fail it where WATCHMAN_TEST_RIGS=all promises every part."""
    message = f"{part} is missing; {how}"
    if os.environ.get("WATCHMAN_TEST_RIGS") == "all":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def need_programs(part: str, *programs: str, how: str) -> None:
    """Call `missing` unless every one of these programs is on the search path."""
    absent = [program for program in programs if shutil.which(program) is None]
    if absent:
        missing(f"{part} ({', '.join(absent)})", how)


def directory() -> Path:
    """The directory that keeps what was fetched; WATCHMAN_RIG_CACHE moves it."""
    path = Path(os.environ.get("WATCHMAN_RIG_CACHE", "/var/cache/watchman-rigs"))
    try:
        path.mkdir(parents=True, exist_ok=True)
    except PermissionError:
        missing(f"a writable {path}", "run as root or name another directory in WATCHMAN_RIG_CACHE")
    return path


def once(name: str, recipe: str, make: Callable[[Path], None]) -> Path:
    """The cached directory `name-HASH`, made by `make` if no earlier run made it from the same recipe.

    Runs that start together wait for one another, and a run that dies leaves nothing under the final name.
    """
    final = directory() / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    with (directory() / f".{final.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.is_dir():
            partial = final.with_name(f".{final.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            make(partial)
            partial.rename(final)
    return final
