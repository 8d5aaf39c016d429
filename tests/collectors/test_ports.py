"""What listens is told by a running machine only."""

from pathlib import Path

import pytest

from tests.collectors.test_cases import look_at
from watchman_mcp.collectors.ports import Address, collect, exposure
from watchman_mcp.errors import Absent


def test_a_machine_that_is_only_files_has_no_ports(tmp_path: Path) -> None:
    with pytest.raises(Absent, match="read as files"):
        next(collect(look_at(tmp_path, "ports")))


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        ("127.0.0.53", "loopback"),
        ("::1", "loopback"),
        ("::", "unknown"),
        ("192.0.2.1", "unknown"),
        (None, None),
    ],
)
def test_an_address_alone_tells_only_of_the_loopback(address: str | None, reach: str | None) -> None:
    assert exposure(Address("tcp", address, 80, None, None)) == reach
