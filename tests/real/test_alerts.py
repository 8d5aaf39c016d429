"""Alerts of a real daemon, from a file that changes to what clients are told, with a crash between."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.clients import Session
from tests.real.homes import Debian, Home
from tests.rigs.clients import RIG, until

pytestmark = pytest.mark.real
RESOLVING = (sys.executable, "-I", RIG, "serve", "resolving")
URI = "watchman://alerts"


@pytest.fixture
def debian(tmp_path: Path) -> Debian:
    made = Debian(tmp_path / "root")
    ask_server(made, "192.0.2.53")
    return made


@pytest.fixture
def home(tmp_path: Path, debian: Debian) -> Iterator[Home]:
    one = Home(tmp_path / "home", debian.settings)
    yield one
    one.finish()


def ask_server(debian: Debian, ip: str) -> None:
    """Another name server, as whoever writes the file does it: by a new file of the old name."""
    (debian.root / "etc/resolv.conf.new").write_text(f"nameserver {ip}\n")
    (debian.root / "etc/resolv.conf.new").rename(debian.root / "etc/resolv.conf")


def heard(client: Session) -> dict[str, Any]:
    found: dict[str, Any] = client.wait(
        lambda line: line.get("method") == "notifications/resources/updated" and line["params"]["uri"] == URI
    )
    return found


def test_a_file_that_changes_becomes_an_alert_that_subscribers_hear_of_and_that_outlives_a_crash(
    home: Home, debian: Debian
) -> None:
    home.serve(program=RESOLVING)
    client = home.client()
    # a change is one only against a look before it, and counts from the first judgement on
    client.call("scan", area="dns")
    until(lambda: home.rows("SELECT 1 FROM _collector WHERE name = 'watchman:alerts'"))
    assert "alerts" not in client.call("overview")
    client.request("resources/subscribe", uri=URI)

    ask_server(debian, "198.51.100.1")

    heard(client)
    (alert,) = client.call("overview")["alerts"]
    assert alert["message"].startswith("The name servers that this machine asks changed")
    (line,) = client.call("what_changed", kind="alert")["items"]
    assert (line["type"], line["alert"]) == ("alert_opened", alert["id"])
    causes = client.call("what_changed", before=alert["id"])["items"]
    assert {one["type"] for one in causes if "concerns" in one["lead"]} == {"dns_appeared", "dns_vanished"}

    home.kill()
    home.serve(program=RESOLVING)
    client = home.client()
    assert client.call("overview")["alerts"] == [alert]
    ask_server(debian, "198.51.100.2")

    def counted() -> list[dict[str, Any]]:
        return [one for one in client.call("overview")["alerts"] if one["count"] > alert["count"]]

    (grown,) = until(counted)
    assert grown["id"] == alert["id"]
    assert home.rows("SELECT count(*) FROM Alert") == [(1,)]
