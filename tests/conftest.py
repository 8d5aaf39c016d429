"""Fixtures that many tests share."""

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.rigs.fixtures import *  # noqa: F403 - the rigs' fixtures are found by name
from tests.story import Story
from watchman_mcp.store.sqlite import Store

# a busy machine is no fault
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    opened = Store(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def story(store: Store) -> Story:
    """A machine that was looked at an hour ago, and nothing else."""
    told = Story(store)
    told.host(60)
    return told
