"""Ports of containers of a real engine: their names, what is published, and who gets through."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.rigs.docker import AWAY, AWAY6, HERE, HERE6, NEAR, PLAIN, Engine, cable, engine, load, reached
from tests.rigs.looking import look
from tests.rigs.sockets import scene

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine as it comes, with a container that publishes a port and one that does not."""
    with engine(tmp_path_factory.mktemp("docker")) as one:
        one.start()
        load(one)
        one.web("web", 80, "-p", "8099:80", "-p", "127.0.0.1:8100:80")
        one.web("inner", 8080)
        yield one


def endpoints(found: dict[str, Any]) -> dict[tuple[str | None, str, int], dict[str, Any]]:
    """Endpoints by namespace, address and port."""
    rows = [row for row in found["NetworkEndpoint"] if row["protocol"] != "unix"]
    return {(row["namespace"], row["address"], row["port"]): row for row in rows}


def test_containers_and_their_namespaces_are_called_by_name_and_stay_so(made: Engine) -> None:
    first = made.scene.look()
    again = endpoints(first)["container/inner", "::", 8080]
    made.docker("restart", "-t", "0", "inner")
    second = made.scene.look(first["marks"])

    assert set(endpoints(first)) == set(endpoints(second))
    later = endpoints(second)["container/inner", "::", 8080]
    assert (again["container"], later["container"]) == ("inner", "inner")
    assert again["pid"] != later["pid"]
    assert later["scope"] == "ports:netns/container/inner"
    seen = look(made.scene.command(), "network")
    spaces = {node["namespace"] for node in seen["nodes"] if node["label"] == "NetworkInterface"}
    assert spaces == {None, "away", "container/inner", "container/web"}


def test_what_is_published_is_told_at_both_ends_and_judged_as_connections_are(made: Engine) -> None:
    found = endpoints(made.scene.look())
    address = made.address("web")

    proxy = found[None, "0.0.0.0", 8099]
    assert (proxy["process"], proxy["container"], proxy["published_to"]) == (
        "docker-proxy", "web", f"{address}:80",
    )  # fmt: skip
    assert found[None, "::", 8099]["container"] == "web"
    web = found["container/web", "::", 80]
    assert web["published_as"] == ["0.0.0.0:8099", "127.0.0.1:8100", "[::]:8099"]
    assert web["exposure"] == proxy["exposure"] == "internet"
    assert reached(made.scene, [(AWAY, HERE, 8099), (AWAY6, HERE6, 8099)]) == [True, True]
    inner = found["container/inner", "::", 8080]
    assert (inner["published_as"], inner["exposure"]) == (None, "lan")
    assert reached(
        made.scene, [(AWAY, made.address("inner"), 8080), (NEAR, made.address("inner"), 8080)]
    ) == [
        False,
        False,
    ]


def test_who_is_shut_out_before_the_containers_reaches_them_only_as_docker_s_own_process_lets_him(
    made: Engine,
) -> None:
    rule = ("DOCKER-USER", "-i", "eth0", "-j", "DROP")
    made.scene.run("iptables", "-I", *rule)
    try:
        shut = endpoints(made.scene.look())
        tried = reached(made.scene, [(AWAY, HERE, 8099), (NEAR, HERE, 8099), (AWAY6, HERE6, 8099)])
    finally:
        made.scene.run("iptables", "-D", *rule)

    # IPv6 does not meet the rule: docker-proxy takes it and connects to the container itself
    assert tried == [False, False, True]
    assert shut[None, "0.0.0.0", 8099]["exposure"] == "lan"  # of the bridge
    assert shut[None, "::", 8099]["exposure"] == "internet"
    web = shut["container/web", "::", 80]
    assert web["exposure"] == "internet"
    assert [text.partition(",")[0] for text in web["decided_by"] if "open to" in text] == ["eth0"]


def test_a_port_that_only_rules_publish_is_told_and_judged_without_docker_s_process(made: Engine) -> None:
    made.stop()
    made.start("--userland-proxy=false")
    made.docker("start", "web", "inner")
    target = f"{made.address('inner')}:8080"
    by_hand = ("-p", "tcp", "--dport", "8200", "-i", "eth0", "-j", "DNAT", "--to-destination", target)
    made.scene.run("iptables", "-t", "nat", "-I", "PREROUTING", *by_hand)
    made.scene.run(
        "iptables", "-I", "DOCKER-USER", "-p", "tcp", "--dport", "8080", "-s", NEAR, "-j", "ACCEPT"
    )

    told = endpoints(made.scene.look())
    tried = reached(made.scene, [(one, HERE, port) for port in (8099, 8200) for one in (AWAY, NEAR)])

    kept, silent = told[None, "0.0.0.0", 8099], told[None, "0.0.0.0", 8200]
    assert (kept["container"], kept["published_to"]) == ("web", f"{made.address('web')}:80")
    assert (silent["process"], silent["container"], silent["published_to"]) == (None, "inner", target)
    web, inner = told["container/web", "::", 80], told["container/inner", "::", 8080]
    assert inner["published_as"] == ["0.0.0.0:8200"]
    assert (kept["exposure"], web["exposure"]) == ("internet", "internet")
    assert (silent["exposure"], inner["exposure"]) == ("lan", "lan")
    assert tried == [True, True, False, True]


def test_a_plain_namespace_is_judged_by_its_own_firewall_and_by_what_is_handed_on_to_it() -> None:
    inner = (
        "table inet f { chain in { type filter hook input priority 0;"
        " tcp dport 81 ip saddr 10.0.0.0/8 accept; tcp dport { 81, 82 } drop; }; }"
    )
    outer = (
        "table inet f { chain on { type filter hook forward priority 0; oifname p0 tcp dport 83 drop; }; }"
    )
    code = "held = [create_server(('', port)) for port in range(80, 84)]"
    plain = ("ip", "netns", "exec", "plain")
    with scene() as stage:
        cable(stage)
        stage.run("ip", "netns", "add", "plain")
        stage.run("ip", "link", "add", "p0", "type", "veth", "peer", "name", "eth0", "netns", "plain")
        for where, name, address in (((), "p0", "198.51.101.1/30"), (plain, "eth0", f"{PLAIN}/30")):
            stage.run(*where, "ip", "link", "set", name, "up")
            stage.run(*where, "ip", "address", "add", address, "dev", name)
        stage.run(*plain, "ip", "route", "add", "default", "via", "198.51.101.1")
        stage.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        stage.run(*plain, "nft", inner)
        stage.run("nft", outer)
        rules = look(stage.command(), "firewall")
        with stage.playing(code, *plain):
            found = endpoints(stage.look())
            tries = [(source, PLAIN, port) for port in range(80, 84) for source in (AWAY, NEAR)]
            tried = reached(stage, tries)
            stage.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
            closed = endpoints(stage.look())
            after = reached(stage, tries)

    verdicts = [found["plain", "0.0.0.0", port]["exposure"] for port in range(80, 84)]
    assert verdicts == ["internet", "lan", "blocked", "blocked"]
    assert tried == [True, True, False, True, False, False, False, False]
    texts = [(one["namespace"], one["text"]) for one in rules["nodes"] if one["label"] == "FirewallRule"]
    assert texts == [
        (None, 'oifname "p0" tcp dport 83 drop'),
        ("plain", "tcp dport 81 ip saddr 10.0.0.0/8 accept"),
        ("plain", "tcp dport { 81, 82 } drop"),
    ]
    nodes = {edge[2] for edge in rules["edges"] if edge[1] == "HOLDS"}
    assert len(nodes) == 3 and len([path for path in nodes if path.startswith("FirewallRule/plain/")]) == 2
    assert {closed["plain", "0.0.0.0", port]["exposure"] for port in range(80, 84)} == {"blocked"}
    assert after == [False] * 8
