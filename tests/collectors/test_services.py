"""A unit that cannot be read costs only what its text would tell."""

from pathlib import Path

from tests.collectors.test_cases import look_at, plant
from watchman_mcp.collectors import services

UNITS = "/etc/systemd/system"


def test_a_unit_that_is_too_long_is_there_and_said(tmp_path: Path) -> None:
    plant(tmp_path, {f"{UNITS}/big.service": "x" * (services.UNIT_CAP + 1), f"{UNITS}/pipe.service": None})
    look = look_at(tmp_path, "services")

    found = [(one.name, one.enabled) for one in services.collect(look)]

    assert found == [("big", None)]
    assert [one.what for one in look.unobserved] == [f"{UNITS}/big.service"]
