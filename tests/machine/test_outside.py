"""What is looked up and believed of others: names, addresses, answers of any shape."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from watchman_mcp.machine.external_address import _own, told
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.lookup import addresses, ask_dns
from watchman_mcp.settings import Network


@pytest.mark.parametrize(
    ("text", "family", "own"),
    [
        ("192.0.2.1\n", "ipv4", "192.0.2.1"),
        ("2001:DB8:0::1", "ipv6", "2001:db8::1"),
        ("192.0.2.1", "ipv6", None),
        ("2001:db8::1", "ipv4", None),
        ("127.0.0.1", "ipv4", None),
        ("0.0.0.0", "ipv4", None),
        ("224.0.0.1", "ipv4", None),
        ("fe80::1%eth0", "ipv6", None),
        ("2001:db8::1%eth0", "ipv6", None),
        ("<html>", "ipv4", None),
        ("", "ipv4", None),
    ],
)
def test_only_an_address_that_may_be_ones_own_is_believed(text: str, family: str, own: str | None) -> None:
    assert _own(text, family) == own


def test_a_name_of_the_hosts_file_is_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hosts").write_bytes(
        b"# 192.0.2.9 box\nevil.example box\n\xff:: box\n192.0.2.1 Box alias # x\n2001:db8::1 box\n\xff\n"
    )
    files = Files(tmp_path)

    assert addresses(files, "box", "ipv4") == ["192.0.2.1"]
    assert addresses(files, "BOX", "ipv6") == ["2001:db8::1"]
    assert addresses(files, "192.0.2.7", "ipv4") == ["192.0.2.7"]
    assert addresses(files, "192.0.2.7", "ipv6") == []
    assert addresses(files, "other.invalid", "ipv4") == []  # there is no resolv.conf


def answered(reply: bytes) -> list[str]:
    """What is made of one odd answer of a server, and of a true one that says 192.0.2.1 after it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)

        def serve() -> None:
            wire, sender = sock.recvfrom(4096)
            sock.sendto(wire[:2] + reply, sender)
            answer = dns.message.make_response(dns.message.from_wire(wire))
            answer.answer.append(dns.rrset.from_text("box.example.", 0, "IN", "A", "192.0.2.1"))
            sock.sendto(answer.to_wire(), sender)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        found = ask_dns([("127.0.0.1", sock.getsockname()[1])], "box.example.", "A", seconds=5)
        thread.join(10)
    return found


@given(st.binary(max_size=200))
def test_no_bytes_of_a_server_are_a_fault_or_an_answer(noise: bytes) -> None:
    assert answered(noise) == ["192.0.2.1"]


@given(st.text(max_size=60))
def test_no_source_that_the_settings_take_is_a_fault(text: str) -> None:
    for source in (f"http://{text}", f"dns:{text}@127.0.0.1", f"https://[{text}/"):
        try:
            Network.model_validate({"external_ip_sources": [source]})
        except ValidationError:
            continue
        assert told(Files(Path("/nonexistent")), "ipv6", source) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"external_ip_sources": ["dns:a.example"]},
        {"external_ip_sources": ["dns:a.example/MX@192.0.2.1"]},
        {"external_ip_sources": ["https://joe:secret@example.com/"]},
        {"external_ip_sources": ["ftp://example.com/"]},
        {"external_ip_interval": 1},
        {"quality_targets": ["-f"]},
        {"quality_targets": ["a b"]},
        {"quality_targets": ["a"] * 17},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Network.model_validate(settings)


def test_the_sources_that_come_with_it_are_accepted_as_they_are() -> None:
    defaults = Network().external_ip_sources

    assert Network.model_validate({"external_ip_sources": list(defaults)}).external_ip_sources == defaults
    assert len(defaults) >= 3
