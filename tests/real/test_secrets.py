"""Secrets that a machine's owner left in every place that Watchman reads come out nowhere, and are kept nowhere."""

import itertools
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.canaries import CANARIES, Canary
from tests.real.clients import Session
from tests.real.homes import Debian, Home
from watchman_mcp.resources import TABLE

pytestmark = pytest.mark.real
BEGIN = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
WORDS = [canary for canary in CANARIES if re.fullmatch(r"\S+", canary.text)]
"""Those that one word can hold."""
LINES = [canary for canary in CANARIES if "\n" not in canary.text.strip("\n")]
"""Those that one line can hold."""
FILES = [canary for canary in CANARIES if "/" not in canary.text and len(canary.text.encode()) < 200]
"""Those that a file's name can hold."""


def on_lines(text: str) -> str:
    """A text as the value of a field in Debian's format, its further lines begun with a space."""
    return text.strip("\n").replace("\n\n", "\n.\n").replace("\n", "\n ")


def plant_status(root: Path) -> None:
    """Packages with a secret in each field of theirs, and in their name."""
    stanzas = []
    for n, canary in enumerate(CANARIES):
        stanzas.append(("Package", f"in-description-{n}") + ("Description", on_lines(canary.text)))
        stanzas.append(
            ("Package", f"in-long-description-{n}") + ("Description", f"x\n {on_lines(canary.text)}")
        )
    for n, canary in enumerate(WORDS):
        stanzas.append(("Package", canary.text) + ("Description", "x"))
        stanzas += [
            ("Package", f"in-{field.lower()}-{n}") + (field, canary.text)
            for field in ("Version", "Architecture", "Source", "Depends", "Provides", "Installed-Size")
        ]
        stanzas.append(("Package", f"in-status-{n}") + ("Status", f"install ok {canary.text}"))
    usual = {"Status": "install ok installed", "Architecture": "amd64", "Version": "1.0", "Description": "x"}
    text = ""
    for name, package, field, value in stanzas:
        fields = {name: package, **usual, field: value}
        text += "".join(f"{key}: {held}\n" for key, held in fields.items()) + "\n"
    with (root / "var/lib/dpkg/status").open("a") as status:
        status.write(text)


def plant_logs(root: Path) -> None:
    """Lines of dpkg's log and blocks of apt's history with a secret in each place."""
    at = BEGIN
    history = ""
    for n, canary in enumerate(CANARIES):
        at += timedelta(seconds=2)
        version = canary.text if canary in WORDS and not set(canary.text) & set("(),") else "1.0"
        history += (
            f"\nStart-Date: {at:%Y-%m-%d  %H:%M:%S}\nCommandline: apt-get install -y one-{n} {canary.text}\n"
            f"Requested-By: {canary.text} (1000)\nInstall: one-{n}:amd64 ({version}, automatic)\n"
            f"Error: {canary.text}\nEnd-Date: {at:%Y-%m-%d  %H:%M:%S}\n"
        )
    (root / "var/log/apt/history.log").write_text(history)
    log = ""
    for n, canary in enumerate(CANARIES):
        at += timedelta(seconds=2)
        who, version = (canary.text, canary.text) if canary in WORDS else (f"two-{n}", "1.0")
        for name, held in ((f"{who}:amd64", "1.0"), (f"three-{n}:amd64", version)):
            steps = (
                f"install {name} <none> {held}",
                f"configure {name} {held} <none>",
                f"status installed {name} {held}",
            )
            log += "".join(f"{at:%Y-%m-%d %H:%M:%S} {step}\n" for step in steps)
        log += f"{at:%Y-%m-%d %H:%M:%S} {canary.text}\n{canary.text}\n"
    (root / "var/log/dpkg.log").write_text(log)


def plant_python(root: Path) -> None:
    """Distributions with a secret in each field and name, and environments that are named so."""
    site = root / "opt/app/lib/python3.11/site-packages"

    def distribution(place: Path, named: str, installer: str = "pip", **fields: str) -> None:
        inside = place / f"{named}.dist-info"
        inside.mkdir(parents=True)
        held = {"Metadata-Version": "2.1", "Name": "x", "Version": "1.0", **fields}
        (inside / "METADATA").write_text("".join(f"{key}: {value}\n" for key, value in held.items()))
        (inside / "INSTALLER").write_text(installer)

    for n, canary in enumerate(CANARIES):
        folded = canary.text.strip("\n").replace("\n", "\n ")
        distribution(site, f"summary_{n}-1.0", Name=f"summary-{n}", Summary=folded)
        distribution(site, f"name_{n}-1.0", Name=folded)
        distribution(site, f"version_{n}-1.0", Name=f"version-{n}", Version=folded)
        distribution(
            site, f"needs_{n}-1.0", installer=canary.text, **{"Name": f"needs-{n}", "Requires-Dist": folded}
        )
    for canary in FILES:
        distribution(root / "opt" / canary.text / "lib/python3.11/site-packages", "inside-1.0", Name="inside")
        unreadable = site / f"{canary.text}-1.0.dist-info"
        unreadable.mkdir()
        (unreadable / "METADATA").write_text("Name: \0\n")


def say_who_it_is(root: Path, session: Session) -> None:
    """Give the host each secret as its name and system, one after the other, and look each time."""
    for canary in LINES:
        text = canary.text.strip("\n")
        (root / "etc/hostname").write_text(f"{text}\n")
        (root / "etc/timezone").write_text(f"{text}\n")
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        (root / "etc/os-release").write_text(
            f'PRETTY_NAME="{quoted}"\nID="{quoted}"\nVERSION_ID="{quoted}"\n'
        )
        session.call("scan", area="host")


def everything(session: Session) -> Iterator[Any]:
    """What every tool and every resource answers, to the last page."""
    yield session.request("tools/list")
    yield session.request("resources/list")
    for tool in ("overview", "doctor", "system_metrics", "scan"):
        yield session.call(tool)
    names = set()
    for view in ("installed", "history"):
        for item in session.pages(
            "query_packages", view=view, limit=500, since="1000d" if view == "history" else ""
        ):
            yield item
            names |= {one["name"] for one in item.get("changes", [item])}
    yield session.pages("what_changed", since="1000d", limit=500)
    yield session.call("what_changed", at="1h")
    yield session.call("what_changed", since="1000d", net=True)
    for table, columns in session.call("query_graph")["tables"].items():
        for column in columns.split(", "):
            for begin in itertools.count(0, 100):
                query = f'SELECT DISTINCT "{column}" FROM "{table}" LIMIT 100 OFFSET {begin}'
                answer = session.call("query_graph", query=query, limit=100)
                yield answer
                if not answer["items"]:
                    break
    for name in sorted(names):
        yield session.call("query_packages", name=name)
        yield session.call("what_changed", subject=name, since="1000d")
    for resource in TABLE:
        if not resource.variable:
            yield session.request("resources/read", uri=resource.address)


def leaks(text: str) -> list[Canary]:
    """The secrets that are in a text, in whatever case."""
    text = text.lower()
    return [canary for canary in CANARIES if canary.secret.lower() in text]


def test_no_planted_secret_is_answered_logged_or_kept(tmp_path: Path) -> None:
    debian = Debian(tmp_path / "root")
    for plant in (plant_status, plant_logs, plant_python):
        plant(debian.root)
    home = Home(tmp_path / "home", debian.settings)
    try:
        session = home.client()
        say_who_it_is(debian.root, session)
        answers = list(everything(session))
        for canary in CANARIES:  # what a client says itself is not written down either
            session.request("tools/call", name="query_packages", arguments={"name": canary.text})
            session.request("tools/call", name=canary.text, arguments={canary.text: canary.text})
        home.stop()
        session.finish()
    finally:
        home.finish()

    kept = {path.name: path.read_bytes() for path in home.state.iterdir() if path.is_file()}
    found = {name: leaks(content.decode("latin-1")) for name, content in kept.items()}
    found["answers"] = leaks(json.dumps(answers, ensure_ascii=False))
    found["stderr"] = leaks(session.errors.decode())
    counts = dict(
        home.rows("SELECT 'Software', count(*) FROM Software UNION SELECT 'Event', count(*) FROM Event")
    )
    print(f"\n{len(CANARIES)} secrets, {len(answers)} answers, {counts}")
    assert {name: [canary.kind for canary in some] for name, some in found.items() if some} == {}
    assert counts["Software"] > 8 * len(WORDS)
