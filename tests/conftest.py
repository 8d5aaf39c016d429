"""Fixtures that many tests share."""

import hypothesis
import pytest

from tests.rigs.fixtures import *  # noqa: F403 - the rigs' fixtures are found by name

# a busy machine is no fault
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
