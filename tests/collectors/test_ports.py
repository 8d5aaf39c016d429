"""What listens is told by a running machine only."""

from pathlib import Path

import pytest

from tests.collectors.test_cases import look_at
from watchman_mcp.collectors.ports import Address, Judge, Place, collect
from watchman_mcp.errors import Absent


def test_a_machine_that_is_only_files_has_no_ports(tmp_path: Path) -> None:
    with pytest.raises(Absent, match="read as files"):
        next(collect(look_at(tmp_path, "ports")))


@pytest.mark.parametrize(
    ("address", "namespace", "reach"),
    [
        ("127.0.0.53", None, "loopback"),
        ("::1", "box", "loopback"),
        ("192.0.2.1", "box", "unknown"),
        (None, None, None),
    ],
)
def test_of_another_namespace_only_the_loopback_is_judged(
    address: str | None, namespace: str | None, reach: str | None
) -> None:
    place = Place("ports", namespace, None, {})  # type: ignore[arg-type] # its sockets are not asked for

    verdict = Judge(look_at(Path("/"), "ports"))(place, Address("tcp", address, 80, None, None), {"ipv4"})

    assert (verdict and verdict.exposure) == reach
