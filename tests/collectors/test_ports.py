"""What listens is told by a running machine only."""

from pathlib import Path

import pytest

from tests.collectors.test_cases import look_at
from watchman_mcp.collectors.ports import collect
from watchman_mcp.collectors.ports.judge import Judge
from watchman_mcp.collectors.ports.places import Address, Place
from watchman_mcp.errors import Absent
from watchman_mcp.machine.containers import Containers
from watchman_mcp.machine.network_namespaces import Namespace


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
def test_of_a_namespace_that_could_not_be_read_only_the_loopback_is_judged(
    address: str | None, namespace: str | None, reach: str | None
) -> None:
    space = Namespace(7, namespace, "/run/netns/none", 0) if namespace else None
    place = Place("ports", space, None, {})  # type: ignore[arg-type] # its sockets are not asked for
    look = look_at(Path("/"), "ports")

    judge = Judge(look, [place], Containers({}, ()))
    verdict = judge.verdict(place, Address("tcp", address, 80, None, None), {"ipv4"})

    assert (verdict and verdict.exposure) == reach
