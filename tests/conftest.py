"""Fixtures that many tests share."""

import pytest

from tests.rigs.fixtures import *  # noqa: F403 - the rigs' fixtures are found by name


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
