"""What the page about the fleet gives to people works as it stands there."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from tests.fleet import followed, new_host, settings_of
from tests.rigs import neo4j as rig
from tests.rigs.neo4j import Server
from tests.story import Story, package
from watchman_mcp.settings import Neo4j, load
from watchman_mcp.store.sqlite import Store

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/fleet.md").read_text(encoding="utf-8")
QUESTIONS = re.findall(r"```cypher\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def fleet(neo4j_server: Server, tmp_path: Path) -> Server:
    """A server with two machines: web1 has docker, an older openssl, a new kernel and a full disk."""
    rig.wipe(neo4j_server)
    for name, version in (("web1", "3.0.14-1"), ("web2", "3.0.15-1")):
        (tmp_path / name).mkdir()
        store = Store(tmp_path / name)
        story = Story(store)
        story.host(20, machine=new_host(), name=name, boot_time=story.ago(60) - timedelta(days=3))
        there = [package("openssl", version), package("libssl3"), package("linux-image-6.1", "6.1.1")]
        denied = ["apt: /var/log/apt/history.log may not be read"]
        story.look(15, there[1:], unobserved=denied)
        if name == "web1":
            there.append(package("docker-ce", "24.0.7"))
        records = [
            story.event("package_install", one.key, 10, one.version or "", command="apt-get upgrade")
            for one in [*there[2:], there[0]]
        ]
        story.look(5, there, records=records, needs=[("openssl", "libssl3")], unobserved=denied)
        story.sample(1, disks={"/": (95.0, 5.0) if name == "web1" else (5.0, 95.0)})
        with followed(store, settings_of(neo4j_server)) as follower:
            follower.settle()
        store.close()
    return neo4j_server


@pytest.mark.real
def test_every_question_of_the_page_finds_what_it_asks_for(fleet: Server) -> None:
    *asked, taking_out = QUESTIONS
    with fleet.driver() as driver, driver.session() as session:
        found = [[dict(row) for row in session.run(question)] for question in asked]
        session.run(taking_out.replace("old-machine", "web1")).consume()
        left = session.run("MATCH (h:Host)<-[:ON_HOST]-() RETURN DISTINCT h.name").value()

    assert [len(rows) for rows in found] == [2, 1, 2, 5, 2, 2, 1, 1, 2, 2]
    assert {row["h.name"] for row in found[0]} == {"web1", "web2"}
    assert found[1][0]["h.name"] == "web1" and found[1][0]["e.version"] == "24.0.7"
    assert {(row["s.version"], row["machines"]) for row in found[2]} == {("3.0.14-1", 1), ("3.0.15-1", 1)}
    assert found[5][0]["some"] == ["openssl"]
    assert found[6][0]["a.key"] == "docker-ce"
    assert found[7][0] == {"h.name": "web1", "disk": "/", "used": 95.0}
    assert left == ["web2"]


@pytest.mark.real
def test_the_designs_patterns_match_what_is_kept(fleet: Server) -> None:
    query = """
        MATCH (e:Event {type: "package_install", package_name: "docker-ce", version: "24.0.7", source: "apt"})
              -[:ACTED_ON]->(:Software {key: "docker-ce"})
        WHERE e.ts < datetime() RETURN count(*)"""
    with fleet.driver() as driver:
        assert driver.execute_query(query).records[0].value() == 1
        sampled = "MATCH (m:SystemMetrics)-[:ON_HOST]->(:Host) WHERE m.load_average_1m >= 0 RETURN count(*)"
        assert driver.execute_query(sampled).records[0].value() == 2


def test_the_settings_of_the_page_and_of_the_compose_file_are_settings(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)[1])
    compose = (ROOT / "deploy/compose.yaml").read_text(encoding="utf-8")
    variables = dict(re.findall(r"(WATCHMAN_\w+): (.+)", compose))

    page, composed = load(str(config)), load("", variables)

    assert page.neo4j == Neo4j(
        uri="neo4j+s://graph.example.org", password_file="~/.config/watchman/neo4j-password"
    )
    assert (composed.host.root, composed.neo4j.uri) == ("/host", "bolt://neo4j:7687")
    assert composed.neo4j.password_file == "/run/secrets/neo4j_password"
